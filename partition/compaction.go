package partition

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/tidemill/tidemill/objectstore"
	"github.com/tidemill/tidemill/partition/compact"
	"github.com/tidemill/tidemill/protocol/record"
)

// compactTogether bounds the partitions whose compacted batches share segments before the logs refer to them.
const compactTogether = 256

// cleaning is one round of compaction of one log.
type cleaning struct {
	log    *Log
	policy *Policy
	// [from, to) is dirty and may be cleaned; ratio is what it is of the log.
	from, to int64
	ratio    float64
	logStart int64
	// parts are the log's, from its start to the one that holds the last offset to be cleaned.
	parts   []Part
	rolls   []Roll
	aborted []AbortedTxn
	// producers holds the last offset of each producer that is remembered.
	producers map[int64]int64

	// upper is where the round ended: to, or sooner when the keys did not fit.
	upper int64
	// seen and written are the sums of the batches read and written.
	seen, written uint64
	// removed is how much smaller each roll got, by its base; newest the largest timestamp that is left in it.
	removed map[int64]int64
	newest  map[int64]int64
	still   []AbortedTxn
}

// Compact cleans the logs that their policies want cleaned, the dirtiest first (C3-C10). worked tells that there was something to do, so
// that there may be more. A log whose data is damaged is left as it is.
func (s *Set) Compact(ctx context.Context) (worked bool, err error) {
	if err := s.fencedError(); err != nil || s.trouble.Load() { // see Merge
		return false, err
	}
	up := s.opts.Upkeep()
	if !up.Compaction {
		return false, nil
	}
	failed := []error{s.checkpointForCompaction(ctx)}
	keys := compact.NewKeyMap(up.KeyMapBytes)
	for logs := range slices.Chunk(s.dirtiest(), compactTogether) {
		var group []*cleaning
		for _, l := range logs {
			if c := l.startCleaning(); c != nil {
				group = append(group, c)
			}
		}
		n, err := s.compactGroup(ctx, keys, group)
		worked = worked || n > 0
		failed = append(failed, err)
	}
	return worked, errors.Join(failed...)
}

// dirtiest returns the logs for which a round is due, the dirtiest first.
func (s *Set) dirtiest() []*Log {
	type due struct {
		log   *Log
		ratio float64
	}
	var all []due
	for _, l := range s.all() {
		if ratio, ok := l.cleanable(); ok {
			all = append(all, due{l, ratio})
		}
	}
	slices.SortStableFunc(all, func(a, b due) int { return cmp.Compare(b.ratio, a.ratio) })
	logs := make([]*Log, len(all))
	for i := range all {
		logs[i] = all[i].log
	}
	return logs
}

// checkpointForCompaction writes a checkpoint if there is something to clean that lies in slots still: compaction works on segments.
func (s *Set) checkpointForCompaction(ctx context.Context) error {
	for _, l := range s.all() {
		if l.cleanableInSlots() {
			return s.Checkpoint(ctx)
		}
	}
	return nil
}

// cleanableInSlots reports whether a round would be due, or would reach further, if all of the log were in segments.
func (l *Log) cleanableInSlots() bool {
	now := l.set.opts.Now().UnixMilli()
	l.mu.Lock()
	defer l.mu.Unlock()
	first := l.unwrittenLocked()
	if !l.policy.Compact || l.uncleanable || l.stuck || l.ended != nil || len(l.rolls) < 2 || first == len(l.recent) || l.recent[first].Base >= l.rolls[len(l.rolls)-1].Base {
		return false
	}
	c := l.cleaningLocked()
	return c.measure(l.hw, now) && c.to > l.recent[first].Base
}

// cleaningLocked returns a round that is not measured yet. Its rolls are the log's own.
func (l *Log) cleaningLocked() *cleaning {
	return &cleaning{
		log: l, policy: l.policy, logStart: l.logStart, rolls: l.rolls, aborted: l.aborted, from: max(l.compactedTo, l.logStart, l.rolls[0].Base),
	}
}

// cleanable reports whether a round is due for the log, and how dirty it is.
func (l *Log) cleanable() (ratio float64, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c := l.dueLocked(); c != nil {
		return c.ratio, true
	}
	return 0, false
}

// startCleaning returns the round that is due for the log, which takes its parts in hand, or nil.
func (l *Log) startCleaning() *cleaning {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.dueLocked()
	if c == nil {
		return nil
	}
	c.rolls = slices.Clone(c.rolls)
	n := findPart(l.parts, c.to-1) + 1
	c.parts = l.parts[:n:n]
	c.producers = make(map[int64]int64, len(l.producers))
	for id, p := range l.producers {
		if p.n > 0 {
			c.producers[id] = p.batches[p.n-1].LastOffset
		}
	}
	l.startRewriteLocked(c.parts)
	return c
}

// dueLocked returns the round that is due, without what a round needs to run.
func (l *Log) dueLocked() *cleaning {
	now := l.set.opts.Now().UnixMilli()
	if !l.policy.Compact || l.rewriting || l.uncleanable || l.ended != nil || len(l.parts) == 0 || len(l.rolls) < 2 {
		return nil
	}
	end := min(l.hw, l.parts[len(l.parts)-1].Last+1)
	if l.coordinator != nil {
		// A tombstone that the coordinator's snapshot does not know of must be there for as long as that is replayed from.
		end = min(end, l.coordinator.offset)
	}
	c := l.cleaningLocked()
	if !c.measure(end, now) {
		return nil
	}
	return c
}

// measure finds what is dirty, below end, and reports whether it is worth cleaning: whole rolls but the active one, up to the first that is
// too young; because of their share of the log, or because one is too old (C3).
func (c *cleaning) measure(end, now int64) bool {
	p := c.policy
	first := findRoll(c.rolls, c.from)
	c.to = c.from
	var clean, dirty int64
	for i := range first {
		clean += c.rolls[i].Bytes
	}
	for i := first; i+1 < len(c.rolls) && c.rolls[i+1].Base <= end; i++ {
		if p.MinCompactionLagMs > 0 && c.rolls[i].MaxTimestamp > now-p.MinCompactionLagMs {
			break
		}
		c.to = c.rolls[i+1].Base
		dirty += c.rolls[i].Bytes
	}
	if c.to <= c.from || dirty == 0 {
		return false
	}
	c.ratio = float64(dirty) / float64(clean+dirty)
	oldest := c.rolls[first].FirstTimestamp
	late := p.MaxCompactionLagMs > 0 && oldest >= 0 && now > oldest && now-oldest > p.MaxCompactionLagMs
	return late || c.ratio > p.MinCleanableRatio
}

// compactGroup runs rounds whose results share segments, and says how many logs refer to theirs now.
func (s *Set) compactGroup(ctx context.Context, keys *compact.KeyMap, group []*cleaning) (done int, err error) {
	var failed []error
	w := s.newBackgroundWriter(ctx)
	good := group[:0:0]
	for _, c := range group {
		if err := s.clean(ctx, w, keys, c); err != nil {
			failed = append(failed, fmt.Errorf("compact %v: %w", c.log.id, err))
			c.log.endCleaning(c.parts, err)
			continue
		}
		good = append(good, c)
	}
	parts, err := w.wait()
	failed = append(failed, err)
	for _, c := range good {
		ok, err := c.finish(parts[c.log.id])
		if failed = append(failed, err); ok {
			done++
			s.metrics.compactions.Inc()
		}
		c.log.endCleaning(c.parts, err)
	}
	w.settle()
	s.metrics.compactionErrors.Add(float64(len(group) - done))
	return done, errors.Join(failed...)
}

// endCleaning ends a round that failed. What is wrong with the data itself does not pass by itself: the log is not looked at again in
// this life, as reading it again and again would change nothing.
func (l *Log) endCleaning(parts []Part, err error) {
	l.endRewrite(parts)
	for _, lasting := range []error{ErrCorrupt, objectstore.ErrNotFound, record.ErrCorrupt, record.ErrInvalid, record.ErrCodec, record.ErrBomb} {
		if errors.Is(err, lasting) {
			l.mu.Lock()
			l.uncleanable = true
			l.mu.Unlock()
			l.set.metrics.uncleanable.Inc()
			l.set.opts.Logger.Error("a partition is not compacted any more, because its data is damaged", "partition", l.id, "error", err)
			return
		}
	}
}

// clean runs one round: it goes over what is dirty for its keys, and over all of the log up to there for the records that stay.
func (s *Set) clean(ctx context.Context, w *segmentWriter, keys *compact.KeyMap, c *cleaning) error {
	extents, err := s.partExtents(ctx, c.log, c.parts)
	if err != nil {
		return err
	}
	v := newSurvey(extents[findExtent(extents, c.from):])
	if err := s.mapKeys(ctx, keys, c, v); err != nil {
		return err
	}
	c.removed, c.newest = map[int64]int64{}, map[int64]int64{}
	extents = v.skip(extents, c)
	round := &compact.Round{
		Keys: keys, Now: s.opts.Now().UnixMilli(), DeleteRetentionMs: c.policy.DeleteRetentionMs, UpperBound: c.upper, Aborted: c.aborted,
		LastOfProducer: func(id int64, _ int16, lastOffset int64) bool {
			last, known := c.producers[id]
			return known && last == lastOffset
		},
	}
	w.begin(c.log.id, c.parts[0].Base, true)
	defer w.end()
	err = s.eachPiece(ctx, extents, func(p []byte) error { return c.sift(w, round, p) })
	c.still = round.StillAborted()
	return err
}

// mapKeys fills keys from what is dirty, and v with it, and sets where the round ends.
func (s *Set) mapKeys(ctx context.Context, keys *compact.KeyMap, c *cleaning, v *survey) error {
	keys.Reset(c.aborted...)
	keys.Moved = v.moved
	c.upper = c.to
	err := s.eachPiece(ctx, v.extents, func(p []byte) error {
		for len(p) > 0 {
			b, rest, err := record.Next(p)
			if err != nil || b == nil {
				return corruptf("batch behind offset %d: %w", c.from, orCut(err))
			}
			if b.BaseOffset() >= c.to {
				return errStop
			}
			v.see(b, c)
			if p = rest; b.LastOffset() < c.from {
				continue
			}
			full, err := keys.AddBatch(b, c.from, record.Limits{})
			if err != nil {
				return fmt.Errorf("batch at offset %d: %w", b.BaseOffset(), err)
			}
			if full {
				c.upper = keys.End()
				return errStop
			}
		}
		return nil
	})
	if errors.Is(err, errStop) {
		err = nil
	}
	if err == nil && c.upper <= c.from {
		return corruptf("no room for one key of offset %d", c.from)
	}
	return err
}

// errStop ends an iteration.
var errStop = errors.New("seen enough")

// eachPiece calls fn with the bytes of extents, whole batches at a time, read past the cache. Damaged data ends it.
func (s *Set) eachPiece(ctx context.Context, extents []Extent, fn func(p []byte) error) error {
	src := s.newSource(ctx, extents)
	defer src.close()
	for x, ok := src.read(); ok; x, ok = src.read() {
		if x.err != nil {
			x.release()
			return x.err
		}
		err := error(nil)
		if x.damaged {
			err = corruptf("damaged data at offsets %d-%d", x.Base, x.Last)
		}
		for _, p := range x.pieces {
			if err == nil {
				err = fn(p)
			}
		}
		x.release()
		if err != nil {
			return err
		}
	}
	return nil
}

// sift writes what stays of the batches in p. Neighbours that stay as they are go together.
func (c *cleaning) sift(w *segmentWriter, round *compact.Round, p []byte) error {
	kept := 0 // p[kept:at] stays as it is
	at := 0
	put := func(b []byte) error {
		if len(b) == 0 {
			return nil
		}
		w.room(len(b))
		return w.open.add(b, false)
	}
	for at < len(p) {
		b, _, err := record.Next(p[at:])
		if err != nil || b == nil {
			return corruptf("batch behind offset %d: %w", c.logStart, orCut(err))
		}
		out, what, err := c.cleanBatch(round, b)
		if err != nil {
			return fmt.Errorf("batch at offset %d: %w", b.BaseOffset(), err)
		}
		next := at + len(b)
		if what != compact.Kept {
			if err := put(p[kept:at]); err != nil {
				return err
			}
			if err := put(out); err != nil {
				return err
			}
			kept = next
		}
		at = next
	}
	return put(p[kept:])
}

// cleanBatch cleans one batch and keeps the books. What lies behind the round stays; what lies before the log start goes.
func (c *cleaning) cleanBatch(round *compact.Round, b record.Batch) (out record.Batch, what compact.Outcome, err error) {
	c.seen += batchSum(b)
	out, what = b, compact.Kept
	switch {
	case b.LastOffset() < c.logStart:
		out, what = nil, compact.Dropped
	case b.BaseOffset() < c.upper:
		c.log.set.metrics.compactedBytes.Add(float64(len(b)))
		if out, what, err = round.Clean(b); err != nil {
			return nil, 0, err
		}
	}
	c.log.set.metrics.cleanedBytes.Add(float64(max(0, len(b)-len(out)))) // a delete horizon may take a byte more
	if len(out) > 0 {
		c.written += batchSum(out)
	}
	roll := findRoll(c.rolls, b.BaseOffset())
	if roll < 0 {
		return out, what, nil // of a roll that went before
	}
	base := c.rolls[roll].Base
	c.removed[base] += int64(len(b) - len(out))
	if len(out) > 0 {
		if _, seen := c.newest[base]; !seen {
			c.newest[base] = math.MinInt64
		}
		if out.NumRecords() > 0 && out.MaxTimestamp() >= 0 {
			c.newest[base] = max(c.newest[base], out.MaxTimestamp())
		}
	}
	return out, what, nil
}

// finish lets the log refer to the parts of the round, if each batch of the old ones was seen and each that was to be written is there.
func (c *cleaning) finish(parts []Part) (ok bool, err error) {
	var before, after uint64
	for i := range c.parts {
		before += c.parts[i].Sum
	}
	for i := range parts {
		after += parts[i].Sum
	}
	if len(parts) == 0 || parts[len(parts)-1].Last != c.parts[len(c.parts)-1].Last {
		return false, nil // a segment was not put, which was said
	}
	if before != c.seen || after != c.written {
		return false, corruptf("compaction of %v up to offset %d: batches are not what manifest and segments say", c.log.id, c.upper)
	}
	l := c.log
	err = l.swap(c.parts, parts, false, func() {
		l.compactedTo = max(l.compactedTo, c.upper)
		l.aborted = c.still
		l.rolls = c.shrink(l.rolls)
		ok = true
	})
	return ok, err
}

// shrink returns the log's rolls with what the round removed taken off. As Kafka does with its segments, neighbours that were cleaned
// become one while they fit.
func (c *cleaning) shrink(rolls []Roll) []Roll {
	var out []Roll
	for i, r := range rolls {
		r.Bytes -= c.removed[r.Base]
		cleaned := i+1 < len(rolls) && rolls[i+1].Base <= c.upper
		if newest, seen := c.newest[r.Base]; cleaned && seen && newest != math.MinInt64 {
			r.MaxTimestamp = newest
		}
		if n := len(out); n > 0 && cleaned && out[n-1].Bytes+r.Bytes <= c.policy.SegmentBytes && rolls[i+1].Base-out[n-1].Base <= math.MaxInt32 {
			if r.Bytes > 0 { // else it is the time of what is gone
				out[n-1].MaxTimestamp = max(out[n-1].MaxTimestamp, r.MaxTimestamp)
			}
			out[n-1].Bytes += r.Bytes
			continue
		}
		out = append(out, r)
	}
	return out
}
