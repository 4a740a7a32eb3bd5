package partition

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"

	"github.com/tidemill/tidemill/metadata"
	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/wal"
)

// The formats of a manifest object's parts are drawn in docs/formats/manifest.md. All integers are big-endian; each part ends with
// the CRC32C of its bytes before.
const (
	objectMagic      = "TIDEMFST"
	objectHeaderLen  = 64
	manifestMagic    = "TMMF"
	manifestFixedLen = 96
	pageMagic        = "TMPG"
	pageFixedLen     = 40
	manifestFormat   = 1

	lifeLen          = 20
	epochLen         = 16
	producerFixedLen = 20
	producerBatchLen = 24

	// maxObject bounds positions in objects to what 32 bits hold with room for sums.
	maxObject = 1 << 31
	maxOffset = math.MaxInt64
	// pageExtentsMin extents stay inline in the manifest before they become a page, so pages stay few: at most one per thousand
	// extents, 60 bytes each. pageExtentsMax bounds the 48-byte extents that one lookup loads to 192 KiB.
	pageExtentsMin = 1024
	pageExtentsMax = 4096
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func corruptf(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrCorrupt}, args...)...)
}

// A Manifest is everything that is needed to open a partition: one committed moment of it.
type Manifest struct {
	Partition protocol.PartitionID
	// Version counts the partition's manifests from 1.
	Version   int64
	LogStart  int64
	EndOffset int64
	// Lives is the table that Epochs, Pages and Extents refer to by index.
	Lives     []wal.Life
	Epochs    []Epoch
	Producers []Producer
	Pages     []PageRef
	// Extents are the newest, behind the pages.
	Extents []Extent
	// CoordinatorOffset and Coordinator are the state of the coordinator that runs on the partition: its machine after all records
	// below the offset, -1 when there is none.
	CoordinatorOffset int64
	Coordinator       []byte
}

// An Epoch is one entry of the leader epoch history: offsets from Start on were written by Life at Epoch.
type Epoch struct {
	Epoch int32
	Life  uint32
	Start int64
}

// Producer is what is remembered of one producer (P1).
type Producer struct {
	ID    int64
	Epoch int16
	// LastWrite is when it last wrote by the broker's clock, in ms.
	LastWrite int64
	// Batches are its last ones of this epoch, oldest first.
	Batches []ProducerBatch
}

// ProducerBatch is a remembered batch of a producer.
type ProducerBatch struct {
	// LastSeq is the sequence number of the last record, Delta how many records come before it.
	LastSeq, Delta int32
	LastOffset     int64
	MaxTimestamp   int64
}

// Encode returns the manifest's bytes, checksum included.
func (m *Manifest) Encode() []byte {
	size := manifestFixedLen + len(m.Lives)*lifeLen + len(m.Epochs)*epochLen + len(m.Pages)*pageRefLen + len(m.Extents)*extentLen + len(m.Coordinator) + 4
	for i := range m.Producers {
		size += producerFixedLen + len(m.Producers[i].Batches)*producerBatchLen
	}
	be := binary.BigEndian
	b := make([]byte, size)
	copy(b, manifestMagic)
	be.PutUint16(b[4:], manifestFormat)
	be.PutUint32(b[8:], uint32(size))
	copy(b[12:28], m.Partition.Topic[:])
	be.PutUint32(b[28:], uint32(m.Partition.Partition))
	be.PutUint64(b[32:], uint64(m.Version))
	be.PutUint64(b[40:], uint64(m.LogStart))
	be.PutUint64(b[48:], uint64(m.EndOffset))
	be.PutUint64(b[56:], uint64(m.CoordinatorOffset))
	for i, n := range []int{len(m.Lives), len(m.Epochs), len(m.Producers), len(m.Pages), len(m.Extents), len(m.Coordinator)} {
		be.PutUint32(b[64+4*i:], uint32(n))
	}
	p := putLives(b[manifestFixedLen:], m.Lives)
	for _, e := range m.Epochs {
		be.PutUint32(p, uint32(e.Epoch))
		be.PutUint32(p[4:], e.Life)
		be.PutUint64(p[8:], uint64(e.Start))
		p = p[epochLen:]
	}
	for i := range m.Producers {
		p = m.Producers[i].put(p)
	}
	for i := range m.Pages {
		m.Pages[i].put(p)
		p = p[pageRefLen:]
	}
	p = putExtents(p, m.Extents)
	copy(p, m.Coordinator)
	be.PutUint32(b[size-4:], crc32.Checksum(b[:size-4], castagnoli))
	return b
}

func (pr *Producer) put(b []byte) []byte {
	be := binary.BigEndian
	be.PutUint64(b, uint64(pr.ID))
	be.PutUint16(b[8:], uint16(pr.Epoch))
	be.PutUint16(b[10:], uint16(len(pr.Batches)))
	be.PutUint64(b[12:], uint64(pr.LastWrite))
	b = b[producerFixedLen:]
	for _, x := range pr.Batches {
		be.PutUint32(b, uint32(x.LastSeq))
		be.PutUint32(b[4:], uint32(x.Delta))
		be.PutUint64(b[8:], uint64(x.LastOffset))
		be.PutUint64(b[16:], uint64(x.MaxTimestamp))
		b = b[producerBatchLen:]
	}
	return b
}

func putLives(b []byte, lives []wal.Life) []byte {
	be := binary.BigEndian
	for _, l := range lives {
		be.PutUint32(b, uint32(l.Broker))
		be.PutUint64(b[4:], l.Epoch)
		copy(b[12:lifeLen], l.Nonce[:])
		b = b[lifeLen:]
	}
	return b
}

func putExtents(b []byte, extents []Extent) []byte {
	for i := range extents {
		extents[i].put(b)
		b = b[extentLen:]
	}
	return b
}

// encodePage returns a page's bytes: its partition, the lives that its extents name, and the extents.
func encodePage(id protocol.PartitionID, lives []wal.Life, extents []Extent) []byte {
	be := binary.BigEndian
	size := pageFixedLen + len(lives)*lifeLen + len(extents)*extentLen + 4
	b := make([]byte, size)
	copy(b, pageMagic)
	be.PutUint16(b[4:], manifestFormat)
	be.PutUint32(b[8:], uint32(size))
	copy(b[12:28], id.Topic[:])
	be.PutUint32(b[28:], uint32(id.Partition))
	be.PutUint32(b[32:], uint32(len(lives)))
	be.PutUint32(b[36:], uint32(len(extents)))
	putExtents(putLives(b[pageFixedLen:], lives), extents)
	be.PutUint32(b[size-4:], crc32.Checksum(b[:size-4], castagnoli))
	return b
}

// encodeObjectHeader returns the first bytes of a manifest object, which make it known without metadata.
func encodeObjectHeader(life wal.Life, seq int64, size int) []byte {
	be := binary.BigEndian
	b := make([]byte, objectHeaderLen)
	copy(b, objectMagic)
	be.PutUint16(b[8:], manifestFormat)
	putLives(b[12:], []wal.Life{life})
	be.PutUint64(b[32:], uint64(seq))
	be.PutUint64(b[40:], uint64(size))
	be.PutUint32(b[60:], crc32.Checksum(b[:60], castagnoli))
	return b
}

// objectKey names a manifest object: "manifest/<broker>/<incarnation>/<seq:020d>".
func objectKey(l wal.Life, seq int64) string { return fmt.Sprintf("manifest/%s/%020d", l, seq) }

// pointerTo names the manifest m that lies in an object at pos.
func pointerTo(m *Manifest, key string, pos int64, encoded []byte) metadata.ManifestPointer {
	return metadata.ManifestPointer{
		Version: m.Version, Key: key, Pos: pos, Len: int32(len(encoded)),
		CRC: crc32.Checksum(encoded, castagnoli), EndOffset: m.EndOffset,
	}
}
