package conformance

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tidemill/tidemill/protocol/record"
)

// AsStored is what Kafka makes of a batch: it sets the base offset and the leader epoch, both outside the checksum.
func AsStored(b record.Batch, offset int64, epoch int32) record.Batch {
	out := bytes.Clone(b)
	binary.BigEndian.PutUint64(out, uint64(offset))
	binary.BigEndian.PutUint32(out[12:], uint32(epoch))
	return out
}

// OddBatches are batches, by what is odd about them, whose every byte must survive (C9, C10).
func OddBatches(t testing.TB) map[string]record.Batch {
	t.Helper()
	now := time.Now().UnixMilli()
	build := func(fill func(*record.Builder)) record.Batch {
		var b record.Builder
		fill(&b)
		return b.Build()
	}
	out := map[string]record.Batch{
		"null key and value":  build(func(b *record.Builder) { b.Append(now, nil, nil) }),
		"empty key and value": build(func(b *record.Builder) { b.Append(now, []byte{}, []byte{}) }),
		"null and empty mixed": build(func(b *record.Builder) {
			b.Append(now, nil, []byte{})
			b.Append(now, []byte{}, nil)
		}),
		"headers": build(func(b *record.Builder) {
			b.Append(now, []byte("k"), []byte("v"), record.Header{Key: "a", Value: []byte("1")}, record.Header{Key: "a", Value: nil},
				record.Header{Key: "", Value: []byte{}}, record.Header{Key: "é\x00", Value: bytes.Repeat([]byte{0xff}, 300)})
		}),
		"timestamps out of order": build(func(b *record.Builder) {
			for _, ts := range []int64{now, now - 1e9, 0, 1, now + 1000} {
				b.Append(ts, nil, []byte("x"))
			}
		}),
		"no timestamp": build(func(b *record.Builder) { b.Append(-1, nil, []byte("x")) }),
		"long varints": build(func(b *record.Builder) {
			b.Append(now, bytes.Repeat([]byte("k"), 70_000), bytes.Repeat([]byte("v"), 300_000))
			b.Append(0, nil, bytes.Repeat([]byte("w"), 20_000))
		}),
		"many records": build(func(b *record.Builder) {
			for i := range 1000 {
				b.Append(now+int64(i), []byte(fmt.Sprint(i)), nil)
			}
		}),
		"reserved attribute bits": func() record.Batch {
			b := BatchOf("a")
			b[21], b[22] = 0x55, b[22]|0xc0
			return Resealed(b)
		}(),
	}
	for codec, name := range map[record.Codec]string{record.Gzip: "gzip", record.Snappy: "snappy", record.LZ4: "lz4", record.Zstd: "zstd"} {
		packed, err := record.Recompress(BatchOf(strings.Repeat("squeeze me ", 200), "", "x"), codec, 1, record.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		out[name] = packed
	}
	return out
}
