package record

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// withRecords returns b with other record bytes and codec.
func withRecords(b Batch, codec Codec, data []byte) Batch {
	c := append(bytes.Clone(b[:HeaderSize]), data...)
	binary.BigEndian.PutUint32(c[8:], uint32(len(c)-lengthOverhead))
	c[22] = byte(codec)
	Batch(c).setCRC()
	return c
}

func xerial(blocks ...[]byte) []byte {
	out := append(bytes.Clone(xerialMagic), 0, 0, 0, 1, 0, 0, 0, 1)
	for _, b := range blocks {
		enc := snappy.Encode(nil, b)
		out = binary.BigEndian.AppendUint32(out, uint32(len(enc)))
		out = append(out, enc...)
	}
	return out
}

// packings compress as clients do.
var packings = []struct {
	name  string
	codec Codec
	pack  func(t testing.TB, data []byte) []byte
}{
	{"none", None, func(_ testing.TB, data []byte) []byte { return data }},
	{"gzip", Gzip, func(t testing.TB, data []byte) []byte {
		var out bytes.Buffer
		w := gzip.NewWriter(&out)
		write(t, w, data)
		return out.Bytes()
	}},
	{"snappy raw", Snappy, func(_ testing.TB, data []byte) []byte { return snappy.Encode(nil, data) }},
	{"snappy by s2", Snappy, func(_ testing.TB, data []byte) []byte { return s2.EncodeSnappyBetter(nil, data) }},
	{"snappy xerial", Snappy, func(_ testing.TB, data []byte) []byte {
		var blocks [][]byte
		for len(data) > 32<<10 {
			blocks, data = append(blocks, data[:32<<10]), data[32<<10:]
		}
		return xerial(append(blocks, data)...)
	}},
	{"lz4", LZ4, func(t testing.TB, data []byte) []byte {
		var out bytes.Buffer
		write(t, lz4.NewWriter(&out), data)
		return out.Bytes()
	}},
	{"zstd with size", Zstd, func(t testing.TB, data []byte) []byte {
		w, err := zstd.NewWriter(nil)
		if err != nil {
			t.Fatal(err)
		}
		return w.EncodeAll(data, nil)
	}},
	{"zstd stream", Zstd, func(t testing.TB, data []byte) []byte {
		var out bytes.Buffer
		w, err := zstd.NewWriter(&out)
		if err != nil {
			t.Fatal(err)
		}
		write(t, w, data)
		return out.Bytes()
	}},
}

func write(t testing.TB, w interface {
	Write(p []byte) (int, error)
	Close() error
}, data []byte) {
	t.Helper()
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

func collect(b Batch, limits Limits) ([]Record, error) {
	var out []Record
	for r, err := range Records(b, limits) {
		if err != nil {
			return out, err
		}
		r.Headers = append([]Header(nil), r.Headers...)
		out = append(out, r)
	}
	return out, nil
}

func TestRecordsOfEveryCodec(t *testing.T) {
	var bld Builder
	want := []Record{
		{Offset: 50, Timestamp: 1000, Key: []byte("k"), Value: []byte("v")},
		{Offset: 51, Timestamp: 990, Value: []byte{}},
		{Offset: 52, Timestamp: 2000, Key: []byte{}, Headers: []Header{{Key: "a", Value: []byte("1")}, {Key: "", Value: nil}, {Key: "a", Value: []byte{}}}},
		{Offset: 53, Timestamp: 2000, Key: []byte("big"), Value: bytes.Repeat([]byte("abc"), 50_000)},
	}
	for _, r := range want {
		bld.Append(r.Timestamp, r.Key, r.Value, r.Headers...)
	}
	plain := bld.Build()
	for _, p := range packings {
		t.Run(p.name, func(t *testing.T) {
			b := withRecords(plain, p.codec, p.pack(t, plain.RecordBytes()))
			b.SetBaseOffset(50)
			got, err := collect(b, Limits{})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("records (-want +got):\n%s", diff)
			}
			sum, err := CheckRecords(b, Limits{})
			wantSum := Summary{MaxTimestamp: 2000, MinTimestamp: 990, NullKeys: []int32{1}, HasNullKey: true}
			if diff := cmp.Diff(wantSum, sum); err != nil || diff != "" {
				t.Errorf("summary: %v (-want +got):\n%s", err, diff)
			}
		})
	}
}

func TestBombs(t *testing.T) {
	zeros := make([]byte, 6<<20)
	limits := []struct {
		name   string
		limits Limits
		want   error
	}{
		{"too many bytes", Limits{Bytes: 5 << 20, Ratio: 1e6}, ErrBomb},
		{"ratio", Limits{Ratio: 1}, ErrBomb},
		{"allowed", Limits{Bytes: 6 << 20, Ratio: 1e6}, nil},
	}
	for _, p := range packings[1:] {
		packed := p.pack(t, zeros)
		for _, tt := range limits {
			t.Run(p.name+"/"+tt.name, func(t *testing.T) {
				out, err := Decompress(withRecords(buildBatch(1), p.codec, packed), tt.limits)
				if !errors.Is(err, tt.want) {
					t.Fatalf("got %v, want %v", err, tt.want)
				}
				if err == nil && len(out) != len(zeros) {
					t.Errorf("got %d bytes, want %d", len(out), len(zeros))
				}
			})
		}
	}
}

func TestDamagedCompression(t *testing.T) {
	plain := buildBatch(20)
	for _, p := range packings[1:] {
		packed := p.pack(t, plain.RecordBytes())
		for name, data := range map[string][]byte{"empty": nil, "cut": packed[:len(packed)-3], "noise": []byte("this is no compressed data")} {
			t.Run(fmt.Sprintf("%s/%s", p.name, name), func(t *testing.T) {
				_, err := collect(withRecords(plain, p.codec, data), Limits{})
				if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrInvalid) {
					t.Errorf("got %v, want ErrCorrupt or ErrInvalid", err)
				}
			})
		}
	}
	huge := withRecords(plain, Snappy, binary.AppendUvarint(nil, 60<<20))
	if _, err := Decompress(huge, Limits{Ratio: 1e9}); !errors.Is(err, ErrCorrupt) {
		t.Errorf("snappy block that claims 60 MiB: got %v, want ErrCorrupt", err)
	}
}

// 3.13 on 3.2.8: lengths inside a record are checked only if it is not compressed.
func TestCheckRecords(t *testing.T) {
	rec := func(body ...byte) []byte { return append(binary.AppendVarint(nil, int64(len(body))), body...) }
	good := rec(0, 0, 0, 1, 1, 0) // null key and value, no headers
	tests := []struct {
		name       string
		data       []byte
		want       error
		compressed error
	}{
		{"good", good, nil, nil},
		{"offset delta 1 first", rec(0, 0, 2, 1, 1, 0), ErrInvalid, ErrInvalid},
		{"value exceeds the record", rec(0, 0, 0, 1, 20, 0), ErrInvalid, nil},
		{"bytes left in the record", rec(0, 0, 0, 1, 1, 0, 9), ErrInvalid, nil},
		{"negative header count", rec(0, 0, 0, 1, 1, 1), ErrInvalid, nil},
		{"more headers than bytes", rec(0, 0, 0, 1, 1, 0x7e), ErrInvalid, nil},
		{"record exceeds the batch", good[:len(good)-1], ErrInvalid, ErrInvalid},
		{"negative record length", []byte{1}, ErrInvalid, ErrInvalid},
		{"bytes after the records", append(bytes.Clone(good), 0), ErrInvalid, ErrInvalid},
		{"none", nil, ErrInvalid, ErrInvalid},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := CheckRecords(withRecords(buildBatch(1), None, tt.data), Limits{}); !errors.Is(err, tt.want) {
				t.Errorf("uncompressed: got %v, want %v", err, tt.want)
			}
			packed := withRecords(buildBatch(1), Gzip, packings[1].pack(t, tt.data))
			if _, err := CheckRecords(packed, Limits{}); !errors.Is(err, tt.compressed) {
				t.Errorf("compressed: got %v, want %v", err, tt.compressed)
			}
			// Stored batches may have gaps, where compaction took records out.
			gap := tt.name == "offset delta 1 first"
			if _, err := collect(packed, Limits{}); (err != nil) != (tt.want != nil && !gap) {
				t.Errorf("Records: got %v, want error %v", err, tt.want)
			}
		})
	}
}

func FuzzRecords(f *testing.F) {
	plain := buildBatch(3)
	for _, p := range packings {
		f.Add([]byte(withRecords(plain, p.codec, p.pack(f, plain.RecordBytes()))))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := First(data)
		if err != nil {
			return
		}
		limits := Limits{Bytes: 1 << 20}
		recs, err := collect(b, limits)
		if err == nil && CheckHeader(b) == nil && b.Codec() == None {
			sum, checkErr := CheckRecords(b, limits)
			if checkErr == nil && len(recs) != int(b.NumRecords()) {
				t.Fatalf("%d records pass, %d claimed, summary %v", len(recs), b.NumRecords(), sum)
			}
		}
		b.SetLogAppendTime(1)
		if err := CheckCRC(b); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzBuilder(f *testing.F) {
	f.Add(int64(1), []byte("k"), []byte("v"), "h", []byte(nil))
	f.Fuzz(func(t *testing.T, ts int64, key, value []byte, hk string, hv []byte) {
		var bld Builder
		want := []Record{{Timestamp: ts, Key: key, Value: value}, {Offset: 1, Timestamp: ts + 1, Headers: []Header{{Key: hk, Value: hv}}}}
		for _, r := range want {
			bld.Append(r.Timestamp, r.Key, r.Value, r.Headers...)
		}
		b := bld.Build()
		if err := Check(b); err != nil {
			t.Fatal(err)
		}
		got, err := collect(b, Limits{})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatal(diff)
		}
	})
}
