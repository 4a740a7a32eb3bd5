package server

import (
	"sync/atomic"

	"github.com/tidemill/tidemill/internal/memory"
)

// keptBytes bounds the memory that waits for the next frames when Options name no pool.
const keptBytes = 16 << 20

// A frame is the memory of one request, with the budget that admitted it.
type frame struct {
	block  *memory.Block
	budget *Budget
	refs   atomic.Int32
	// lost is set when somebody may still read the block although all references are gone: it is not used again.
	lost atomic.Bool
}

// release drops one reference; the last one gives memory and budget back. The memory may live on in other hands: what
// they hold is not the server's to count.
func (f *frame) release() {
	switch n := f.refs.Add(-1); {
	case n == 0:
		size := f.block.Cap()
		if !f.lost.Load() {
			f.block.Release()
		}
		f.budget.Release(int64(size))
	case n < 0:
		panic("server: frame released twice")
	}
}
