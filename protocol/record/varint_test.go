package record

import (
	"bytes"
	"encoding/binary"
	"math"
	"testing"
)

// The short ways of reading a varint agree with the long one, and so do what they leave and what they refuse.
func TestVarint(t *testing.T) {
	var cases [][]byte
	for _, v := range []int64{0, 1, -1, 63, -64, 64, -65, 8191, -8192, 8192, -8193, math.MaxInt64, math.MinInt64} {
		b := binary.AppendVarint(nil, v)
		for n := range len(b) + 1 {
			cases = append(cases, b[:n])
		}
		cases = append(cases, append(b, 0x80, 1))
	}
	cases = append(cases, []byte{0x80, 0}, []byte{0x81, 0, 5}, bytes.Repeat([]byte{0x80}, 11), bytes.Repeat([]byte{0xff}, 12))
	for _, b := range cases {
		r := reader{src: b}
		got := r.varint()
		want, n := binary.Varint(b)
		if n <= 0 {
			if !r.bad || got != 0 || len(r.src) != 0 {
				t.Errorf("%x: got %d and %+v, want a refusal", b, got, r)
			}
			continue
		}
		if r.bad || got != want || len(r.src) != len(b)-n {
			t.Errorf("%x: got %d and %d bytes left, want %d and %d", b, got, len(r.src), want, len(b)-n)
		}
	}
}
