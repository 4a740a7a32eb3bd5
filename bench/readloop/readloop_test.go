package readloop

import (
	"bytes"
	"hash/crc32"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
)

// TestRun checks that a run sends what the files hold, once: else its cost is that of something else.
func TestRun(t *testing.T) {
	dir := t.TempDir()
	var want []byte
	for i, size := range []int{piece, 2*piece + step + 7, piece - 1} {
		body := bytes.Repeat([]byte{'a' + byte(i)}, size)
		if err := os.WriteFile(filepath.Join(dir, string(rune('a'+i))), body, 0o600); err != nil {
			t.Fatal(err)
		}
		if size >= piece {
			want = append(want, body...)
		}
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	got := make(chan []byte)
	go func() {
		defer close(got)
		nc, err := ln.Accept()
		if err != nil {
			return
		}
		defer nc.Close()
		body, _ := io.ReadAll(nc) // what is missing shows
		got <- body
	}()
	r, err := Run(t.Context(), dir, ln.Addr().String())
	if body := <-got; err != nil || !bytes.Equal(body, want) {
		t.Fatalf("%d bytes came, want %d: %v", len(body), len(want), err)
	}
	if sum := crc32.Checksum(want, crc32.MakeTable(crc32.Castagnoli)); r.Bytes != int64(len(want)) || r.Sum != sum || r.CPUSeconds < 0 {
		t.Errorf("%+v, want %d bytes with the sum %d", r, len(want), sum)
	}
}
