package nullbroker

import (
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

// An arena is a ring of memory that the garbage collector does not see. Positions only grow; the bytes at a position are
// there until the ring has come round.
type arena struct {
	mem []byte

	mu  sync.Mutex
	pos int64 // of the next byte
}

func newArena(size int) (*arena, error) {
	mem, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return nil, fmt.Errorf("map %d bytes: %w", size, err)
	}
	if err := unix.Madvise(mem, unix.MADV_HUGEPAGE); err != nil {
		return nil, fmt.Errorf("ask for huge pages: %w", err)
	}
	for i := 0; i < len(mem); i += 4096 { // so that no measurement pays for first touches
		mem[i] = 1
	}
	return &arena{mem: mem}, nil
}

func (a *arena) close() error { return unix.Munmap(a.mem) }

// reserve returns the position of n bytes in one piece.
func (a *arena) reserve(n int) int64 {
	size := int64(len(a.mem))
	a.mu.Lock()
	defer a.mu.Unlock()
	if rest := size - a.pos%size; int64(n) > rest {
		a.pos += rest
	}
	pos := a.pos
	a.pos += int64(n)
	return pos
}

// at returns the n bytes at pos.
func (a *arena) at(pos int64, n int) []byte {
	off := pos % int64(len(a.mem))
	return a.mem[off : off+int64(n)]
}

// oldest is the position before which bytes may be overwritten soon: a quarter of the ring is left to answers on their way.
func (a *arena) oldest() int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.pos - int64(len(a.mem))/4*3
}
