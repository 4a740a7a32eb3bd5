package conformance

import (
	"encoding/binary"
	"hash/crc32"
	"testing"
	"time"

	"github.com/tidemill/tidemill/protocol/record"
)

// BatchOf makes a batch of records with the given values, without keys, stamped now.
func BatchOf(values ...string) record.Batch {
	var b record.Builder
	for _, v := range values {
		b.Append(time.Now().UnixMilli(), nil, []byte(v))
	}
	return b.Build()
}

// BatchAt makes a batch of records with the given timestamps.
func BatchAt(timestamps ...int64) record.Batch {
	var b record.Builder
	for _, ts := range timestamps {
		b.Append(ts, nil, []byte("v"))
	}
	return b.Build()
}

// WithProducer makes a batch one of an idempotent producer's.
func WithProducer(b record.Batch, id int64, epoch int16, sequence int32) record.Batch {
	binary.BigEndian.PutUint64(b[43:], uint64(id))
	binary.BigEndian.PutUint16(b[51:], uint16(epoch))
	binary.BigEndian.PutUint32(b[53:], uint32(sequence))
	return Resealed(b)
}

// Resealed gives a batch that was changed the right checksum.
func Resealed(b record.Batch) record.Batch {
	binary.BigEndian.PutUint32(b[17:], crc32.Checksum(b[21:], crc32.MakeTable(crc32.Castagnoli)))
	return b
}

// BatchesOf cuts fetched records into batches, which must be whole.
func BatchesOf(t testing.TB, records []byte) []record.Batch {
	t.Helper()
	out, rest := wholeBatches(t, records)
	if len(rest) > 0 {
		t.Fatalf("after %d batches %d bytes are left", len(out), len(rest))
	}
	return out
}

// wholeBatches also returns what is left of a batch that was cut short: Kafka may send one.
func wholeBatches(t testing.TB, records []byte) (whole []record.Batch, rest []byte) {
	t.Helper()
	for len(records) > 0 {
		batch, rest, err := record.Next(records)
		if err != nil {
			t.Fatalf("after %d batches: %v", len(whole), err)
		}
		if batch == nil {
			return whole, records
		}
		whole, records = append(whole, batch), rest
	}
	return whole, nil
}
