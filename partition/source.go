package partition

import (
	"context"
	"fmt"

	"github.com/tidemill/tidemill/internal/crc32c"
	"github.com/tidemill/tidemill/objectstore"
	"github.com/tidemill/tidemill/wal"
)

const (
	// aheadMax and aheadBytes bound what a source loads ahead of its user: enough for a store with 30 ms a request to keep up with a
	// disk, little enough for the memory of background work.
	aheadMax   = 16
	aheadBytes = 8 << 20
)

// loaded is the bytes of an extent.
type loaded struct {
	Extent
	// pieces hold whole batches each, unless the extent is damaged.
	pieces [][]byte
	held   held
	// damaged: the checksum was wrong when read twice.
	damaged bool
	err     error
}

// A source loads extents in order for work in the background, past the read cache. Whoever uses it releases what it gives, or hands
// that on, and closes it. It is owned by one goroutine.
type source struct {
	set     *Set
	ctx     context.Context
	extents []Extent
	// queue are loads under way, of the extents before next.
	queue []chan loaded
	next  int
	bytes int64
}

func (s *Set) newSource(ctx context.Context, extents []Extent) *source {
	return &source{set: s, ctx: ctx, extents: extents}
}

// read returns the next extent's bytes, false after the last. Errors are in what it returns.
func (r *source) read() (loaded, bool) {
	for r.next < len(r.extents) && (len(r.queue) == 0 || len(r.queue) < aheadMax && r.bytes < aheadBytes) {
		r.start(r.extents[r.next])
		r.next++
	}
	if len(r.queue) == 0 {
		return loaded{}, false
	}
	x := <-r.queue[0]
	r.queue = r.queue[1:]
	r.bytes -= int64(x.Len)
	return x, true
}

func (r *source) start(e Extent) {
	c := make(chan loaded, 1)
	r.queue = append(r.queue, c)
	r.bytes += int64(e.Len)
	if e.Kind == KindSlot && e.Life == r.set.life {
		if object := r.set.tail.get(e.Seq); object != nil {
			c <- fromSlot(e, object)
			return
		}
	}
	go func() { c <- r.set.loadExtent(r.ctx, e) }()
}

// close gives back what was loaded and not asked for.
func (r *source) close() {
	for _, c := range r.queue {
		x := <-c
		x.release()
	}
	r.queue, r.next = nil, len(r.extents)
}

// fromSlot takes an extent from a slot in memory, whose reference it takes over.
func fromSlot(e Extent, object *wal.Object) loaded {
	x := loaded{Extent: e, held: object, pieces: object.AppendRange(nil, e.Pos, e.Len)}
	var crc, n uint32
	var join crc32c.Joiner
	for _, p := range x.pieces {
		crc = join.Join(crc, crc32c.Sum(p), len(p))
		n += uint32(len(p))
	}
	if n != e.Len || crc != e.CRC {
		x.err = corruptf("chunk of offsets %d-%d in slot %d in memory: checksum %08x of %d bytes, want %08x of %d", e.Base, e.Last, e.Seq, crc, n, e.CRC, e.Len)
	}
	return x
}

// loadExtent reads an extent from the store, twice if its checksum is wrong.
func (s *Set) loadExtent(ctx context.Context, e Extent) loaded {
	x := loaded{Extent: e}
	block := s.pool.Get(int(e.Len))
	data := block.Bytes()
	key := s.keyOf(e.object())
	for range 2 { // a flipped bit on the way is not damage
		var sum uint32
		if sum, x.err = s.readSummed(ctx, key, data, int64(e.Pos)); x.err != nil {
			block.Release()
			return x
		}
		if x.damaged = sum != e.CRC; !x.damaged {
			break
		}
	}
	x.pieces, x.held = [][]byte{data}, block
	if x.damaged {
		s.metrics.corruptions.Inc()
		s.opts.Logger.Error("stored data is damaged; its offsets cannot be read", "object", key, "position", e.Pos, "offsets", fmt.Sprintf("%d-%d", e.Base, e.Last))
	}
	return x
}

// readSummed fills p from an object, within the load timeout, and returns its CRC32C. Errors wrap ErrStorage or ErrCorrupt.
func (s *Set) readSummed(ctx context.Context, key string, p []byte, off int64) (uint32, error) {
	ctx, cancel := context.WithTimeout(ctx, s.opts.LoadTimeout)
	defer cancel()
	s.metrics.loads.Inc()
	sum, err := objectstore.ReadSummed(ctx, s.opts.Store, key, p, off)
	if err != nil {
		return 0, storeError(fmt.Errorf("read %s at %d+%d: %w", key, off, len(p), err))
	}
	s.metrics.loadedBytes.Add(float64(len(p)))
	return sum, nil
}

// partExtents returns the extents of parts, in order.
func (s *Set) partExtents(ctx context.Context, l *Log, parts []Part) ([]Extent, error) {
	var all []Extent
	for i := range parts {
		extents, err := s.index(ctx, l.id, &parts[i])
		if err != nil {
			return nil, err
		}
		all = append(all, extents...)
	}
	return all, nil
}

// copyFrom adds the extents of src to the open part of w as they are. A damaged one is moved with what is known of it, so that its
// offsets stay damaged and no others get lost.
func (w *segmentWriter) copyFrom(src *source) error {
	defer src.close()
	for x, ok := src.read(); ok; x, ok = src.read() {
		if x.err != nil {
			x.release()
			return x.err
		}
		w.room(int(x.Len))
		w.open.hold(x.held)
		if x.damaged {
			w.open.addDamaged(&x)
			continue
		}
		for _, p := range x.pieces {
			if err := w.open.add(p, true); err != nil {
				return err
			}
		}
		if w.open.next != x.Last+1 {
			return corruptf("%v %d ends at offset %d, want %d", x.Kind, x.Seq, w.open.next-1, x.Last)
		}
	}
	return nil
}

func (x *loaded) release() {
	if x.held != nil {
		x.held.Release()
	}
}
