package partition

import (
	"encoding/binary"
	"math/bits"
	"sort"

	"github.com/tidemill/tidemill/protocol/record"
)

// An Extent says where a range of offsets lies: a chunk in a slot, or a block in a segment. It holds no pointer, so that a million of
// them cost the garbage collector nothing.
type Extent struct {
	// Base and Last are the offsets it covers. Those of a sparse one may be covered by no batch.
	Base, Last int64
	// MaxTimestamp is the largest timestamp of its records, in ms; the smallest possible if it holds none.
	MaxTimestamp int64
	// Sum is the sum of its batches' hashes: see batchSum.
	Sum uint64
	// Seq is the object's number in the log, or among the segments, of the life that Life stands for. Life indexes a table that comes
	// with the extent: that of the manifest in storage, that of the Set in memory. The index of a segment stores neither.
	Seq  int64
	Life uint32
	// Pos and Len locate the bytes in the object; CRC is their CRC32C.
	Pos, Len, CRC uint32
	// Kind tells a slot from a segment. Manifests hold extents of slots only.
	Kind ObjectKind
	// Sparse: compaction may have removed batches, so those that are left need not follow each other.
	Sparse bool
}

func (e *Extent) object() objectID { return objectID{e.Kind, e.Life, e.Seq} }

func (e *Extent) byteRange() byteRange { return byteRange{e.object(), e.Pos, e.Len} }

func (e *Extent) reference() reference { return reference{e.object(), int64(e.Len)} }

const (
	// extentLen is what an extent takes in a manifest, blockLen in the index of a segment, where object and life are known.
	extentLen = 56
	blockLen  = 44
)

func (e *Extent) put(b []byte) {
	be := binary.BigEndian
	e.putBlock(b)
	be.PutUint64(b[blockLen:], uint64(e.Seq))
	be.PutUint32(b[blockLen+8:], e.Life)
}

func getExtent(b []byte) Extent {
	be := binary.BigEndian
	e := getBlock(b)
	e.Kind, e.Seq, e.Life = KindSlot, int64(be.Uint64(b[blockLen:])), be.Uint32(b[blockLen+8:])
	return e
}

func (e *Extent) putBlock(b []byte) {
	be := binary.BigEndian
	be.PutUint64(b, uint64(e.Base))
	be.PutUint64(b[8:], uint64(e.Last))
	be.PutUint64(b[16:], uint64(e.MaxTimestamp))
	be.PutUint64(b[24:], e.Sum)
	be.PutUint32(b[32:], e.Pos)
	be.PutUint32(b[36:], e.Len)
	be.PutUint32(b[40:], e.CRC)
}

func getBlock(b []byte) Extent {
	be := binary.BigEndian
	return Extent{
		Base:         int64(be.Uint64(b)),
		Last:         int64(be.Uint64(b[8:])),
		MaxTimestamp: int64(be.Uint64(b[16:])),
		Sum:          be.Uint64(b[24:]),
		Pos:          be.Uint32(b[32:]),
		Len:          be.Uint32(b[36:]),
		CRC:          be.Uint32(b[40:]),
		Kind:         KindSegment,
	}
}

// checkExtents holds extents to a run of offsets without hole or overlap that begins at base and returns where it ends.
func checkExtents(extents []Extent, base int64) (int64, error) {
	for i := range extents {
		e := &extents[i]
		if e.Base != base || e.Last < e.Base || e.Last == maxOffset || e.Seq < 0 || e.Len == 0 || e.Pos > maxObject-e.Len || e.Len > maxObject {
			return 0, corruptf("extent %d-%d of %v %d at %d+%d, want one from %d", e.Base, e.Last, e.Kind, e.Seq, e.Pos, e.Len, base)
		}
		base = e.Last + 1
	}
	return base, nil
}

// findExtent returns the index of the extent that holds offset, len(extents) when offset is behind all.
func findExtent(extents []Extent, offset int64) int {
	return sort.Search(len(extents), func(i int) bool { return extents[i].Last >= offset })
}

// A Part is what a segment holds of one partition: a range of offsets whose extents are listed by an index in the segment.
type Part struct {
	// Base and Last are the offsets it covers; MaxTimestamp, Bytes and Sum sum up its extents.
	Base, Last   int64
	MaxTimestamp int64
	Bytes        int64
	Sum          uint64
	// Seq is the segment's number among those of the life that Life stands for, see Extent.
	Seq  int64
	Life uint32
	// Pos, Len and CRC locate and check the index.
	Pos, Len, CRC uint32
	// Count is the number of extents.
	Count uint32
	// Sparse: compaction has been here, see Extent.
	Sparse bool
}

func (p *Part) object() objectID { return objectID{KindSegment, p.Life, p.Seq} }

func (p *Part) indexRange() byteRange { return byteRange{p.object(), p.Pos, p.Len} }

func (p *Part) reference() reference { return reference{p.object(), p.Bytes} }

// hold is a reference that keeps the object, and leaves open whether what lies in it is needed.
func (p *Part) hold() reference { return reference{p.object(), 0} }

const partLen = 72

func (p *Part) put(b []byte) {
	be := binary.BigEndian
	be.PutUint64(b, uint64(p.Base))
	be.PutUint64(b[8:], uint64(p.Last))
	be.PutUint64(b[16:], uint64(p.MaxTimestamp))
	be.PutUint64(b[24:], uint64(p.Bytes))
	be.PutUint64(b[32:], p.Sum)
	be.PutUint64(b[40:], uint64(p.Seq))
	be.PutUint32(b[48:], p.Life)
	be.PutUint32(b[52:], p.Pos)
	be.PutUint32(b[56:], p.Len)
	be.PutUint32(b[60:], p.CRC)
	be.PutUint32(b[64:], p.Count)
	be.PutUint32(b[68:], sparseFlag(p.Sparse))
}

func getPart(b []byte) Part {
	be := binary.BigEndian
	return Part{
		Base:         int64(be.Uint64(b)),
		Last:         int64(be.Uint64(b[8:])),
		MaxTimestamp: int64(be.Uint64(b[16:])),
		Bytes:        int64(be.Uint64(b[24:])),
		Sum:          be.Uint64(b[32:]),
		Seq:          int64(be.Uint64(b[40:])),
		Life:         be.Uint32(b[48:]),
		Pos:          be.Uint32(b[52:]),
		Len:          be.Uint32(b[56:]),
		CRC:          be.Uint32(b[60:]),
		Count:        be.Uint32(b[64:]),
		Sparse:       be.Uint32(b[68:]) != 0,
	}
}

// flagSparse is the one flag of parts and indexes.
const flagSparse = 1

func sparseFlag(sparse bool) uint32 {
	if sparse {
		return flagSparse
	}
	return 0
}

// checkParts does for parts what checkExtents does for extents. The first one may begin anywhere.
func checkParts(parts []Part, lives int) error {
	for i := range parts {
		p := &parts[i]
		if i > 0 && p.Base != parts[i-1].Last+1 || p.Base < 0 || p.Last < p.Base || p.Last == maxOffset || p.Bytes < 0 || p.Seq < 0 {
			return corruptf("part of offsets %d-%d in segment %d", p.Base, p.Last, p.Seq)
		}
		if p.Count == 0 || p.Pos > maxObject-p.Len || p.Len > maxObject || int64(p.Life) >= int64(lives) {
			return corruptf("part of %d extents at %d+%d of life %d of %d", p.Count, p.Pos, p.Len, p.Life, lives)
		}
	}
	return nil
}

func findPart(parts []Part, offset int64) int {
	return sort.Search(len(parts), func(i int) bool { return parts[i].Last >= offset })
}

// batchSum is one batch's share of the sums that every rewrite must conserve: a hash of its offsets and of its
// checksum, which covers its records.
func batchSum(b record.Batch) uint64 {
	h := mix(uint64(b.BaseOffset()) ^ 0x9e3779b97f4a7c15)
	h = mix(h + uint64(b.LastOffset()))
	return mix(h ^ uint64(b.CRC()))
}

// mix spreads each bit over all.
func mix(x uint64) uint64 {
	hi, lo := bits.Mul64(x^0xa0761d6478bd642f, 0xe7037ed1a0b428db)
	x = hi ^ lo ^ x>>32
	hi, lo = bits.Mul64(x^0x8ebc6af09c88c6e3, 0x589965cc75374cc3)
	return hi ^ lo
}
