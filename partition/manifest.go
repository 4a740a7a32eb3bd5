package partition

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/tidemill/tidemill/internal/crc32c"
	"github.com/tidemill/tidemill/metadata"
	"github.com/tidemill/tidemill/partition/compact"
	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/wal"
)

// The formats of a manifest object's parts are drawn in docs/formats/manifest.md. All integers are big-endian; each part ends with
// the CRC32C of its bytes before.
const (
	objectMagic      = "TIDEMFST"
	objectHeaderLen  = 64
	manifestMagic    = "TMMF"
	manifestFixedLen = 104
	manifestFormat   = 2

	lifeLen          = 20
	epochLen         = 16
	producerFixedLen = 20
	producerBatchLen = 24
	rollLen          = 32
	abortedLen       = 24

	// maxObject bounds positions in objects to what 32 bits hold with room for sums.
	maxObject = 1 << 31
	maxOffset = math.MaxInt64
)

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
	// CompactedTo is the offset up to which compaction has been: what lies from there on is dirty (C3).
	CompactedTo int64
	// Lives is the table that Epochs, Parts and Extents refer to by index.
	Lives     []wal.Life
	Epochs    []Epoch
	Producers []Producer
	// Parts are the data in segments, in order.
	Parts []Part
	// Extents are what lies in slots still, behind the parts.
	Extents []Extent
	// Rolls are the segments that users of Kafka see, in order; the last one is active.
	Rolls []Roll
	// Aborted are the transactions that were aborted and have data in the log, by first offset (F6, C6).
	Aborted []AbortedTxn
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

// AbortedTxn is the range of offsets that an aborted transaction of a producer spans.
type AbortedTxn = compact.AbortedTxn

// Encode returns the manifest's bytes, checksum included.
func (m *Manifest) Encode() []byte {
	size := manifestFixedLen + len(m.Lives)*lifeLen + len(m.Epochs)*epochLen + len(m.Parts)*partLen + len(m.Extents)*extentLen +
		len(m.Rolls)*rollLen + len(m.Aborted)*abortedLen + len(m.Coordinator) + 4
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
	for i, n := range []int{
		len(m.Lives), len(m.Epochs), len(m.Producers), len(m.Parts), len(m.Extents), len(m.Rolls), len(m.Aborted), len(m.Coordinator),
	} {
		be.PutUint32(b[64+4*i:], uint32(n))
	}
	be.PutUint64(b[96:], uint64(m.CompactedTo))
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
	for i := range m.Parts {
		m.Parts[i].put(p)
		p = p[partLen:]
	}
	for i := range m.Extents {
		m.Extents[i].put(p)
		p = p[extentLen:]
	}
	for i := range m.Rolls {
		m.Rolls[i].put(p)
		p = p[rollLen:]
	}
	for _, a := range m.Aborted {
		be.PutUint64(p, uint64(a.ProducerID))
		be.PutUint64(p[8:], uint64(a.First))
		be.PutUint64(p[16:], uint64(a.Last))
		p = p[abortedLen:]
	}
	copy(p, m.Coordinator)
	be.PutUint32(b[size-4:], crc32c.Sum(b[:size-4]))
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

// encodeObjectHeader returns the first bytes of a manifest object, which make it known without metadata.
func encodeObjectHeader(life wal.Life, seq int64, size int) []byte {
	be := binary.BigEndian
	b := make([]byte, objectHeaderLen)
	copy(b, objectMagic)
	be.PutUint16(b[8:], manifestFormat)
	putLives(b[12:], []wal.Life{life})
	be.PutUint64(b[32:], uint64(seq))
	be.PutUint64(b[40:], uint64(size))
	be.PutUint32(b[60:], crc32c.Sum(b[:60]))
	return b
}

// pointerTo names the manifest m that lies in an object at pos.
func pointerTo(m *Manifest, key string, pos int64, encoded []byte) metadata.ManifestPointer {
	return metadata.ManifestPointer{
		Version: m.Version, Key: key, Pos: pos, Len: int32(len(encoded)),
		CRC: crc32c.Sum(encoded), EndOffset: m.EndOffset,
	}
}
