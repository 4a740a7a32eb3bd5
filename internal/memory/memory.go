// Package memory lends buffers that are counted by reference and used again.
//
// The bytes of a produce request lie in one block from the socket to the last consumer that reads them from memory: so
// blocks are shared, and their owners differ. Invariants: a block is used again only when every reference was released; a
// reference that is never released costs its reuse and nothing else, as the garbage collector owns the memory; what a
// pool keeps is bounded.
package memory

import (
	"math/bits"
	"sync"
	"sync/atomic"
)

const (
	// smallMin and smallMax bound the small blocks, which come by powers of two: 2, 4 and 8 KiB.
	smallMin = 11
	smallMax = 13
	// largeMax is the exponent of the largest block that is kept: 16 MiB, for a slot of 8 MiB with its header.
	largeMax = 24
	// perOctave is how many sizes of large blocks there are between two powers of two: what is asked for is at least
	// 8/9 of what is taken.
	perOctave = 8
)

// A Pool keeps blocks by size. Small ones lie in sync.Pools; large ones in stacks within a bound, as a sync.Pool would be
// emptied at each collection and the memory faulted in again. All methods may be called concurrently.
type Pool struct {
	small [smallMax - smallMin + 1]sync.Pool
	limit int64
	mu    struct {
		sync.Mutex
		large [(largeMax - smallMax) * perOctave][]*Block
		kept  int64
		// victim is the class that gives way next.
		victim int
	}
}

// NewPool returns a pool that keeps at most limit bytes of large blocks.
func NewPool(limit int64) *Pool { return &Pool{limit: limit} }

// A Block is memory with a count of references. The one who gets it holds the first.
type Block struct {
	buf  []byte // with the whole capacity of its class
	n    int
	pool *Pool
	refs atomic.Int32
}

// Size returns what a block of n bytes takes of the machine's memory.
func Size(n int) int {
	switch {
	case n <= 1<<smallMin:
		return 1 << smallMin
	case n <= 1<<smallMax:
		return 1 << bits.Len(uint(n-1))
	case n > 1<<largeMax:
		return n
	}
	_, size := largeClass(n)
	return size
}

// largeClass returns the class and size of a large block of n bytes.
func largeClass(n int) (class, size int) {
	exponent := bits.Len(uint(n-1)) - 1
	step := 1 << exponent / perOctave
	steps := (n + step - 1) / step // perOctave+1 to 2*perOctave
	return (exponent-smallMax)*perOctave + steps - perOctave - 1, steps * step
}

// Get returns a block of n bytes of any content.
func (p *Pool) Get(n int) *Block {
	b := p.find(n)
	if b == nil {
		b = &Block{buf: make([]byte, Size(n)), pool: p}
	}
	b.n = n
	b.refs.Store(1)
	return b
}

func (p *Pool) find(n int) *Block {
	switch {
	case n <= 1<<smallMax:
		b, _ := p.small[max(bits.Len(uint(max(n, 1)-1)), smallMin)-smallMin].Get().(*Block)
		return b
	case n > 1<<largeMax:
		return nil
	}
	class, size := largeClass(n)
	p.mu.Lock()
	defer p.mu.Unlock()
	stack := p.mu.large[class]
	if len(stack) == 0 {
		return nil
	}
	b := stack[len(stack)-1]
	stack[len(stack)-1] = nil
	p.mu.large[class] = stack[:len(stack)-1]
	p.mu.kept -= int64(size)
	return b
}

// keep takes a block that nobody refers to. Blocks of sizes that are not asked for any more give way to it.
func (p *Pool) keep(b *Block) {
	size := len(b.buf)
	switch {
	case size <= 1<<smallMax:
		p.small[bits.Len(uint(size-1))-smallMin].Put(b)
		return
	case size > 1<<largeMax:
		return
	}
	class, _ := largeClass(size)
	p.mu.Lock()
	defer p.mu.Unlock()
	for range len(p.mu.large) {
		if p.mu.kept+int64(size) <= p.limit {
			break
		}
		p.evictLocked(class, p.limit-int64(size))
	}
	if p.mu.kept+int64(size) > p.limit {
		return
	}
	p.mu.large[class] = append(p.mu.large[class], b)
	p.mu.kept += int64(size)
}

// evictLocked drops blocks of the next class in turn until no more than goal bytes are kept, unless that class is the one
// asked for.
func (p *Pool) evictLocked(class int, goal int64) {
	v := p.mu.victim
	p.mu.victim = (v + 1) % len(p.mu.large)
	if v == class {
		return
	}
	stack := p.mu.large[v]
	for len(stack) > 0 && p.mu.kept > goal {
		last := len(stack) - 1
		p.mu.kept -= int64(len(stack[last].buf))
		stack[last] = nil
		stack = stack[:last]
	}
	p.mu.large[v] = stack
}

// Kept returns the bytes of the large blocks that wait to be used again.
func (p *Pool) Kept() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mu.kept
}

// Bytes returns the block's bytes. They may be read and written as long as a reference is held.
func (b *Block) Bytes() []byte { return b.buf[:b.n] }

// Cap returns what the block takes of the machine's memory.
func (b *Block) Cap() int { return len(b.buf) }

// Retain adds a reference. The caller holds one, or knows that another holder keeps it meanwhile.
func (b *Block) Retain() { b.refs.Add(1) }

// Release drops a reference. The bytes must not be touched afterwards.
func (b *Block) Release() {
	switch n := b.refs.Add(-1); {
	case n < 0:
		panic("memory: block released twice")
	case n == 0:
		if poison.Load() {
			for i := range b.buf {
				b.buf[i] = poisoned
			}
		}
		b.pool.keep(b)
	}
}

// poisoned is what a freed block is filled with in tests: no length, count or checksum of any format stands it.
const poisoned = 0xdb

var poison atomic.Bool

// Poison makes every block be overwritten when its last reference is released, so that tests see who reads on. It is
// called from TestMain.
func Poison() { poison.Store(true) }
