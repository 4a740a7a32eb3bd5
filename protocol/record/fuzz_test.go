package record

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// FuzzNext walks stored bytes: batches come one after the other, whole, and only at the end may something be left.
func FuzzNext(f *testing.F) {
	one, two := buildBatch(1), buildBatch(2)
	f.Add(append(bytes.Clone(one), two...))
	f.Add(append(bytes.Clone(one), two[:20]...))
	f.Add([]byte(two[:HeaderSize]))
	f.Fuzz(func(t *testing.T, data []byte) {
		rest := data
		for len(rest) > 0 {
			b, after, err := Next(rest)
			if err != nil || b == nil {
				return
			}
			if len(b) < HeaderSize || len(b)+len(after) != len(rest) || string(b) != string(rest[:len(b)]) {
				t.Fatalf("a batch of %d bytes and %d after it, of %d", len(b), len(after), len(rest))
			}
			_ = Check(b)
			rest = after
		}
	})
}

// FuzzRecompress: what passes the checks keeps its records in any other codec.
func FuzzRecompress(f *testing.F) {
	plain := buildBatch(3)
	for i, p := range packings {
		f.Add([]byte(withRecords(plain, p.codec, p.pack(f, plain.RecordBytes()))), byte(i))
	}
	f.Fuzz(func(t *testing.T, data []byte, to byte) {
		limits := Limits{Bytes: 1 << 20}
		b, err := First(data)
		if err != nil || CheckHeader(b) != nil {
			return
		}
		if _, err := CheckRecords(b, limits); err != nil {
			return
		}
		want, wantErr := collect(b, limits)
		packed, err := Recompress(b, Codec(to%5), 3, limits)
		if err != nil {
			t.Fatalf("records that pass do not pack: %v", err)
		}
		if err := CheckCRC(packed); err != nil {
			t.Fatal(err)
		}
		got, gotErr := collect(packed, limits)
		if diff := cmp.Diff(want, got); diff != "" || (wantErr == nil) != (gotErr == nil) {
			t.Fatalf("%v and %v, records (-want +got):\n%s", wantErr, gotErr, diff)
		}
	})
}
