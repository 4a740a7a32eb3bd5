package partition

import (
	"context"
	"maps"
	"math"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/tidemill/tidemill/internal/crc32c"
	"github.com/tidemill/tidemill/internal/memory"
	"github.com/tidemill/tidemill/wal"
)

const (
	// windowLoads is how many slots of a window are read at once.
	windowLoads = 4
	// windowsMax is how many windows a checkpoint rewrites before it writes manifests: then the slots behind it can go.
	windowsMax = 8
)

// A slotWindow is what a rewrite takes of this life's slots at once: about Options.CheckpointBytes. Those in memory stay there meanwhile, and
// each that has left is read by one request, however many partitions it holds. A rewrite that is behind would else ask for each chunk by
// itself, fall further behind at the rate of such requests, and never come back while data comes in.
type slotWindow struct {
	set *Set
	// end is the first of this life's slots that waits for the next window.
	end   int64
	slots map[int64]*slotRange
}

// A slotRange is what is wanted of a slot, and holds it: object if it was in memory, else block. With neither it could not be read, and
// its chunks are tried one by one.
type slotRange struct {
	from, to uint32
	object   *wal.Object
	block    *memory.Block
}

func (r *slotRange) len() int64 { return int64(r.to - r.from) }

// newSlotWindow chooses the oldest slots that hold some of work. Each log's extents of this life are in the order of slots, so the log
// that waits for the oldest one gets it, and every window is some progress.
func (s *Set) newSlotWindow(work []unwritten) *slotWindow {
	w := &slotWindow{set: s, end: math.MaxInt64, slots: map[int64]*slotRange{}}
	for i := range work {
		for j := range work[i].extents {
			if e := &work[i].extents[j]; s.ownSlot(e) {
				w.want(e)
			}
		}
	}
	var all int64
	for _, r := range w.slots {
		all += r.len()
	}
	room := s.opts.CheckpointBytes
	if all <= room+room/2 {
		return w // a little that is left over would cost segments of its own
	}
	for i, seq := range slices.Sorted(maps.Keys(w.slots)) {
		if room -= w.slots[seq].len(); room < 0 && i > 0 {
			w.end = seq
			break
		}
	}
	maps.DeleteFunc(w.slots, func(seq int64, _ *slotRange) bool { return seq >= w.end })
	return w
}

func (s *Set) ownSlot(e *Extent) bool { return e.Kind == KindSlot && e.Life == s.life }

func (w *slotWindow) want(e *Extent) {
	if r := w.slots[e.Seq]; r != nil {
		r.from, r.to = min(r.from, e.Pos), max(r.to, e.Pos+e.Len)
	} else {
		w.slots[e.Seq] = &slotRange{from: e.Pos, to: e.Pos + e.Len}
	}
}

// split returns what of work lies in the window or in no slot of this life, and what waits.
func (w *slotWindow) split(work []unwritten) (now, later []unwritten) {
	for _, u := range work {
		n := slices.IndexFunc(u.extents, func(e Extent) bool { return w.set.ownSlot(&e) && e.Seq >= w.end })
		if n < 0 {
			n = len(u.extents)
		}
		if n > 0 {
			now = append(now, unwritten{u.log, u.extents[:n]})
		}
		if n < len(u.extents) {
			later = append(later, unwritten{u.log, u.extents[n:]})
		}
	}
	return now, later
}

// load holds the slots that are in memory and reads the others.
func (w *slotWindow) load(ctx context.Context) {
	for seq, r := range w.slots {
		r.object = w.set.tail.get(seq)
	}
	var loads errgroup.Group
	loads.SetLimit(windowLoads)
	for seq, r := range w.slots {
		if r.object != nil {
			continue
		}
		loads.Go(func() error {
			block := w.set.pool.Get(int(r.len()))
			key := w.set.keyOf(objectID{KindSlot, w.set.life, seq})
			if _, err := w.set.readTogether(ctx, key, block.Bytes(), int64(r.from), false); err != nil {
				block.Release()
				return nil // whoever reads its chunks one by one says why
			}
			r.block = block
			return nil
		})
	}
	_ = loads.Wait() // there are no errors
}

func (w *slotWindow) release() {
	for _, r := range w.slots {
		if r.object != nil {
			r.object.Release()
		}
		if r.block != nil {
			r.block.Release()
		}
	}
}

// extent returns the bytes of e if the window has them and they are sound.
func (w *slotWindow) extent(e *Extent) (loaded, bool) {
	if w == nil || !w.set.ownSlot(e) {
		return loaded{}, false
	}
	r := w.slots[e.Seq]
	if r == nil {
		return loaded{}, false
	}
	if r.object != nil {
		r.object.Retain()
		return fromSlot(*e, r.object), true
	}
	if r.block == nil || e.Pos < r.from || int64(e.Pos)+int64(e.Len) > int64(r.to) {
		return loaded{}, false
	}
	data := r.block.Bytes()[e.Pos-r.from:][:e.Len:e.Len]
	if crc32c.Sum(data) != e.CRC {
		return loaded{}, false
	}
	r.block.Retain()
	return loaded{Extent: *e, pieces: [][]byte{data}, held: r.block}, true
}
