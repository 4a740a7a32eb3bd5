package partition

import (
	"encoding/binary"

	"github.com/tidemill/tidemill/internal/crc32c"
	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/protocol/record"
	"github.com/tidemill/tidemill/wal"
)

// What follows reads stored objects without a Set, for audits and for people.

// NoTimestamp is the largest timestamp of an extent without records.
const NoTimestamp int64 = minTimestamp

// ManifestHeaderLen is the length of what a manifest object begins with.
const ManifestHeaderLen = objectHeaderLen

// ManifestHeader is the decoded header of a manifest object.
type ManifestHeader struct {
	Life wal.Life
	Seq  int64
	// Size is the length of the whole object.
	Size int64
}

// DecodeManifestHeader decodes and validates the first ManifestHeaderLen bytes of a manifest object. Errors wrap ErrCorrupt.
func DecodeManifestHeader(b []byte) (ManifestHeader, error) {
	be := binary.BigEndian
	switch {
	case len(b) < objectHeaderLen:
		return ManifestHeader{}, corruptf("manifest object of %d bytes is shorter than its header", len(b))
	case string(b[:8]) != objectMagic:
		return ManifestHeader{}, corruptf("manifest object magic is %q", b[:8])
	case be.Uint32(b[60:]) != crc32c.Sum(b[:60]):
		return ManifestHeader{}, corruptf("manifest object header checksum mismatch")
	case be.Uint16(b[8:]) != manifestFormat || be.Uint16(b[10:]) != 0:
		return ManifestHeader{}, corruptf("manifest object format is %d, want %d", be.Uint16(b[8:]), manifestFormat)
	}
	h := ManifestHeader{Life: lifeAt(b[12:]), Seq: int64(be.Uint64(b[32:])), Size: int64(be.Uint64(b[40:]))}
	if h.Seq < 0 || h.Size < objectHeaderLen {
		return h, corruptf("manifest object %d of %d bytes", h.Seq, h.Size)
	}
	return h, nil
}

// NextManifest splits the first manifest off b, which holds manifests back to back. It looks at the length only. Errors wrap ErrCorrupt.
func NextManifest(b []byte) (one, rest []byte, err error) {
	if len(b) < manifestFixedLen+4 {
		return nil, nil, corruptf("manifest in %d bytes is shorter than its fixed fields", len(b))
	}
	size := binary.BigEndian.Uint32(b[8:])
	if size < manifestFixedLen+4 || uint64(size) > uint64(len(b)) {
		return nil, nil, corruptf("manifest of %d bytes in %d", size, len(b))
	}
	return b[:size:size], b[size:], nil
}

// DecodeIndex decodes the index that p refers to and checks that it is that one, of partition id. data is the Len bytes at Pos of the
// segment. The extents have no life and number. Errors wrap ErrCorrupt.
func (p *Part) DecodeIndex(id protocol.PartitionID, data []byte) (Index, error) {
	return p.decodeIndex(id, data)
}

// BatchSum is one batch's share of the sums of extents and parts: a hash of its offsets and its checksum.
func BatchSum(b record.Batch) uint64 { return batchSum(b) }
