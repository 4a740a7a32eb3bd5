package compact

import (
	"encoding/binary"
	"testing"

	"github.com/tidemill/tidemill/protocol/record"
)

// BenchmarkClean1KiB and BenchmarkClean100B map and clean a log of which the newer half replaces the older one.
func BenchmarkClean1KiB(b *testing.B) { benchmarkClean(b, 1024) }
func BenchmarkClean100B(b *testing.B) { benchmarkClean(b, 100) }

// benchmarkClean has 32 MiB of batches of up to 16 KiB.
func benchmarkClean(b *testing.B, size int) {
	perBatch := 16 << 10 / size
	batches := (32 << 20) / (perBatch * size)
	keys := batches * perBatch / 2
	var log []record.Batch
	total, offset := 0, int64(0)
	for range batches {
		var build record.Builder
		for i := range perBatch {
			key := binary.BigEndian.AppendUint64(make([]byte, 8, 16), uint64(offset+int64(i))%uint64(keys))
			build.Append(1_700_000_000_000+int64(i), key, make([]byte, size-len(key)))
		}
		batch := build.Build()
		batch.SetBaseOffset(offset)
		offset = batch.LastOffset() + 1
		log = append(log, batch)
		total += len(batch)
	}
	for _, from := range []struct {
		name   string
		offset int64
	}{{"all", 0}, {"tail", offset * 9 / 10}} {
		b.Run(from.name, func(b *testing.B) {
			b.SetBytes(int64(total))
			b.ReportAllocs()
			m := NewKeyMap(64 << 20)
			for b.Loop() {
				m.Reset()
				for _, batch := range log {
					if batch.LastOffset() < from.offset {
						continue
					}
					if _, err := m.AddBatch(batch, from.offset, record.Limits{}); err != nil {
						b.Fatal(err)
					}
				}
				r := Round{Keys: m, Now: 1_700_000_000_000, DeleteRetentionMs: 1000, UpperBound: offset}
				for _, batch := range log {
					if _, _, err := r.Clean(batch); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}
