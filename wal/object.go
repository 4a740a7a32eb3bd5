package wal

import (
	"bytes"
	"slices"
	"sort"
	"sync/atomic"

	"github.com/tidemill/tidemill/internal/memory"
	"github.com/tidemill/tidemill/objectstore"
)

// pieceMin is how large an entry must be to stay where it lies: what is smaller is cheaper to copy than to point at.
const pieceMin = 8 << 10

// An Object is the bytes of one slot, in pieces: large entries lie where they came from, the rest is gathered. It is
// counted by reference, and immutable as long as a reference is held; the memory of one that is never released is not
// used again.
type Object struct {
	pieces [][]byte
	// ends[i] is where piece i ends in the object.
	ends   []uint32
	crc    uint32
	blocks []*memory.Block
	taken  int64
	refs   atomic.Int32
}

// NewObject returns an object of these bytes, which the caller leaves to it.
func NewObject(b []byte) *Object {
	o := &Object{pieces: [][]byte{b}, ends: []uint32{uint32(len(b))}, taken: int64(len(b))}
	o.refs.Store(1)
	return o
}

// add appends a piece. One that continues the last piece in memory is joined to it.
func (o *Object) add(p []byte) {
	end := o.Size() + len(p)
	if n := len(o.pieces); n > 0 {
		last := o.pieces[n-1]
		if room := cap(last) - len(last); room >= len(p) && &last[:len(last)+1][len(last)] == &p[0] {
			o.pieces[n-1] = last[:len(last)+len(p)]
			o.ends[n-1] = uint32(end)
			return
		}
	}
	o.pieces = append(o.pieces, p)
	o.ends = append(o.ends, uint32(end))
}

// hold keeps a block as long as the object lives. Blocks come in the order of entries: those of a block are neighbours.
func (o *Object) hold(b *memory.Block) {
	if n := len(o.blocks); n > 0 && o.blocks[n-1] == b {
		return
	}
	b.Retain()
	o.own(b)
}

// own takes over a reference to a block.
func (o *Object) own(b *memory.Block) {
	o.blocks = append(o.blocks, b)
	o.taken += int64(b.Cap())
}

// Size returns the object's length.
func (o *Object) Size() int {
	if len(o.ends) == 0 {
		return 0
	}
	return int(o.ends[len(o.ends)-1])
}

// Taken returns what the object keeps of the machine's memory, which may be more than its size.
func (o *Object) Taken() int64 { return o.taken }

// Bytes returns a copy of the object.
func (o *Object) Bytes() []byte { return slices.Concat(o.pieces...) }

// At returns the n bytes from pos on if they lie in one piece, as every entry does.
func (o *Object) At(pos, n uint32) (b []byte, ok bool) {
	i := o.find(pos)
	if i == len(o.pieces) {
		return nil, false
	}
	from := pos - (o.ends[i] - uint32(len(o.pieces[i])))
	if n > o.ends[i]-pos {
		return nil, false
	}
	return o.pieces[i][from : from+n : from+n], true
}

// begins reports whether header is the object's.
func (o *Object) begins(header []byte) bool {
	b, ok := o.At(0, HeaderLen)
	return ok && bytes.Equal(b, header)
}

// AppendRange appends the n bytes from pos on, as they lie, to dst.
func (o *Object) AppendRange(dst [][]byte, pos, n uint32) [][]byte {
	for i := o.find(pos); n > 0 && i < len(o.pieces); i++ {
		from := pos - (o.ends[i] - uint32(len(o.pieces[i])))
		take := min(n, o.ends[i]-pos)
		dst = append(dst, o.pieces[i][from:from+take:from+take])
		pos, n = pos+take, n-take
	}
	return dst
}

// find returns the piece that holds byte pos.
func (o *Object) find(pos uint32) int {
	return sort.Search(len(o.ends), func(i int) bool { return o.ends[i] > pos })
}

// body returns the object as stores take it.
func (o *Object) body() objectstore.Body {
	return objectstore.Body{Pieces: o.pieces, Size: int64(o.Size()), CRC32C: o.crc}
}

// Retain adds a reference.
func (o *Object) Retain() { o.refs.Add(1) }

// Release drops a reference; the last one gives the memory back.
func (o *Object) Release() {
	switch n := o.refs.Add(-1); {
	case n < 0:
		panic("wal: object released twice")
	case n == 0:
		for _, b := range o.blocks {
			b.Release()
		}
		o.pieces, o.ends, o.blocks = nil, nil, nil
	}
}
