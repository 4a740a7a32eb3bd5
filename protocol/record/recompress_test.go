package record

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRecompressKeepsRecords(t *testing.T) {
	var build Builder
	for i := range 200 {
		build.Append(1000+int64(i), fmt.Appendf(nil, "key-%d", i), bytes.Repeat([]byte{byte(i)}, 500), Header{Key: "h", Value: []byte("v")})
	}
	plain := build.Build()
	want := readBack(t, plain)
	for _, tc := range []struct {
		name  string
		codec Codec
		level int
	}{
		{"none", None, 0}, {"gzip default", Gzip, -1}, {"gzip 1", Gzip, 1}, {"snappy", Snappy, 0},
		{"lz4 1", LZ4, 1}, {"lz4 9", LZ4, 9}, {"lz4 17", LZ4, 17}, {"zstd 3", Zstd, 3}, {"zstd negative", Zstd, -5}, {"zstd 22", Zstd, 22},
	} {
		t.Run(tc.name, func(t *testing.T) {
			packed, err := Recompress(plain, tc.codec, tc.level, Limits{})
			if err != nil {
				t.Fatal(err)
			}
			if err := Check(packed); err != nil {
				t.Fatal(err)
			}
			if packed.Codec() != tc.codec {
				t.Errorf("codec is %d, want %d", packed.Codec(), tc.codec)
			}
			if diff := cmp.Diff(want, readBack(t, packed)); diff != "" {
				t.Errorf("records changed:\n%s", diff)
			}
			again, err := Recompress(packed, None, 0, Limits{})
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(again, plain) {
				t.Error("packed and unpacked again, the batch is another")
			}
		})
	}
}

func readBack(t *testing.T, b Batch) []Record {
	t.Helper()
	var out []Record
	for r, err := range Records(b, Limits{}) {
		if err != nil {
			t.Fatal(err)
		}
		r.Key, r.Value = bytes.Clone(r.Key), bytes.Clone(r.Value)
		for i := range r.Headers {
			r.Headers[i].Value = bytes.Clone(r.Headers[i].Value)
		}
		out = append(out, r)
	}
	return out
}

// TestRecompressMakesNoBomb: what another codec packs so well that its readers would refuse it stays as it is.
func TestRecompressMakesNoBomb(t *testing.T) {
	line := []byte(`{"level":"INFO","service":"checkout","region":"eu-west-1","message":"request handled","status":200}`)
	var build Builder
	for range 450 {
		build.Append(1, []byte("key"), bytes.Repeat(line, 166)) // 7 MiB in all
	}
	admitted, err := Recompress(build.Build(), Gzip, 1, Limits{})
	if err != nil || admitted.Codec() != Gzip {
		t.Fatalf("codec %d, %v", admitted.Codec(), err)
	}
	if kept, err := Recompress(admitted, Zstd, 3, Limits{}); err != nil || !bytes.Equal(kept, admitted) {
		t.Errorf("a batch of %d bytes became one of %d and codec %d, %v", len(admitted), len(kept), kept.Codec(), err)
	}
	packed, err := Recompress(admitted, Zstd, 3, StoredLimits)
	if err != nil || packed.Codec() != Zstd {
		t.Fatalf("codec %d, %v", packed.Codec(), err)
	}
	if _, err := CheckRecords(packed, Limits{}); !errors.Is(err, ErrBomb) {
		t.Errorf("who does not know the batch: %v", err)
	}
	if _, err := CheckRecords(packed, StoredLimits); err != nil {
		t.Errorf("who stored the batch: %v", err)
	}
}
