package partition

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/protocol/record"
	"github.com/tidemill/tidemill/wal"
)

// A chunkReader reads the chunk of one extent. Small chunks are one piece in memory; larger ones are read in pieces on demand.
type chunkReader struct {
	set *Set
	e   Extent
	// object is the slot when that is in memory, and held by whoever made the reader. Else whole is the chunk's bytes if they are at hand.
	object *wal.Object
	whole  []byte
	// trusted: the bytes are our own, or the chunk's checksum was right. Otherwise each batch is checked.
	trusted bool
}

// prefetch begins to load what the extent needs first, unless that is in memory. It returns the block to wait for, or nil.
func (s *Set) prefetch(ctx context.Context, e *Extent) *block {
	if e.Life == s.life && s.tail.has(e.Seq) {
		return nil
	}
	key, load := s.pieceOf(e, 0)
	return s.cache.start(ctx, key, load)
}

// openChunk returns a reader of e's chunk. The caller releases its object if it has one.
func (s *Set) openChunk(ctx context.Context, e *Extent) (chunkReader, error) {
	r := chunkReader{set: s, e: *e}
	if e.Life == s.life {
		if object := s.tail.get(e.Seq); object != nil {
			s.metrics.tailHits.Inc()
			if size := object.Size(); int64(e.Pos)+int64(e.Len) > int64(size) {
				object.Release()
				return r, corruptf("chunk at %d+%d of slot %d with %d bytes", e.Pos, e.Len, e.Seq, size)
			}
			r.object, r.trusted = object, true
			return r, nil
		}
	}
	s.metrics.tailMisses.Inc()
	if e.Len > pieceMax {
		return r, nil
	}
	key, load := s.pieceOf(e, 0)
	b := s.cache.start(ctx, key, load)
	if err := b.wait(ctx); err != nil {
		return r, err
	}
	r.whole, r.trusted = b.data, b.whole
	return r, nil
}

// pieceOf returns the key and the loader of the piece that holds byte pos of the chunk.
func (s *Set) pieceOf(e *Extent, pos uint32) (blockKey, loader) {
	from := pos - pos%pieceMax
	key := blockKey{life: e.Life, seq: e.Seq, pos: e.Pos + from, len: min(pieceMax, e.Len-from)}
	crc, single := e.CRC, e.Len <= pieceMax
	return key, func(ctx context.Context, b *block) error {
		name := wal.SlotKey(s.lives.life(key.life), key.seq)
		for range 2 { // a flipped bit on the way is not damage
			data, err := s.readAt(ctx, name, key)
			if err != nil {
				return err
			}
			b.data = data
			if !single {
				return nil // each batch is checked when it is used
			}
			if b.whole = crc32.Checksum(data, castagnoli) == crc; b.whole {
				return nil
			}
		}
		s.metrics.corruptions.Inc()
		b.fleeting = true
		return nil // batches whose own checksum is right are served: only the damaged offsets fail
	}
}

func (s *Set) readAt(ctx context.Context, name string, key blockKey) ([]byte, error) {
	data := make([]byte, key.len)
	s.metrics.loads.Inc()
	if err := s.opts.Store.ReadAt(ctx, name, data, int64(key.pos)); err != nil {
		return nil, storeError(fmt.Errorf("read %s at %d+%d: %w", name, key.pos, key.len, err))
	}
	s.metrics.loadedBytes.Add(float64(len(data)))
	return data, nil
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
		key, load := r.set.pieceOf(&r.e, pos)
		b := r.set.cache.start(ctx, key, load)
		if next := pos - pos%pieceMax + pieceMax; joined == nil && next < r.e.Len && pos+n > next-pieceMax/4 {
			key, load := r.set.pieceOf(&r.e, next)
			r.set.cache.start(ctx, key, load)
		}
		if err := b.wait(ctx); err != nil {
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
		return corruptf("chunk in slot %d ends at offset %d, want %d", r.e.Seq, next-1, r.e.Last)
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
	if !ok || b.Magic() != 2 || b.BaseOffset() != base || b.LastOffsetDelta() < 0 || b.LastOffset() > r.e.Last || size > r.e.Len-pos {
		return nil, corruptf("batch of %d bytes at %d in a chunk of slot %d: base offset %d, want %d", size, pos, r.e.Seq, b.BaseOffset(), base)
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
			return nil, corruptf("batch at offset %d in slot %d: %w", base, r.e.Seq, err)
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

// page returns the extents of a page, with lives numbered as in the Set.
func (s *Set) page(ctx context.Context, id protocol.PartitionID, ref *PageRef) ([]Extent, error) {
	key := blockKey{manifest: true, life: ref.Life, seq: ref.Seq, pos: ref.Pos, len: ref.Len}
	want := *ref
	b := s.cache.start(ctx, key, func(ctx context.Context, b *block) error {
		extents, err := s.loadPage(ctx, id, key, &want)
		b.extents = extents
		return err
	})
	if err := b.wait(ctx); err != nil {
		return nil, err
	}
	return b.extents, nil
}

func (s *Set) loadPage(ctx context.Context, id protocol.PartitionID, key blockKey, want *PageRef) ([]Extent, error) {
	name := objectKey(s.lives.life(key.life), key.seq)
	var bad error
	for range 2 {
		data, err := s.readAt(ctx, name, key)
		if err != nil {
			return nil, err
		}
		extents, lives, err := decodePage(data, id)
		if err == nil && (crc32.Checksum(data, castagnoli) != want.CRC || extents[0].Base != want.Base || extents[len(extents)-1].Last != want.Last) {
			err = corruptf("page of offsets %d-%d, want %d-%d", extents[0].Base, extents[len(extents)-1].Last, want.Base, want.Last)
		}
		if err == nil {
			ids := s.lives.adopt(lives)
			for i := range extents {
				extents[i].Life = ids[extents[i].Life]
			}
			return extents, nil
		}
		bad = err
	}
	s.metrics.corruptions.Inc()
	return nil, fmt.Errorf("page of %v in %s at %d: %w", id, name, key.pos, bad)
}
