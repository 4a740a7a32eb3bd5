package partition

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tidemill/tidemill/metadata"
	"github.com/tidemill/tidemill/objectstore"
	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/wal"
)

const (
	// putAttempts is how often the same bytes are put under the same key while the outcome is unknown; then the checkpoint starts over.
	putAttempts = 5
	// retryAfter is the pause after a failed checkpoint. Nothing is lost meanwhile: only the log grows.
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
		if err := s.Checkpoint(ctx); err != nil && s.fencedError() == nil && ctx.Err() == nil {
			s.opts.Logger.Warn("checkpoint failed; the log is not trimmed", "error", err)
			next = min(next, retryAfter)
		}
		interval.Reset(next)
	}
}

// Checkpoint writes the manifests of all logs that changed and raises trim behind the last slot that was committed when it began
// (G1). After an error nothing is lost: the next one writes what this one did not.
func (s *Set) Checkpoint(ctx context.Context) error {
	if err := s.acquire(ctx); err != nil {
		return err
	}
	defer s.release()
	if err := s.fencedError(); err != nil {
		return err
	}
	began := time.Now()
	s.due.reset()
	// Read before the list is taken: every log that slots up to here touched is on the list, or was when an earlier commit was accepted.
	upTo := s.committed.Load() + 1
	logs, broken := s.dirty.take()
	if len(logs) > 0 {
		if err := s.commit(ctx, logs); err != nil {
			s.dirty.putBack(logs)
			s.metrics.checkpointErrors.Inc()
			return fmt.Errorf("checkpoint up to slot %d: %w", upTo-1, err)
		}
		s.metrics.checkpoints.Inc()
		s.metrics.checkpointSeconds.Observe(time.Since(began).Seconds())
	}
	if broken != nil {
		return fmt.Errorf("checkpoint up to slot %d: not trimmed: %w", upTo-1, broken)
	}
	return s.raiseTrim(ctx, upTo)
}

func (s *Set) acquire(ctx context.Context) error {
	select {
	case s.ckpt <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *Set) release() { <-s.ckpt }

// commit makes new manifests of logs durable and theirs.
func (s *Set) commit(ctx context.Context, logs []*Log) error {
	var live []*Log
	for _, l := range logs {
		if !l.deleted() { // its records need no manifest, and metadata would refuse one
			live = append(live, l)
		}
	}
	logs, err := s.settle(ctx, live)
	if err != nil {
		return err
	}
	snapshots := make([]*snapshot, 0, len(logs))
	for _, l := range logs {
		snapshots = append(snapshots, l.snapshot(0))
	}
	return s.commitSnapshots(ctx, snapshots)
}

func (s *Set) commitSnapshots(ctx context.Context, snapshots []*snapshot) error {
	if err := s.writeManifests(ctx, snapshots); err != nil {
		return err
	}
	updates := make([]metadata.ManifestUpdate, 0, len(snapshots))
	for _, x := range snapshots {
		updates = append(updates, metadata.ManifestUpdate{ID: x.log.id, Pointer: x.pointer, PrevVersion: x.prevVersion})
	}
	if len(updates) == 0 {
		return nil
	}
	if err := s.opts.Manifests.CommitManifests(ctx, s.opts.Life, updates); err != nil {
		for _, x := range snapshots {
			x.log.setUnsure()
		}
		return fmt.Errorf("commit %d manifests: %w", len(updates), err)
	}
	for _, x := range snapshots {
		x.log.adopt(x)
	}
	return nil
}

func (l *Log) setUnsure() {
	l.mu.Lock()
	l.unsure = true
	l.mu.Unlock()
}

// writeManifests puts the snapshots' manifests into as few objects as they fit in and fills in their pointers.
func (s *Set) writeManifests(ctx context.Context, snapshots []*snapshot) error {
	var o *object
	for i, x := range snapshots {
		if o == nil {
			o = s.newObject()
		}
		if err := o.add(x); err != nil {
			return err
		}
		if len(o.body) < objectMax && i < len(snapshots)-1 {
			continue
		}
		key, body := o.finish()
		if err := s.put(ctx, key, body); err != nil {
			return fmt.Errorf("put %s: %w", key, err)
		}
		s.metrics.manifests.Add(float64(len(o.snapshots)))
		s.metrics.manifestBytes.Add(float64(len(body)))
		o = nil
	}
	return nil
}

// put writes an object whose key nobody else uses. An unknown outcome is settled by the same bytes under the same key; what is found
// there must be them.
func (s *Set) put(ctx context.Context, key string, body []byte) error {
	var err error
	for range putAttempts {
		if err = s.putOnce(ctx, key, body); err == nil || ctx.Err() != nil || !errors.Is(err, objectstore.ErrAmbiguous) {
			return err
		}
	}
	return err
}

func (s *Set) putOnce(ctx context.Context, key string, body []byte) error {
	ctx, cancel := context.WithTimeout(ctx, s.opts.LoadTimeout)
	defer cancel()
	err := s.opts.Store.Put(ctx, key, body)
	if !errors.Is(err, objectstore.ErrConflict) {
		return err
	}
	found, err := s.opts.Store.Get(ctx, key)
	if err == nil && !bytes.Equal(found, body) {
		return fmt.Errorf("%w: the key holds something else", ErrCorrupt)
	}
	return err
}

// settle reads the manifest heads of logs whose last commit had an unknown outcome. It returns the logs that are still ours: one that
// metadata does not know any more is being deleted, and its records need no manifest.
func (s *Set) settle(ctx context.Context, logs []*Log) ([]*Log, error) {
	unsure := false
	for _, l := range logs {
		l.mu.Lock()
		unsure = unsure || l.unsure
		l.mu.Unlock()
	}
	if !unsure {
		return logs, nil
	}
	states, err := s.opts.Manifests.Partitions(ctx)
	if err != nil {
		return nil, fmt.Errorf("read manifest heads: %w", err)
	}
	heads := make(map[protocol.PartitionID]metadata.PartitionState, len(states))
	for _, st := range states {
		heads[st.ID] = st
	}
	var ours []*Log
	for _, l := range logs {
		st, ok := heads[l.id]
		if !ok {
			continue
		}
		if st.Owner != s.opts.Life {
			return nil, fmt.Errorf("%w: %v is owned by %v", ErrNotLeader, l.id, st.Owner)
		}
		l.mu.Lock()
		l.manifestVersion, l.unsure = 0, false
		if st.Manifest != nil {
			l.manifestVersion = st.Manifest.Version
		}
		l.mu.Unlock()
		ours = append(ours, l)
	}
	return ours, nil
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
