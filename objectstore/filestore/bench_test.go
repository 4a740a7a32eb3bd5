package filestore_test

import (
	"fmt"
	"testing"
)

func BenchmarkPut(b *testing.B) {
	for _, size := range []struct {
		name  string
		bytes int
	}{{"1KiB", 1 << 10}, {"1MiB", 1 << 20}, {"8MiB", 8 << 20}} {
		b.Run(size.name, func(b *testing.B) {
			s := open(b, b.TempDir())
			body := make([]byte, size.bytes)
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for n := 0; b.Loop(); n++ {
				if err := s.Put(b.Context(), fmt.Sprintf("wal/3f/0/%020d", n), body); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkReadAt(b *testing.B) {
	s := open(b, b.TempDir())
	if err := s.Put(b.Context(), "wal/3f/0/0", make([]byte, 8<<20)); err != nil {
		b.Fatal(err)
	}
	p := make([]byte, 64<<10)
	b.SetBytes(int64(len(p)))
	b.ReportAllocs()
	for b.Loop() {
		if err := s.ReadAt(b.Context(), "wal/3f/0/0", p, 4<<20); err != nil {
			b.Fatal(err)
		}
	}
}
