package partition

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/tidemill/tidemill/objectstore"
	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/protocol/record"
	"github.com/tidemill/tidemill/wal"
)

// recoverTail adds to the logs what the recovery of their owner holds beyond their manifests. Offsets and extents come from the
// recovery's index; producers are rebuilt from the batches in the slots, checked by checksum (S5).
func (s *Set) recoverTail(ctx context.Context, life wal.Life, r *wal.Recovery, all []*opening) error {
	byID := map[protocol.PartitionID]*opening{}
	for _, o := range all {
		if o.state.Owner == life && o.err == nil {
			byID[o.state.ID] = o
		}
	}
	lifeID := s.lives.id(life)
	var slots [][]tailChunk
	for i := range r.Chunks {
		c := &r.Chunks[i]
		o := byID[c.Partition]
		if o == nil || o.err != nil || c.LastOffset < o.log.hw {
			continue // not ours to open, damaged, or in the manifest
		}
		if c.BaseOffset != o.log.hw {
			o.err = corruptf("slot %d of %v continues at %d, want %d", c.Seq, life, c.BaseOffset, o.log.hw)
			continue
		}
		l := o.log
		l.recent = append(l.recent, Extent{
			Base: c.BaseOffset, Last: c.LastOffset, MaxTimestamp: c.MaxTimestamp, Seq: c.Seq, Life: lifeID, Pos: c.Pos, Len: c.Len, CRC: c.CRC,
		})
		l.hw, o.grown = c.LastOffset+1, true
		l.size += int64(c.Len)
		if n := len(slots); n == 0 || slots[n-1][0].chunk.Seq != c.Seq {
			slots = append(slots, nil)
		}
		slots[len(slots)-1] = append(slots[len(slots)-1], tailChunk{o, c})
	}
	return s.replay(ctx, life, slots)
}

// tailChunk is a recovered chunk and whose it is.
type tailChunk struct {
	opening *opening
	chunk   *wal.RecoveredChunk
}

// slotRead is what was read of a slot: its bytes, or that they are gone, which damages the partitions that have records there and no others.
// Neither: the reader has failed.
type slotRead struct {
	data []byte
	lost error
}

// replay reads slots in parallel, at most Loads ahead, and applies their batches in order.
func (s *Set) replay(ctx context.Context, life wal.Life, slots [][]tailChunk) error {
	type fetched struct {
		slot []tailChunk
		read chan slotRead
	}
	queue := make(chan fetched, s.opts.Loads)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(queue)
		for _, slot := range slots {
			f := fetched{slot: slot, read: make(chan slotRead, 1)}
			select {
			case queue <- f:
			case <-ctx.Done():
				return ctx.Err()
			}
			g.Go(func() error {
				r, err := s.readSlot(ctx, life, slot)
				f.read <- r
				return err
			})
		}
		return nil
	})
	g.Go(func() error {
		now := s.opts.Now().UnixMilli()
		for f := range queue {
			r := <-f.read
			if r.data == nil && r.lost == nil {
				return nil // the reader has returned why
			}
			from, _ := span(f.slot)
			for _, t := range f.slot {
				switch {
				case t.opening.err != nil:
				case r.lost != nil:
					t.opening.err = r.lost
				default:
					t.opening.err = t.apply(r.data[t.chunk.Pos-from:][:t.chunk.Len], now)
				}
			}
		}
		return nil
	})
	return g.Wait()
}

// span returns the part of a slot that holds all its wanted chunks.
func span(slot []tailChunk) (from, to uint32) {
	from = slot[0].chunk.Pos
	for _, t := range slot {
		from, to = min(from, t.chunk.Pos), max(to, t.chunk.Pos+t.chunk.Len)
	}
	return from, to
}

// readSlot returns the bytes of a slot's span.
func (s *Set) readSlot(ctx context.Context, life wal.Life, slot []tailChunk) (slotRead, error) {
	from, to := span(slot)
	key := wal.SlotKey(life, slot[0].chunk.Seq)
	data := make([]byte, to-from)
	for range 2 { // a flipped bit on the way is not damage
		ctx, cancel := context.WithTimeout(ctx, s.opts.LoadTimeout)
		err := s.opts.Store.ReadAt(ctx, key, data, int64(from))
		cancel()
		if errors.Is(err, objectstore.ErrNotFound) || errors.Is(err, objectstore.ErrRange) {
			return slotRead{lost: corruptf("slot %d of %v is lost: %w", slot[0].chunk.Seq, life, err)}, nil
		}
		if err != nil {
			return slotRead{}, wrapStore(err, key)
		}
		good := true
		for _, t := range slot {
			good = good && t.chunk.Check(data[t.chunk.Pos-from:][:t.chunk.Len]) == nil
		}
		if good {
			break
		}
	}
	return slotRead{data: data}, nil
}

// apply checks a chunk and lets its batches count for their producers, the rolls and the extent.
func (t tailChunk) apply(data []byte, now int64) error {
	c := t.chunk
	if err := c.Check(data); err != nil {
		return fmt.Errorf("%w: slot %d: %w", ErrCorrupt, c.Seq, err)
	}
	next, sum := c.BaseOffset, uint64(0)
	for len(data) > 0 {
		b, rest, err := record.Next(data)
		if err != nil || b == nil || b.BaseOffset() != next {
			return corruptf("batch at offset %d in slot %d", next, c.Seq)
		}
		if err := record.CheckCRC(b); err != nil {
			return corruptf("batch at offset %d in slot %d: %w", next, c.Seq, err)
		}
		l := t.opening.log
		l.replayProducer(b, now)
		l.rolls = appendRoll(l.rolls, l.policy, next, b.LastOffset(), l.timeOf(b.MaxTimestamp()), int64(len(b)))
		sum += batchSum(b)
		next, data = b.LastOffset()+1, rest
	}
	if next != c.LastOffset+1 {
		return corruptf("chunk in slot %d ends at %d, want %d", c.Seq, next-1, c.LastOffset)
	}
	recent := t.opening.log.recent
	recent[findExtent(recent, c.BaseOffset)].Sum = sum
	return nil
}
