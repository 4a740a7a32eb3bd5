package partition

import (
	"cmp"
	"context"
	"maps"
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

// A slotWindow is what a rewrite takes of slots at once: about Options.CheckpointBytes. Those in memory stay there meanwhile, and each that
// is not, as it has left or another life wrote it, is read by one request, however many partitions it holds. A rewrite that is behind, or
// the first after a takeover, would else ask for each chunk by itself, fall further behind at the rate of such requests, and never come back
// while data comes in.
type slotWindow struct {
	set   *Set
	slots map[objectID]*slotRange
}

// A slotRange is what is wanted of a slot, and holds it: object if it was in memory, else block. With neither it could not be read, and
// its chunks are tried one by one.
type slotRange struct {
	from, to uint32
	object   *wal.Object
	block    *memory.Block
}

func (r *slotRange) len() int64 { return int64(r.to - r.from) }

// newSlotWindow chooses slots that hold some of work.
func (s *Set) newSlotWindow(work []unwritten) *slotWindow {
	w := &slotWindow{set: s, slots: map[objectID]*slotRange{}}
	for i := range work {
		for j := range work[i].extents {
			w.want(&work[i].extents[j])
		}
	}
	var all int64
	for _, r := range w.slots {
		all += r.len()
	}
	room := s.opts.CheckpointBytes
	if all > room+room/2 { // a little that is left over would cost segments of its own
		w.choose(work, room)
	}
	return w
}

func (w *slotWindow) want(e *Extent) {
	if r := w.slots[e.object()]; r != nil {
		r.from, r.to = min(r.from, e.Pos), max(r.to, e.Pos+e.Len)
	} else {
		w.slots[e.object()] = &slotRange{from: e.Pos, to: e.Pos + e.Len}
	}
}

// choose keeps slots for which there is room: those of other lives before those of this one, the oldest of each life first. A log is
// rewritten from its beginning on, so only a slot with what comes next in some log is of use; the first such one is taken in any case,
// and every window is some progress. Partitions that have been with the same owners in different orders may want a slot more than once.
func (w *slotWindow) choose(work []unwritten, room int64) {
	waiting := map[objectID][][]Extent{} // what is left of logs, by the slot that comes next in them
	for i := range work {
		id := work[i].extents[0].object()
		waiting[id] = append(waiting[id], work[i].extents)
	}
	chosen := map[objectID]*slotRange{}
	for _, id := range slices.SortedFunc(maps.Keys(w.slots), w.compare) {
		if len(waiting[id]) == 0 {
			continue
		}
		if room -= w.slots[id].len(); room < 0 && len(chosen) > 0 {
			break
		}
		chosen[id] = w.slots[id]
		for _, left := range waiting[id] {
			n := slices.IndexFunc(left, func(e Extent) bool { return chosen[e.object()] == nil })
			if n >= 0 {
				next := left[n].object()
				waiting[next] = append(waiting[next], left[n:])
			}
		}
	}
	w.slots = chosen
}

func (w *slotWindow) compare(a, b objectID) int {
	own := w.set.life
	switch {
	case a.life == b.life:
		return cmp.Compare(a.seq, b.seq)
	case a.life == own:
		return 1
	case b.life == own:
		return -1
	}
	return cmp.Compare(a.life, b.life)
}

// split returns what of work lies in the window, up to the first that does not, and what waits.
func (w *slotWindow) split(work []unwritten) (now, later []unwritten) {
	for _, u := range work {
		n := slices.IndexFunc(u.extents, func(e Extent) bool { return w.slots[e.object()] == nil })
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
	for id, r := range w.slots {
		if id.life == w.set.life {
			r.object = w.set.tail.get(id.seq)
		}
	}
	var loads errgroup.Group
	loads.SetLimit(windowLoads)
	for _, id := range slices.SortedFunc(maps.Keys(w.slots), w.compare) { // in order, so that a run can be repeated
		r := w.slots[id]
		if r.object != nil {
			continue
		}
		loads.Go(func() error {
			block := w.set.pool.Get(int(r.len()))
			if _, err := w.set.readTogether(ctx, w.set.keyOf(id), block.Bytes(), int64(r.from), false); err != nil {
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
	if w == nil {
		return loaded{}, false
	}
	r := w.slots[e.object()]
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
