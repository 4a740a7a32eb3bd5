package partition

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/protocol/record"
	"github.com/tidemill/tidemill/wal"
)

// A chunkReader reads the bytes of one extent. Small ones are one piece in memory; larger ones are read in pieces on demand. Whoever
// made it releases it, or what it holds.
type chunkReader struct {
	set *Set
	e   Extent
	// object is the slot when that is in memory. Else whole is the bytes if they are at hand.
	object *wal.Object
	whole  []byte
	// trusted: the bytes are our own, or the extent's checksum was right. Otherwise each batch is checked.
	trusted bool
	// held is the memory of all that the reader gave away.
	held []held
}

func (r *chunkReader) release() {
	for _, h := range r.held {
		h.Release()
	}
	r.held = nil
}

func (s *Set) ownSlot(e *Extent) bool { return e.Kind == KindSlot && e.Life == s.life }

// inTail reports whether an extent lies in a slot in memory, and allInTail whether all do.
func (s *Set) inTail(e *Extent) bool { return s.ownSlot(e) && s.tail.has(e.Seq) }

func (s *Set) allInTail(plan []Extent) bool {
	return !slices.ContainsFunc(plan, func(e Extent) bool { return !s.inTail(&e) })
}

// prefetch begins to load what the extent needs first, unless that is in memory.
func (s *Set) prefetch(ctx context.Context, e *Extent, early bool) {
	if s.inTail(e) {
		return
	}
	key, load := s.pieceOf(e, 0)
	s.cache.prefetch(ctx, key, load, early)
}

// openChunk returns a reader of e's bytes.
func (s *Set) openChunk(ctx context.Context, e *Extent) (chunkReader, error) {
	r := chunkReader{set: s, e: *e}
	if e.Kind == KindSlot && e.Life == s.life {
		if object := s.tail.get(e.Seq); object != nil {
			s.metrics.tailHits.Inc()
			if size := object.Size(); int64(e.Pos)+int64(e.Len) > int64(size) {
				object.Release()
				return r, corruptf("chunk at %d+%d of slot %d with %d bytes", e.Pos, e.Len, e.Seq, size)
			}
			r.object, r.trusted, r.held = object, true, []held{object}
			return r, nil
		}
	}
	s.metrics.tailMisses.Inc()
	if e.Len > pieceMax {
		return r, nil
	}
	b, err := r.piece(ctx, 0)
	if err != nil {
		r.release()
		return r, err
	}
	r.whole, r.trusted = b.data, b.whole
	return r, nil
}

// piece returns the piece that holds byte pos of the extent, and holds it.
func (r *chunkReader) piece(ctx context.Context, pos uint32) (*block, error) {
	key, load := r.set.pieceOf(&r.e, pos)
	b := r.set.cache.acquire(ctx, key, load)
	r.held = append(r.held, b)
	return b, b.wait(ctx)
}

// pieceOf returns the key and the loader of the piece that holds byte pos of the extent.
func (s *Set) pieceOf(e *Extent, pos uint32) (blockKey, loader) {
	from := pos - pos%pieceMax
	key := blockKey{objectID: e.object(), pos: e.Pos + from, len: min(pieceMax, e.Len-from)}
	crc, single, first, sparse := e.CRC, e.Len <= pieceMax, e.Base, e.Sparse
	return key, func(ctx context.Context, b *block) error {
		b.memory = s.pool.Get(int(key.len))
		b.data = b.memory.Bytes()
		for range 2 { // a flipped bit on the way is not damage
			sum, err := s.readSummed(ctx, s.keyOf(key.objectID), b.data, int64(key.pos))
			if err != nil {
				return err
			}
			if !single {
				return nil // each batch is checked when it is used
			}
			if b.whole = sum == crc; b.whole {
				return nil
			}
		}
		s.metrics.corruptions.Inc()
		if !anyBroken(b.data, first, sparse) {
			return corruptf("%v %d at %d+%d: checksum mismatch in what no batch's own covers", key.kind, key.seq, key.pos, key.len)
		}
		b.fleeting = true
		return nil // batches whose own checksum is right are served: only the damaged offsets fail
	}
}

// anyBroken reports whether a batch in data shows damage by itself, or by not following the one before. If none does, the damage is in
// a leader epoch, or in a base offset where there are gaps, and nobody can tell whose.
func anyBroken(data []byte, next int64, sparse bool) bool {
	for len(data) > 0 {
		b, rest, err := record.Next(data)
		if err != nil || b == nil || record.CheckCRC(b) != nil || !sparse && b.BaseOffset() != next {
			return true
		}
		data, next = rest, b.LastOffset()+1
	}
	return false
}

// inMemory reports whether the whole chunk is at hand.
func (r *chunkReader) inMemory() bool { return r.object != nil || r.whole != nil }

// appendRange appends n bytes from pos on, as they lie, of a chunk in memory to dst.
func (r *chunkReader) appendRange(dst [][]byte, pos, n uint32) [][]byte {
	switch {
	case n == 0:
		return dst
	case r.object != nil:
		return r.object.AppendRange(dst, r.e.Pos+pos, n)
	}
	return append(dst, r.whole[pos:pos+n:pos+n])
}

// at returns n bytes of the chunk from pos on. They are a copy only where they cross pieces.
func (r *chunkReader) at(ctx context.Context, pos, n uint32) ([]byte, error) {
	if n > r.e.Len-pos {
		return nil, corruptf("%d bytes at %d in a chunk of %d", n, pos, r.e.Len)
	}
	if r.object != nil {
		b, ok := r.object.At(r.e.Pos+pos, n)
		if !ok {
			return nil, corruptf("%d bytes at %d in a chunk of slot %d cross batches", n, pos, r.e.Seq)
		}
		return b, nil
	}
	if r.whole != nil {
		return r.whole[pos : pos+n : pos+n], nil
	}
	var joined []byte
	for {
		b, err := r.piece(ctx, pos)
		if next := pos - pos%pieceMax + pieceMax; joined == nil && next < r.e.Len && pos+n > next-pieceMax/4 {
			key, load := r.set.pieceOf(&r.e, next)
			r.set.cache.prefetch(ctx, key, load, false)
		}
		if err != nil {
			return nil, err
		}
		rest := b.data[pos%pieceMax:]
		if joined == nil && uint32(len(rest)) >= n {
			return rest[:n:n], nil
		}
		if joined == nil {
			joined = make([]byte, 0, n)
		}
		take := min(uint32(len(rest)), n-uint32(len(joined)))
		joined = append(joined, rest[:take]...)
		if uint32(len(joined)) == n {
			return joined, nil
		}
		pos += take
	}
}

// walk calls fn for each batch of the chunk that ends at or behind offset, with its position, until fn returns false. What comes before is only skipped.
// Damage found in a piece leads to one more read of the chunk, then to ErrCorrupt.
func (r *chunkReader) walk(ctx context.Context, offset int64, fn func(b record.Batch, pos uint32) bool) error {
	var pos uint32
	next, again := r.e.Base, r.inMemory()
	for pos < r.e.Len {
		b, err := r.batch(ctx, pos, next, offset)
		if err != nil && !again && errors.Is(err, ErrCorrupt) {
			again = true
			r.forget()
			continue
		}
		if err != nil {
			return err
		}
		if b.LastOffset() >= offset && !fn(b, pos) {
			return nil
		}
		next = b.LastOffset() + 1
		size, _ := batchSize(b)
		pos += size
	}
	if next != r.e.Last+1 {
		return corruptf("%v %d ends at offset %d, want %d", r.e.Kind, r.e.Seq, next-1, r.e.Last)
	}
	return nil
}

// batch returns the batch at pos: whole and checked if it ends at or behind offset, else only its header.
func (r *chunkReader) batch(ctx context.Context, pos uint32, base, offset int64) (record.Batch, error) {
	header, err := r.at(ctx, pos, record.HeaderSize)
	if err != nil {
		return nil, err
	}
	b := record.Batch(header)
	size, ok := batchSize(b)
	gap := b.BaseOffset() - base
	if !ok || b.Magic() != 2 || gap < 0 || gap > 0 && !r.e.Sparse || b.LastOffsetDelta() < 0 || b.LastOffset() > r.e.Last || size > r.e.Len-pos {
		return nil, corruptf("batch of %d bytes at %d in a chunk of %v %d: base offset %d, want %d", size, pos, r.e.Kind, r.e.Seq, b.BaseOffset(), base)
	}
	if b.LastOffset() < offset {
		return b, nil
	}
	if b, err = r.at(ctx, pos, size); err != nil {
		return nil, err
	}
	if !r.trusted {
		if err := record.CheckCRC(b); err != nil {
			r.set.metrics.corruptions.Inc()
			return nil, corruptf("batch at offset %d in %v %d: %w", b.BaseOffset(), r.e.Kind, r.e.Seq, err)
		}
	}
	return b, nil
}

// batchSize returns the size that a batch's header claims.
func batchSize(b record.Batch) (uint32, bool) {
	size := int64(int32(binary.BigEndian.Uint32(b[8:]))) + 12 // the length field counts what follows it
	return uint32(size), size >= record.HeaderSize
}

func (r *chunkReader) forget() {
	for pos := uint32(0); pos < r.e.Len; pos += pieceMax {
		key, _ := r.set.pieceOf(&r.e, pos)
		r.set.cache.drop(key)
	}
}

// index returns the extents of a part, with lives numbered as in the Set.
func (s *Set) index(ctx context.Context, id protocol.PartitionID, p *Part) ([]Extent, error) {
	key, load := s.indexOf(id, p)
	b := s.cache.acquire(ctx, key, load)
	defer b.Release()
	if err := b.wait(ctx); err != nil {
		return nil, err
	}
	return b.extents, nil
}

func (s *Set) indexOf(id protocol.PartitionID, p *Part) (blockKey, loader) {
	key, want := blockKey{objectID: p.object(), pos: p.Pos, len: p.Len}, *p
	return key, func(ctx context.Context, b *block) (err error) {
		b.extents, err = s.loadIndex(ctx, id, &want)
		return err
	}
}

func (s *Set) loadIndex(ctx context.Context, id protocol.PartitionID, p *Part) ([]Extent, error) {
	name := s.keyOf(p.object())
	data := make([]byte, p.Len)
	var bad error
	for range 2 {
		if _, err := s.readSummed(ctx, name, data, int64(p.Pos)); err != nil {
			return nil, err
		}
		extents, err := p.extents(id, data)
		if err == nil {
			return extents, nil
		}
		bad = err
	}
	s.metrics.corruptions.Inc()
	return nil, fmt.Errorf("index of %v in %s at %d: %w", id, name, p.Pos, bad)
}

// extents decodes the index that p refers to, with lives numbered as in the Set.
func (p *Part) extents(id protocol.PartitionID, data []byte) ([]Extent, error) {
	x, err := p.decodeIndex(id, data)
	if err != nil {
		return nil, err
	}
	for i := range x.Extents {
		x.Extents[i].Seq, x.Extents[i].Life = p.Seq, p.Life
	}
	return x.Extents, nil
}

// decodeIndex decodes the index that p refers to and checks that it is that one.
func (p *Part) decodeIndex(id protocol.PartitionID, data []byte) (Index, error) {
	x, rest, err := DecodeIndex(data)
	if err != nil {
		return x, err
	}
	if again := x.part(p.Seq, p.Life, p.Pos, data); again != *p || len(rest) > 0 || x.Partition != id {
		return x, corruptf("index of %v from %d to %d, want %v from %d to %d", x.Partition, again.Base, again.Last, id, p.Base, p.Last)
	}
	return x, nil
}
