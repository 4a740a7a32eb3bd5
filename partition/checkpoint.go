package partition

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tidemill/tidemill/wal"
)

const (
	// putAttempts is how often the same bytes are put under the same key while the outcome is unknown; then the checkpoint starts over.
	putAttempts = 5
	// retryAfter is the pause after a failed checkpoint; it doubles up to the interval of checkpoints. Nothing is lost meanwhile: only
	// the log grows.
	retryAfter = 2 * time.Second
	// expireEvery is how often producers are expired (P8).
	expireEvery = 10 * time.Minute
)

// dirtyList holds the logs whose manifest is behind.
type dirtyList struct {
	mu   sync.Mutex
	logs []*Log
	// broken is why trim may not rise any more: a committed chunk is in no log.
	broken error
}

func (d *dirtyList) add(logs []*Log, broken error) {
	if len(logs) == 0 && broken == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.logs = append(d.logs, logs...)
	if broken != nil {
		d.broken = broken
	}
}

// take empties the list. The logs it returns get on it again at their next commit.
func (d *dirtyList) take() ([]*Log, error) {
	d.mu.Lock()
	logs, broken := d.logs, d.broken
	d.logs = nil
	d.mu.Unlock()
	for _, l := range logs {
		l.mu.Lock()
		l.dirty = false
		l.mu.Unlock()
	}
	return logs, broken
}

// putBack returns logs whose manifests were not accepted.
func (d *dirtyList) putBack(logs []*Log) {
	var again []*Log
	for _, l := range logs {
		l.mu.Lock()
		if !l.dirty {
			l.dirty = true
			again = append(again, l)
		}
		l.mu.Unlock()
	}
	d.add(again, nil)
}

// checkpointDue counts what was committed since the last checkpoint.
type checkpointDue struct {
	slots, bytes atomic.Int64
	// trimmed is the trim position that the registry has.
	trimmed atomic.Int64
	c       chan struct{}
}

func (d *checkpointDue) count(o Options, bytes int64) {
	if d.slots.Add(1) < o.CheckpointSlots && d.bytes.Add(bytes) < o.CheckpointBytes {
		return
	}
	d.now()
}

// now asks for a checkpoint.
func (d *checkpointDue) now() {
	select {
	case d.c <- struct{}{}:
	default:
	}
}

func (d *checkpointDue) reset() {
	d.slots.Store(0)
	d.bytes.Store(0)
}

// Run writes checkpoints as Options ask, and forgets old producers, until ctx ends. It returns ctx's error.
func (s *Set) Run(ctx context.Context) error {
	interval := time.NewTimer(s.opts.CheckpointInterval)
	defer interval.Stop()
	expiry := time.NewTicker(expireEvery)
	defer expiry.Stop()
	wait := retryAfter
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-expiry.C:
			s.expireProducers()
			continue
		case <-s.due.c:
		case <-interval.C:
		}
		next := s.opts.CheckpointInterval
		err := s.Checkpoint(ctx)
		if err != nil && s.fencedError() == nil && ctx.Err() == nil {
			s.opts.Logger.Warn("checkpoint failed; what it did not do is done by the next", "error", err)
			next = min(next, wait)
			wait = min(2*wait, s.opts.CheckpointInterval)
		} else {
			wait = retryAfter
		}
		interval.Reset(next)
	}
}

// Checkpoint rewrites what is in slots only into segments, writes the manifests of all logs that changed, and raises trim behind the
// last slot that was committed when it began (G1). Slots below are deleted later. After an error nothing is lost: the next one writes
// what this one did not.
func (s *Set) Checkpoint(ctx context.Context) error { return s.checkpoint(ctx, true) }

// checkpoint is Checkpoint; without rewrite, what is in slots stays there.
func (s *Set) checkpoint(ctx context.Context, rewrite bool) error {
	// Segments are put under a token of their own: who only wants a manifest does not wait for them.
	if err := acquire(ctx, s.rewrites); err != nil {
		return err
	}
	defer func() { <-s.rewrites }()
	if err := s.fencedError(); err != nil {
		return err
	}
	began := time.Now()
	s.due.reset()
	// Read before the list is taken: every log that slots up to here touched is on the list, or was when an earlier commit was accepted.
	upTo := s.committed.Load() + 1
	logs, broken := s.dirty.take()
	logs = live(logs)
	s.behind = false
	stuck, err := s.commit(ctx, logs, rewrite)
	if err != nil {
		s.dirty.putBack(logs)
		s.metrics.checkpointErrors.Inc()
		return errors.Join(fmt.Errorf("checkpoint up to slot %d: %w", upTo-1, err), stuck)
	}
	if len(logs) > 0 {
		s.metrics.checkpoints.Inc()
		s.metrics.checkpointSeconds.Observe(time.Since(began).Seconds())
	}
	needed := s.neededSlots(logs, upTo)
	if broken != nil {
		return fmt.Errorf("checkpoint up to slot %d: not trimmed: %w", upTo-1, broken)
	}
	if err := s.raiseTrim(ctx, upTo); err != nil {
		return errors.Join(err, stuck)
	}
	if rewrite && needed > s.slotsDoomed {
		s.objects.doomSlots(s.life, s.slotsDoomed, needed, s.opts.Now())
		s.slotsDoomed = needed
	}
	if s.behind {
		s.due.now()
	}
	if stuck != nil {
		return fmt.Errorf("some partitions stay in slots: %w", stuck)
	}
	return nil
}

// commit moves what logs hold in slots to segments, if that is wanted, and makes new manifests of the logs durable and theirs. stuck is
// why data stays in slots: manifests say so, and nothing is lost.
func (s *Set) commit(ctx context.Context, logs []*Log, rewrite bool) (stuck, err error) {
	if len(logs) == 0 {
		return nil, nil
	}
	asleep := s.awake(ctx)
	if rewrite && (asleep == nil || s.overdue(logs)) {
		stuck = s.rewriteUntilClose(ctx, logs)
	}
	if asleep != nil {
		return stuck, asleep
	}
	if err := s.acquire(ctx); err != nil {
		return stuck, err
	}
	defer s.release()
	err = s.commitHeads(ctx, live(logs))
	s.trouble.Store(err != nil)
	return stuck, err
}

// rewriteUntilClose rewrites, and gives up when the Set is closed: a stop must not wait for segments.
func (s *Set) rewriteUntilClose(ctx context.Context, logs []*Log) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.closing, cancel)()
	return s.rewrite(ctx, logs)
}

// awake makes sure, after a commit that failed, that metadata answers before manifests, and segments of little data, are written for it again.
func (s *Set) awake(ctx context.Context) error {
	if !s.trouble.Load() {
		return nil
	}
	if _, err := s.opts.Manifests.Load(ctx, s.opts.Life); err != nil {
		return fmt.Errorf("metadata does not answer: %w", err)
	}
	return nil
}

// overdue reports whether logs hold as much in slots only as checkpoints are due for. While metadata does not answer that is rewritten
// all the same, as a log has an extent in memory for each slot, but little at a time would only pile up.
func (s *Set) overdue(logs []*Log) bool {
	end := s.committed.Load() + 1
	first, bytes := end, int64(0)
	for _, l := range logs {
		u := l.unwritten()
		bytes += u.bytes()
		if own, ok := l.firstInOwnSlots(); ok {
			first = min(first, own)
		}
	}
	return end-first >= s.opts.CheckpointSlots || bytes >= s.opts.CheckpointBytes
}

// neededSlots returns the first of this life's slots below upTo that a manifest refers to still, as its data could not be rewritten, or
// upTo. Logs with such data, of whatever life, are looked at again by the next checkpoint.
func (s *Set) neededSlots(logs []*Log, upTo int64) int64 {
	for _, l := range logs {
		s.inSlots[l] = true
	}
	needed := upTo
	var again []*Log
	for l := range s.inSlots {
		first, ok := l.firstInSlots()
		stuck := ok && (first.Life != s.life || first.Seq < upTo)
		l.setStuck(stuck)
		if !stuck {
			delete(s.inSlots, l)
			continue
		}
		again = append(again, l)
		if own, ok := l.firstInOwnSlots(); ok {
			needed = min(needed, own)
		}
	}
	s.dirty.putBack(again)
	return s.lent.needed(needed) // asked last: a log that leaves meanwhile is lent its slots before it forgets them
}

func (l *Log) setStuck(stuck bool) {
	l.mu.Lock()
	l.stuck = stuck
	l.mu.Unlock()
}

// firstInSlots returns the first extent that is in no segment.
func (l *Log) firstInSlots() (e Extent, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if i := l.unwrittenLocked(); i < len(l.recent) {
		return l.recent[i], true
	}
	return Extent{}, false
}

// firstInOwnSlots returns the first slot of this life that holds data which is in no segment.
func (l *Log) firstInOwnSlots() (seq int64, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.recent[l.unwrittenLocked():] {
		if e.Life == l.set.life {
			return e.Seq, true
		}
	}
	return 0, false
}

func (s *Set) acquire(ctx context.Context) error { return acquire(ctx, s.ckpt) }

// acquire takes a token.
func acquire(ctx context.Context, token chan struct{}) error {
	select {
	case token <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *Set) release() { <-s.ckpt }

// live returns the logs that are not gone: records of the others need no manifest, and metadata would refuse one.
func live(logs []*Log) []*Log {
	var out []*Log
	for _, l := range logs {
		if gone, _ := l.left(); !gone {
			out = append(out, l)
		}
	}
	return out
}

// raiseTrim tells the registry that slots below upTo are in committed manifests.
func (s *Set) raiseTrim(ctx context.Context, upTo int64) error {
	if upTo <= s.due.trimmed.Load() {
		return nil
	}
	var err error
	for range 2 {
		if s.streamRev == 0 {
			st, err := s.opts.Manifests.Load(ctx, s.opts.Life)
			if err != nil {
				return fmt.Errorf("trim to slot %d: %w", upTo, err)
			}
			if st.Phase != wal.PhaseOpen {
				return fmt.Errorf("trim to slot %d: %w", upTo, wal.ErrStale)
			}
			s.streamRev = st.Rev
		}
		err = s.opts.Manifests.Trim(ctx, s.opts.Life, s.streamRev, upTo)
		if err == nil {
			s.due.trimmed.Store(upTo)
			return nil
		}
		s.streamRev = 0
	}
	return fmt.Errorf("trim to slot %d: %w", upTo, err)
}
