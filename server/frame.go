package server

import (
	"math/bits"
	"sync"
	"sync/atomic"
)

const (
	// minClass is the smallest buffer, 2 KiB: most requests fit.
	minClass = 11
	// maxPooledClass is the largest buffer that the garbage collector may drop from its pool, 64 KiB.
	maxPooledClass = 16
	// maxClass is the largest buffer that is kept at all, 2 MiB: twice a producer's largest request by default.
	maxClass = 21
	// keptPerClass bounds the free lists to 31 MiB together.
	keptPerClass = 8
)

// A framePool keeps buffers for frames by powers of two. Small ones live in sync.Pools; large ones in bounded free lists, as
// a pool would be emptied at each collection and the memory faulted in again.
type framePool struct {
	small [maxPooledClass - minClass + 1]sync.Pool
	large [maxClass - maxPooledClass]chan []byte
}

func newFramePool() *framePool {
	p := &framePool{}
	for i := range p.large {
		p.large[i] = make(chan []byte, keptPerClass)
	}
	return p
}

// bufferSize is what a frame of n bytes takes of the machine's memory, and of its budget.
func bufferSize(n int) int {
	class := max(bits.Len(uint(n-1)), minClass)
	if class > maxClass {
		return n
	}
	return 1 << class
}

// get returns n bytes of any content, with the capacity of bufferSize.
func (p *framePool) get(n int) []byte {
	class := max(bits.Len(uint(n-1)), minClass)
	switch {
	case class > maxClass:
		return make([]byte, n)
	case class <= maxPooledClass:
		if b, ok := p.small[class-minClass].Get().(*[]byte); ok {
			return (*b)[:n]
		}
	default:
		select {
		case b := <-p.large[class-maxPooledClass-1]:
			return b[:n]
		default:
		}
	}
	return make([]byte, n, 1<<class)
}

// put takes back what get returned.
func (p *framePool) put(b []byte) {
	class := bits.Len(uint(cap(b) - 1))
	if class > maxClass || cap(b) != 1<<class {
		return
	}
	if class <= maxPooledClass {
		p.small[class-minClass].Put(&b)
		return
	}
	select {
	case p.large[class-maxPooledClass-1] <- b:
	default:
	}
}

// A frame is the memory of one request, with the budget that admitted it.
type frame struct {
	buf    []byte
	pool   *framePool
	budget *Budget
	refs   atomic.Int32
	// lost is set when somebody may still read buf although all references are gone: it is not used again.
	lost atomic.Bool
}

// release drops one reference; the last one gives memory and budget back.
func (f *frame) release() {
	switch n := f.refs.Add(-1); {
	case n == 0:
		buf := f.buf
		f.buf = nil
		if !f.lost.Load() {
			f.pool.put(buf)
		}
		f.budget.Release(int64(bufferSize(len(buf))))
	case n < 0:
		panic("server: frame released twice")
	}
}
