package partition

import (
	"encoding/binary"

	"github.com/tidemill/tidemill/internal/crc32c"
	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/wal"
)

// A segment is a header, blocks, and one index for each part. It is drawn in docs/formats/segment.md. Integers are big-endian.
const (
	segmentMagic     = "TIDESEGM"
	segmentFormat    = 1
	SegmentHeaderLen = 64
	indexMagic       = "TMIX"
	indexFixedLen    = 56
)

// SegmentHeader is the decoded header of a segment.
type SegmentHeader struct {
	Life wal.Life
	Seq  int64
	// Size is the length of the whole object, IndexPos where its indexes begin, which follow the blocks to the object's end.
	Size, IndexPos int64
	// Parts is how many indexes there are.
	Parts int
}

func (h *SegmentHeader) put(b []byte) {
	be := binary.BigEndian
	copy(b, segmentMagic)
	be.PutUint16(b[8:], segmentFormat)
	putLives(b[12:], []wal.Life{h.Life})
	be.PutUint64(b[32:], uint64(h.Seq))
	be.PutUint64(b[40:], uint64(h.Size))
	be.PutUint64(b[48:], uint64(h.IndexPos))
	be.PutUint32(b[56:], uint32(h.Parts))
	be.PutUint32(b[60:], crc32c.Sum(b[:60]))
}

// DecodeSegmentHeader decodes and validates the first SegmentHeaderLen bytes of a segment. Errors wrap ErrCorrupt.
func DecodeSegmentHeader(b []byte) (SegmentHeader, error) {
	be := binary.BigEndian
	switch {
	case len(b) < SegmentHeaderLen:
		return SegmentHeader{}, corruptf("segment of %d bytes is shorter than its header", len(b))
	case string(b[:8]) != segmentMagic:
		return SegmentHeader{}, corruptf("segment magic is %q", b[:8])
	case be.Uint32(b[60:]) != crc32c.Sum(b[:60]):
		return SegmentHeader{}, corruptf("segment header checksum mismatch")
	case be.Uint16(b[8:]) != segmentFormat || be.Uint16(b[10:]) != 0:
		return SegmentHeader{}, corruptf("segment format is %d, want %d", be.Uint32(b[8:])>>16, segmentFormat)
	}
	h := SegmentHeader{
		Life: lifeAt(b[12:]), Seq: int64(be.Uint64(b[32:])), Size: int64(be.Uint64(b[40:])), IndexPos: int64(be.Uint64(b[48:])),
		Parts: int(be.Uint32(b[56:])),
	}
	if h.Seq < 0 || h.IndexPos < SegmentHeaderLen || h.Size < h.IndexPos || h.Size > maxObject || int64(h.Parts) > (h.Size-h.IndexPos)/indexFixedLen || h.Parts == 0 {
		return h, corruptf("segment %d of %d bytes with %d indexes at %d", h.Seq, h.Size, h.Parts, h.IndexPos)
	}
	return h, nil
}

// An Index lists the extents of a part. They lie in the segment that holds the index; neither its life nor its number are in them.
type Index struct {
	Partition protocol.PartitionID
	Sparse    bool
	Extents   []Extent
}

// Encode returns the index's bytes, checksum included.
func (x *Index) Encode() []byte {
	be := binary.BigEndian
	size := indexFixedLen + len(x.Extents)*blockLen + 4
	b := make([]byte, size)
	copy(b, indexMagic)
	be.PutUint16(b[4:], segmentFormat)
	be.PutUint16(b[6:], uint16(sparseFlag(x.Sparse)))
	be.PutUint32(b[8:], uint32(size))
	copy(b[12:28], x.Partition.Topic[:])
	be.PutUint32(b[28:], uint32(x.Partition.Partition))
	be.PutUint64(b[32:], uint64(x.Extents[0].Base))
	be.PutUint64(b[40:], uint64(x.Extents[len(x.Extents)-1].Last))
	be.PutUint32(b[48:], uint32(len(x.Extents)))
	p := b[indexFixedLen:]
	for i := range x.Extents {
		x.Extents[i].putBlock(p)
		p = p[blockLen:]
	}
	be.PutUint32(b[size-4:], crc32c.Sum(b[:size-4]))
	return b
}

// DecodeIndex decodes and validates the index that b begins with, and returns what follows it. Errors wrap ErrCorrupt.
func DecodeIndex(b []byte) (x Index, rest []byte, err error) {
	be := binary.BigEndian
	if len(b) < indexFixedLen+4 {
		return x, nil, corruptf("index of %d bytes is shorter than its fixed fields", len(b))
	}
	size := be.Uint32(b[8:])
	if uint64(size) > uint64(len(b)) {
		return x, nil, corruptf("index of %d bytes in %d", size, len(b))
	}
	b, rest = b[:size], b[size:]
	flags, err := checkRegion(b, indexMagic, indexFixedLen, segmentFormat)
	if err != nil {
		return x, nil, err
	}
	x = Index{Partition: partitionAt(b[12:]), Sparse: flags == flagSparse}
	f := fields{b: b[indexFixedLen : len(b)-4]}
	x.Extents = decodeEach(&f, uint64(be.Uint32(b[48:])), blockLen, getBlock)
	if f.short || len(f.b) != 0 || len(x.Extents) == 0 || flags > flagSparse || be.Uint32(b[52:]) != 0 || x.Partition.Partition < 0 {
		return x, nil, corruptf("index of %d bytes with %d extents and flags %d", size, len(x.Extents), flags)
	}
	base := int64(be.Uint64(b[32:]))
	if base < 0 {
		return x, nil, corruptf("index begins at offset %d", base)
	}
	end, err := checkExtents(x.Extents, base)
	if err != nil {
		return x, nil, err
	}
	if end-1 != int64(be.Uint64(b[40:])) {
		return x, nil, corruptf("index ends at offset %d, its extents at %d", be.Uint64(b[40:]), end-1)
	}
	for i := range x.Extents {
		x.Extents[i].Sparse = x.Sparse
	}
	return x, rest, nil
}

// part returns the reference to the index x, which lies at pos with these bytes.
func (x *Index) part(seq int64, life uint32, pos uint32, encoded []byte) Part {
	p := Part{
		Base: x.Extents[0].Base, Last: x.Extents[len(x.Extents)-1].Last, MaxTimestamp: minTimestamp, Seq: seq, Life: life,
		Pos: pos, Len: uint32(len(encoded)), CRC: crc32c.Sum(encoded), Count: uint32(len(x.Extents)), Sparse: x.Sparse,
	}
	for i := range x.Extents {
		e := &x.Extents[i]
		p.MaxTimestamp = max(p.MaxTimestamp, e.MaxTimestamp)
		p.Bytes += int64(e.Len)
		p.Sum += e.Sum
	}
	return p
}
