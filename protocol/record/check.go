package record

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// ErrInvalid means that a batch breaks a rule of its format: Kafka answers INVALID_RECORD.
var ErrInvalid = errors.New("invalid record batch")

// ErrCorrupt means that bytes were damaged: Kafka answers CORRUPT_MESSAGE, and a client sends the batch again.
var ErrCorrupt = errors.New("corrupt record batch")

// ErrCodec means that the batch names a compression that does not exist.
var ErrCodec = errors.New("unknown compression")

// ErrBomb means that the batch unpacks to more than the Limits allow.
var ErrBomb = errors.New("compressed records exceed the limit")

const (
	// upToMagic is how many bytes are needed to tell a batch's format.
	upToMagic = 17
	// minLegacyLength is the least batchLength of any format: below it the bytes are no batch.
	minLegacyLength = 14
)

// First returns the one batch of a produced records field, as rule 4 of 3.2 wants it: the first batch whole and of
// format 2, and no second one. A trailing piece too short to be a batch is dropped, as Kafka drops it (3.13). It reads the
// header only: CheckCRC, CheckHeader and CheckRecords come next, in that order. The result aliases records.
func First(records []byte) (Batch, error) {
	n, err := frameSize(records)
	if err != nil {
		return nil, err
	}
	if n == 0 {
		return nil, fmt.Errorf("no whole batch in %d bytes: %w", len(records), ErrInvalid)
	}
	if magic := int8(records[16]); magic != 2 {
		return nil, fmt.Errorf("format %d: %w", magic, ErrInvalid)
	}
	if n < HeaderSize {
		return nil, fmt.Errorf("batch of %d bytes: %w", n, ErrCorrupt)
	}
	more, err := frameSize(records[n:])
	if err != nil {
		return nil, err
	}
	if more > 0 {
		return nil, fmt.Errorf("more than one batch: %w", ErrInvalid)
	}
	return Batch(records[:n:n]), nil
}

// frameSize returns the size of the batch that b begins with, or 0 if b holds no whole one.
func frameSize(b []byte) (int, error) {
	if len(b) < lengthOverhead {
		return 0, nil
	}
	length := int32(binary.BigEndian.Uint32(b[8:]))
	if length < minLegacyLength {
		return 0, fmt.Errorf("batch length %d: %w", length, ErrCorrupt)
	}
	if len(b) < upToMagic {
		return 0, nil
	}
	if magic := int8(b[16]); magic < 0 || magic > 2 {
		return 0, fmt.Errorf("format %d: %w", magic, ErrCorrupt)
	}
	n := int64(length) + lengthOverhead
	if n > int64(len(b)) {
		return 0, nil
	}
	return int(n), nil
}

// Next splits the first batch off buf, which holds stored batches back to back. It returns nil at the end, and also for a
// last batch that was cut short. A batch that is not of format 2 is ErrCorrupt: nothing else is ever stored.
func Next(buf []byte) (b Batch, rest []byte, err error) {
	n, err := frameSize(buf)
	if err != nil || n == 0 {
		return nil, nil, err
	}
	if n < HeaderSize || buf[16] != 2 {
		return nil, nil, fmt.Errorf("batch of %d bytes, format %d: %w", n, buf[16], ErrCorrupt)
	}
	return Batch(buf[:n:n]), buf[n:], nil
}

// Check is CheckCRC and CheckHeader, for batches that were stored or built by a broker.
func Check(b Batch) error {
	if err := CheckCRC(b); err != nil {
		return err
	}
	return CheckHeader(b)
}

// CheckCRC returns ErrCorrupt unless the checksum is right. It reads the whole batch.
func CheckCRC(b Batch) error {
	if got := crc32.Checksum(b[21:], castagnoli); got != b.CRC() {
		return fmt.Errorf("checksum %08x, want %08x: %w", got, b.CRC(), ErrCorrupt)
	}
	return nil
}

// CheckHeader holds the header's fields against each other: counts, sequence and codec (3.2 rule 8). Whether control
// batches and base offsets are allowed depends on who sent the batch: CheckClient asks that.
func CheckHeader(b Batch) error {
	n, delta := b.NumRecords(), b.LastOffsetDelta()
	switch {
	case n <= 0 || delta < 0:
		return fmt.Errorf("record count %d, last offset delta %d: %w", n, delta, ErrInvalid)
	case int64(delta)+1 != int64(n):
		return fmt.Errorf("last offset delta %d for %d records: %w", delta, n, ErrInvalid)
	case b.ProducerID() >= 0 && b.BaseSequence() < 0:
		return fmt.Errorf("producer id %d without a sequence number: %w", b.ProducerID(), ErrInvalid)
	case b.Codec() > Zstd:
		return fmt.Errorf("codec %d: %w", b.Codec(), ErrCodec)
	}
	return nil
}

// CheckClient refuses what only brokers may write: a control batch (3.2 rule 8).
func CheckClient(b Batch) error {
	if b.IsControl() {
		return fmt.Errorf("control batch from a client: %w", ErrInvalid)
	}
	return nil
}
