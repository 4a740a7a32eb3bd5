package memory

import (
	"bytes"
	"os"
	"sync"
	"testing"
)

func TestMain(m *testing.M) {
	Poison()
	os.Exit(m.Run())
}

func TestSizes(t *testing.T) {
	for _, tt := range []struct{ n, want int }{
		{0, 2 << 10}, {1, 2 << 10}, {2048, 2 << 10}, {2049, 4 << 10}, {8192, 8 << 10},
		{8193, 9 << 10}, {9 << 10, 9 << 10}, {16 << 10, 16 << 10}, {64<<10 + 1, 72 << 10}, {1 << 20, 1 << 20},
		{15<<20 + 1, 16 << 20}, {16 << 20, 16 << 20}, {16<<20 + 1, 16<<20 + 1},
	} {
		p := NewPool(64 << 20)
		b := p.Get(tt.n)
		if got := Size(tt.n); got != tt.want || b.Cap() != tt.want || len(b.Bytes()) != tt.n {
			t.Errorf("%d bytes: size %d, block of %d with %d bytes; want %d", tt.n, got, b.Cap(), len(b.Bytes()), tt.want)
		}
	}
	last := 0
	for n := 1<<smallMax + 1; n <= 1<<largeMax; n += 511 {
		class, size := largeClass(n)
		again, same := largeClass(size)
		if size < n || size-n > n/perOctave || again != class || same != size || class < last {
			t.Fatalf("%d bytes: class %d of %d, whose class is %d of %d", n, class, size, again, same)
		}
		last = class
	}
}

func TestReuse(t *testing.T) {
	p := NewPool(1 << 20)
	b := p.Get(100 << 10)
	first := &b.Bytes()[0]
	copy(b.Bytes(), "mine")
	b.Retain()
	b.Release()
	if c := p.Get(100 << 10); &c.Bytes()[0] == first {
		t.Fatal("a block with a reference was lent again")
	}
	if string(b.Bytes()[:4]) != "mine" || p.Kept() != 0 {
		t.Fatal("a block with a reference was taken back")
	}
	b.Release()
	if p.Kept() != int64(Size(100<<10)) {
		t.Errorf("%d bytes are kept", p.Kept())
	}
	c := p.Get(99 << 10)
	if &c.Bytes()[0] != first || p.Kept() != 0 {
		t.Error("a free block was not lent again")
	}
	if !bytes.Equal(c.Bytes(), bytes.Repeat([]byte{poisoned}, 99<<10)) {
		t.Error("a freed block was not poisoned")
	}
	c.Release()
	defer func() {
		if recover() == nil {
			t.Error("a second release went unseen")
		}
	}()
	c.Release()
}

// What is kept stays within the limit, and gives way to the sizes that are in use.
func TestLimit(t *testing.T) {
	const limit = 1 << 20
	p := NewPool(limit)
	release := func(n, size int) {
		blocks := make([]*Block, n)
		for i := range blocks {
			blocks[i] = p.Get(size)
		}
		for _, b := range blocks {
			b.Release()
		}
	}
	release(100, 64<<10)
	if p.Kept() != limit {
		t.Errorf("%d bytes are kept, want %d", p.Kept(), limit)
	}
	release(2, 512<<10)
	if p.Kept() != limit {
		t.Errorf("%d bytes are kept, want %d", p.Kept(), limit)
	}
	if b := p.Get(64 << 10); p.Kept() != limit {
		t.Errorf("an old size kept %d bytes", b.Cap())
	}
	release(1, 2<<20)
	if p.Kept() > limit {
		t.Errorf("%d bytes are kept, want %d", p.Kept(), limit)
	}
}

// Whoever holds a reference reads what was written, whatever others do.
func TestConcurrentUse(t *testing.T) {
	p := NewPool(4 << 20)
	var group sync.WaitGroup
	for worker := range 4 {
		group.Go(func() {
			for i := range 300 {
				b := p.Get(1 << (10 + i%10))
				for j := range b.Bytes() {
					b.Bytes()[j] = byte(worker)
				}
				b.Retain()
				group.Go(func() {
					defer b.Release()
					for _, c := range b.Bytes() {
						if c != byte(worker) {
							t.Errorf("a block of worker %d holds %d", worker, c)
							return
						}
					}
				})
				b.Release()
			}
		})
	}
	group.Wait()
}
