package partition

import (
	"github.com/tidemill/tidemill/internal/crc32c"
	"github.com/tidemill/tidemill/internal/memory"
	"github.com/tidemill/tidemill/objectstore"
	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/protocol/record"
	"github.com/tidemill/tidemill/wal"
)

const (
	// blockMax bounds a block of a segment, unless it is one batch: it is what the read cache holds and one request reads.
	blockMax = pieceMax
	// stayMin is how long a run of batches must be to be stored from where it lies: what is shorter is copied.
	stayMin = 8 << 10
	// gatherMin and gatherMax bound how much memory for copies is taken at a time: as much as the segment has by then, as most
	// rewrites of a broker with little to do are small.
	gatherMin, gatherMax = 16 << 10, 1 << 20
)

// held is memory that is given back once.
type held interface{ Release() }

// A segmentBuilder lays batches out as one segment. Runs of batches that lie together in memory stay there, and the builder holds
// that until it is released. It is owned by one goroutine.
type segmentBuilder struct {
	life   wal.Life
	lifeID uint32
	seq    int64
	pool   *memory.Pool

	pieces [][]byte
	size   int64
	crc    uint32
	join   crc32c.Joiner
	held   []held
	// gather is the memory that copies still go into.
	gather []byte

	// index is the part being built, of which block is the last extent; next is the offset after the last batch.
	index *Index
	block Extent
	next  int64
	// spoiled: a batch of the part was refused, so the part is given up.
	spoiled bool

	built []builtPart
	err   error
}

// builtPart is a part of a segment that was laid out. index is empty once the segment is finished.
type builtPart struct {
	index Index
	part  Part
}

func newSegmentBuilder(life wal.Life, lifeID uint32, seq int64, pool *memory.Pool) *segmentBuilder {
	return &segmentBuilder{
		life: life, lifeID: lifeID, seq: seq, pool: pool, pieces: make([][]byte, 1, 64), size: SegmentHeaderLen,
	}
}

// hold keeps memory alive until the segment is released.
func (g *segmentBuilder) hold(h held) { g.held = append(g.held, h) }

// begin starts the part of a partition from base on.
func (g *segmentBuilder) begin(id protocol.PartitionID, base int64, sparse bool) {
	g.index, g.next, g.spoiled = &Index{Partition: id, Sparse: sparse}, base, false
	g.block = Extent{Base: base, MaxTimestamp: minTimestamp}
}

// add appends the batches of p, which holds whole ones back to back. stays: p keeps its content until the segment is released. They
// must follow what came before, without a gap unless the part is sparse.
func (g *segmentBuilder) add(p []byte, stays bool) error {
	from := 0
	for at := 0; at < len(p); {
		b, _, err := record.Next(p[at:])
		if err != nil || b == nil {
			g.spoiled = true
			return corruptf("batch at offset %d: %w", g.next, orCut(err))
		}
		base, last := b.BaseOffset(), b.LastOffset()
		if base < g.next || base > g.next && !g.index.Sparse || last < base {
			g.spoiled = true
			return corruptf("batch of offsets %d-%d of %v follows offset %d", base, last, g.index.Partition, g.next-1)
		}
		if open := int(g.block.Len) + at - from; open > 0 && open+len(b) > blockMax {
			g.run(p[from:at], stays)
			g.cut(g.next - 1)
			from = at
		}
		if b.NumRecords() > 0 {
			g.block.MaxTimestamp = max(g.block.MaxTimestamp, b.MaxTimestamp())
		}
		g.block.Sum += batchSum(b)
		g.next = last + 1
		at += len(b)
	}
	g.run(p[from:], stays)
	return nil
}

func orCut(err error) error {
	if err == nil {
		return record.ErrCorrupt
	}
	return err
}

// run adds whole batches to the open block.
func (g *segmentBuilder) run(p []byte, stays bool) {
	if len(p) == 0 {
		return
	}
	g.block.CRC = g.join.Join(g.block.CRC, crc32c.Sum(p), len(p))
	g.block.Len += uint32(len(p))
	g.put(p, stays)
}

// put appends bytes to the object.
func (g *segmentBuilder) put(p []byte, stays bool) {
	g.size += int64(len(p))
	if stays && len(p) >= stayMin {
		g.pieces = append(g.pieces, p)
		return
	}
	for len(p) > 0 {
		if len(g.gather) == 0 {
			block := g.pool.Get(int(min(max(g.size, gatherMin), gatherMax)))
			g.hold(block)
			g.gather = block.Bytes()
		}
		n := copy(g.gather, p)
		piece := g.gather[:n]
		if k := len(g.pieces) - 1; k > 0 && adjoins(g.pieces[k], piece) {
			g.pieces[k] = g.pieces[k][:len(g.pieces[k])+n]
		} else {
			g.pieces = append(g.pieces, piece)
		}
		g.gather, p = g.gather[n:], p[n:]
	}
}

// adjoins reports whether b lies right behind a in the same memory.
func adjoins(a, b []byte) bool {
	return cap(a) > len(a) && &a[:len(a)+1][len(a)] == &b[0]
}

// copyExtent appends an extent as it is, and takes it over. A damaged one is moved with what is known of it, so that its offsets stay
// damaged and no others get lost.
func (g *segmentBuilder) copyExtent(x *loaded) error {
	if x.Len >= stayMin {
		g.hold(x.held)
	} else {
		defer x.release() // it is copied, and may keep much more in memory than itself
	}
	if x.damaged {
		g.addDamaged(x)
		return nil
	}
	for _, p := range x.pieces {
		if err := g.add(p, true); err != nil {
			return err
		}
	}
	if g.next != x.Last+1 {
		return corruptf("%v %d ends at offset %d, want %d", x.Kind, x.Seq, g.next-1, x.Last)
	}
	return nil
}

// addDamaged appends an extent whose bytes are not what they were, with what is known of it, as a block of its own.
func (g *segmentBuilder) addDamaged(x *loaded) {
	if g.block.Len > 0 {
		g.cut(g.next - 1)
	}
	for _, p := range x.pieces {
		g.put(p, true)
		g.crc = g.join.Join(g.crc, crc32c.Sum(p), len(p))
	}
	e := x.Extent
	e.Kind, e.Life, e.Seq, e.Sparse, e.Pos = KindSegment, g.lifeID, g.seq, g.index.Sparse, uint32(g.size)-x.Len
	g.index.Extents = append(g.index.Extents, e)
	g.next = e.Last + 1
	g.block = Extent{Base: g.next, MaxTimestamp: minTimestamp}
}

// cut ends the open block at offset last.
func (g *segmentBuilder) cut(last int64) {
	e := g.block
	e.Last, e.Kind, e.Life, e.Seq, e.Sparse = last, KindSegment, g.lifeID, g.seq, g.index.Sparse
	e.Pos = uint32(g.size) - e.Len
	g.crc = g.join.Join(g.crc, e.CRC, int(e.Len))
	g.index.Extents = append(g.index.Extents, e)
	g.block = Extent{Base: last + 1, MaxTimestamp: minTimestamp}
}

// end ends the part with the last batch. A part without a batch, or with one that was refused, is dropped.
func (g *segmentBuilder) end() {
	if g.block.Len > 0 {
		g.cut(g.next - 1)
	}
	if len(g.index.Extents) > 0 && !g.spoiled {
		g.built = append(g.built, builtPart{index: *g.index})
	}
	g.index = nil
}

// full reports whether n more bytes would make more of the segment than it should have.
func (g *segmentBuilder) full(n int, most int64) bool {
	return g.size > SegmentHeaderLen && g.size+int64(n) > most
}

// finish writes indexes and header and returns the key and the body, which is good until release.
func (g *segmentBuilder) finish() (string, objectstore.Body) {
	h := SegmentHeader{Life: g.life, Seq: g.seq, IndexPos: g.size, Parts: len(g.built)}
	for i := range g.built {
		b := &g.built[i]
		encoded := b.index.Encode()
		b.part = b.index.part(g.seq, g.lifeID, uint32(g.size), encoded)
		b.index.Extents = nil
		g.crc = g.join.Join(g.crc, crc32c.Sum(encoded), len(encoded))
		g.put(encoded, true)
	}
	h.Size = g.size
	header := make([]byte, SegmentHeaderLen)
	h.put(header)
	g.pieces[0] = header
	crc := g.join.Join(crc32c.Sum(header), g.crc, int(g.size-SegmentHeaderLen))
	return SegmentKey(g.life, g.seq), objectstore.Body{Pieces: g.pieces, Size: g.size, CRC32C: crc}
}

// release gives back the memory of the body.
func (g *segmentBuilder) release() {
	for _, h := range g.held {
		h.Release()
	}
	g.held, g.pieces, g.gather = nil, nil, nil
}
