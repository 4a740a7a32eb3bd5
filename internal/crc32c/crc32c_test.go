package crc32c

import (
	"math/rand/v2"
	"testing"
)

func TestJoin(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	data := make([]byte, 300<<10)
	for i := range data {
		data[i] = byte(rng.Uint32())
	}
	var j Joiner
	for i := range 300 {
		n := rng.IntN(len(data))
		cut := rng.IntN(n + 1)
		switch i {
		case 0:
			n, cut = 0, 0
		case 1:
			cut = n
		case 2:
			cut = 0
		}
		got := j.Join(Sum(data[:cut]), Sum(data[cut:n]), n-cut)
		if want := Sum(data[:n]); got != want {
			t.Fatalf("%d of %d bytes: joined checksum %08x, want %08x", cut, n, got, want)
		}
	}
}
