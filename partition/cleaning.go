package partition

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/tidemill/tidemill/objectstore"
	"github.com/tidemill/tidemill/partition/compact"
	"github.com/tidemill/tidemill/protocol/record"
)

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

// endCleaning ends a round that failed. What is wrong with the data itself does not pass by itself: the log is not looked at again in
// this life, as reading it again and again would change nothing.
func (l *Log) endCleaning(parts []Part, err error) {
	l.endRewrite(parts)
	for _, lasting := range []error{ErrCorrupt, objectstore.ErrNotFound, record.ErrCorrupt, record.ErrInvalid, record.ErrCodec, record.ErrBomb} {
		if errors.Is(err, lasting) && l.refersTo(parts) {
			l.mu.Lock()
			l.uncleanable = true
			l.mu.Unlock()
			l.set.metrics.uncleanable.Inc()
			l.set.opts.Logger.Error("a partition is not compacted any more, because its data is damaged", "partition", l.id, "error", err)
			return
		}
	}
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
			switch { // the time of what is gone does not count
			case out[n-1].Bytes == 0:
				out[n-1].MaxTimestamp = r.MaxTimestamp
			case r.Bytes > 0:
				out[n-1].MaxTimestamp = max(out[n-1].MaxTimestamp, r.MaxTimestamp)
			}
			out[n-1].Bytes += r.Bytes
			continue
		}
		out = append(out, r)
	}
	return out
}
