package partition

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/tidemill/tidemill/partition/compact"
	"github.com/tidemill/tidemill/protocol/record"
)

// compactTogether bounds the partitions whose compacted batches share segments before the logs refer to them.
const compactTogether = 256

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
	if ctx.Err() != nil || s.trouble.Load() {
		return false, errors.Join(failed...)
	}
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
		Limits: record.StoredLimits,
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
			full, err := keys.AddBatch(b, c.from, record.StoredLimits)
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
