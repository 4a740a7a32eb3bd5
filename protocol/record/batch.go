// Package record reads, checks, stamps and builds record batches of format v2.
//
// A Batch is a view on bytes: nothing is decoded until asked for, so a produced batch travels from socket to object as it
// came. Invariants: only SetBaseOffset, SetPartitionLeaderEpoch, SetLogAppendTime and SetCreateTime change a batch, and only
// the last two touch what the CRC covers; decompression never exceeds its Limits.
//
//	 0 baseOffset i64          21 attributes i16       43 producerId i64
//	 8 batchLength i32         23 lastOffsetDelta i32  51 producerEpoch i16
//	12 partitionLeaderEpoch    27 baseTimestamp i64    53 baseSequence i32
//	16 magic i8                35 maxTimestamp i64     57 recordCount i32
//	17 crc u32 (of 21..)                               61 records
package record

import (
	"encoding/binary"
	"hash/crc32"
	"math"
)

// HeaderSize is the size of a batch without its records.
const HeaderSize = 61

// CoveredFrom is where what the CRC covers begins; it goes to the batch's end.
const CoveredFrom = 21

// Bits of the attributes.
const (
	AttrCodec         int16 = 0x07
	AttrLogAppendTime int16 = 0x08
	AttrTransactional int16 = 0x10
	AttrControl       int16 = 0x20
)

// lengthOverhead is how much a batch is longer than its batchLength field says.
const lengthOverhead = 12

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// A Batch is the bytes of one v2 record batch. Its accessors need at least HeaderSize bytes, which First and Next
// guarantee.
type Batch []byte

// BaseOffset returns the offset of the first record.
func (b Batch) BaseOffset() int64 { return int64(binary.BigEndian.Uint64(b)) }

// PartitionLeaderEpoch returns the leader epoch that stamped the batch.
func (b Batch) PartitionLeaderEpoch() int32 { return int32(binary.BigEndian.Uint32(b[12:])) }

// Magic returns the format version, 2.
func (b Batch) Magic() int8 { return int8(b[16]) }

// CRC returns the checksum that the batch claims.
func (b Batch) CRC() uint32 { return binary.BigEndian.Uint32(b[17:]) }

// Attributes returns the attribute bits.
func (b Batch) Attributes() int16 { return int16(binary.BigEndian.Uint16(b[21:])) }

// LastOffsetDelta returns the last record's offset less the base offset.
func (b Batch) LastOffsetDelta() int32 { return int32(binary.BigEndian.Uint32(b[23:])) }

// LastOffset returns the offset of the last record.
func (b Batch) LastOffset() int64 { return b.BaseOffset() + int64(b.LastOffsetDelta()) }

// BaseTimestamp returns the timestamp that record timestamps are relative to, in ms.
func (b Batch) BaseTimestamp() int64 { return int64(binary.BigEndian.Uint64(b[27:])) }

// MaxTimestamp returns the largest record timestamp, in ms, as the header claims it.
func (b Batch) MaxTimestamp() int64 { return int64(binary.BigEndian.Uint64(b[35:])) }

// ProducerID returns the producer id, or -1.
func (b Batch) ProducerID() int64 { return int64(binary.BigEndian.Uint64(b[43:])) }

// ProducerEpoch returns the producer epoch, or -1.
func (b Batch) ProducerEpoch() int16 { return int16(binary.BigEndian.Uint16(b[51:])) }

// BaseSequence returns the sequence number of the first record, or -1.
func (b Batch) BaseSequence() int32 { return int32(binary.BigEndian.Uint32(b[53:])) }

// LastSequence returns the sequence number of the last record, or -1 if the batch has none (P4).
func (b Batch) LastSequence() int32 {
	if b.BaseSequence() < 0 {
		return -1
	}
	return AddSequence(b.BaseSequence(), b.LastOffsetDelta())
}

// NumRecords returns the record count that the header claims.
func (b Batch) NumRecords() int32 { return int32(binary.BigEndian.Uint32(b[57:])) }

// Codec returns how the records are compressed.
func (b Batch) Codec() Codec { return Codec(b.Attributes() & AttrCodec) }

// IsLogAppendTime reports whether the broker set the timestamps.
func (b Batch) IsLogAppendTime() bool { return b.Attributes()&AttrLogAppendTime != 0 }

// IsTransactional reports whether the batch is part of a transaction.
func (b Batch) IsTransactional() bool { return b.Attributes()&AttrTransactional != 0 }

// IsControl reports whether the batch holds a transaction marker in place of data.
func (b Batch) IsControl() bool { return b.Attributes()&AttrControl != 0 }

// RecordBytes returns the records as they are stored, compressed or not.
func (b Batch) RecordBytes() []byte { return b[HeaderSize:] }

// SetBaseOffset stamps the base offset. The CRC does not cover it.
func (b Batch) SetBaseOffset(offset int64) { binary.BigEndian.PutUint64(b, uint64(offset)) }

// SetPartitionLeaderEpoch stamps the leader epoch. The CRC does not cover it.
func (b Batch) SetPartitionLeaderEpoch(epoch int32) {
	binary.BigEndian.PutUint32(b[12:], uint32(epoch))
}

// SetLogAppendTime sets the time of the append, in ms, as the timestamp of all records, and recomputes the CRC: it reads
// the whole batch once.
func (b Batch) SetLogAppendTime(ms int64) {
	binary.BigEndian.PutUint16(b[21:], uint16(b.Attributes()|AttrLogAppendTime))
	binary.BigEndian.PutUint64(b[35:], uint64(ms))
	b.setCRC()
}

// SetCreateTime clears the timestamp-type bit and sets the largest timestamp, as a broker does when a topic keeps the
// producers' times (3.2 rules 9 and 11). It recomputes the CRC only if something changed.
func (b Batch) SetCreateTime(maxTimestamp int64) {
	if !b.IsLogAppendTime() && b.MaxTimestamp() == maxTimestamp {
		return
	}
	binary.BigEndian.PutUint16(b[21:], uint16(b.Attributes()&^AttrLogAppendTime))
	binary.BigEndian.PutUint64(b[35:], uint64(maxTimestamp))
	b.setCRC()
}

func (b Batch) setCRC() { binary.BigEndian.PutUint32(b[17:], crc32.Checksum(b[21:], castagnoli)) }

// AddSequence returns the sequence number n after seq: after the largest comes 0 (P4).
func AddSequence(seq, n int32) int32 {
	if seq > math.MaxInt32-n {
		return n - (math.MaxInt32 - seq) - 1
	}
	return seq + n
}

// SubSequence returns the sequence number n before seq.
func SubSequence(seq, n int32) int32 {
	if seq < n {
		return math.MaxInt32 - (n - seq) + 1
	}
	return seq - n
}
