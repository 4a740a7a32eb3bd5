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
	// togetherMax bounds what one request reads of extents that lie together: requests have a price.
	togetherMax = 4 << 20
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
	// window has some of them already; optional.
	window *slotWindow
	// near brings small ones with their neighbours; optional.
	near *jointReads
	// sound: damaged extents are refused instead of moved as they are.
	sound bool
	// queue are loads under way, of the extents before next, and ready what one of them has brought.
	queue []chan []loaded
	ready []loaded
	next  int
	bytes int64
}

func (s *Set) newSource(ctx context.Context, extents []Extent) *source {
	return &source{set: s, ctx: ctx, extents: extents}
}

// read returns the next extent's bytes, false after the last. Errors are in what it returns.
func (r *source) read() (loaded, bool) {
	if len(r.ready) == 0 {
		for r.next < len(r.extents) && (len(r.queue) == 0 || len(r.queue) < aheadMax && r.bytes < aheadBytes) {
			r.start()
		}
		if len(r.queue) == 0 {
			return loaded{}, false
		}
		r.ready = <-r.queue[0]
		r.queue = r.queue[1:]
	}
	x := r.ready[0]
	r.ready = r.ready[1:]
	r.bytes -= int64(x.Len)
	return x, true
}

// start begins to load the next extents: one that is in memory, or those that lie together in an object.
func (r *source) start() {
	c := make(chan []loaded, 1)
	r.queue = append(r.queue, c)
	e := &r.extents[r.next]
	if x, ok := r.window.extent(e); ok {
		r.next++
		r.bytes += int64(e.Len)
		c <- []loaded{x}
		return
	}
	if r.set.ownSlot(e) {
		if object := r.set.tail.get(e.Seq); object != nil {
			r.next++
			r.bytes += int64(e.Len)
			c <- []loaded{fromSlot(*e, object)}
			return
		}
	}
	n, size := 0, uint32(0)
	for rest := r.extents[r.next:]; n < len(rest) && (n == 0 || size+rest[n].Len <= togetherMax); n++ {
		if rest[n].object() != e.object() || rest[n].Pos != e.Pos+size {
			break
		}
		size += rest[n].Len
	}
	together := r.extents[r.next : r.next+n]
	r.next += n
	r.bytes += int64(size)
	go func() {
		if n == 1 {
			if x, ok := r.near.extent(r.ctx, e); ok {
				c <- []loaded{x}
				return
			}
		}
		c <- r.set.loadExtents(r.ctx, together, size)
	}()
}

// close gives back what was loaded and not asked for.
func (r *source) close() {
	for _, c := range r.queue {
		r.ready = append(r.ready, <-c...)
	}
	for i := range r.ready {
		r.ready[i].release()
	}
	r.queue, r.ready, r.next = nil, nil, len(r.extents)
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

// loadExtents reads extents that lie together, of size bytes in all, twice if a checksum is wrong.
func (s *Set) loadExtents(ctx context.Context, extents []Extent, size uint32) []loaded {
	block := s.pool.Get(int(size))
	defer block.Release()
	data := block.Bytes()
	key, pos := s.keyOf(extents[0].object()), int64(extents[0].Pos)
	out := make([]loaded, len(extents))
	for range 2 { // a flipped bit on the way is not damage
		sum, err := s.readTogether(ctx, key, data, pos, len(extents) == 1)
		sound := true
		for i, e := range extents {
			at := e.Pos - extents[0].Pos
			out[i] = loaded{Extent: e, err: err}
			if err != nil {
				continue
			}
			out[i].pieces, out[i].held = [][]byte{data[at : at+e.Len : at+e.Len]}, block
			if len(extents) > 1 {
				sum = crc32c.Sum(out[i].pieces[0])
			}
			out[i].damaged = sum != e.CRC
			sound = sound && !out[i].damaged
		}
		if sound {
			break
		}
	}
	for i := range out {
		if out[i].held != nil {
			block.Retain()
		}
		if e := &out[i]; e.damaged {
			s.metrics.corruptions.Inc()
			s.opts.Logger.Error("stored data is damaged; its offsets cannot be read", "object", key, "position", e.Pos, "offsets", fmt.Sprintf("%d-%d", e.Base, e.Last))
		}
	}
	return out
}

// readSummed fills p from an object, within the load timeout, and returns its CRC32C. Errors wrap ErrStorage or ErrCorrupt.
func (s *Set) readSummed(ctx context.Context, key string, p []byte, off int64) (uint32, error) {
	return s.readTogether(ctx, key, p, off, true)
}

// readTogether is readSummed; summed: the checksum is wanted.
func (s *Set) readTogether(ctx context.Context, key string, p []byte, off int64, summed bool) (sum uint32, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.opts.LoadTimeout)
	defer cancel()
	s.metrics.loads.Inc()
	if summed {
		sum, err = objectstore.ReadSummed(ctx, s.opts.Store, key, p, off)
	} else {
		err = s.opts.Store.ReadAt(ctx, key, p, off)
	}
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

func (x *loaded) release() {
	if x.held != nil {
		x.held.Release()
	}
}
