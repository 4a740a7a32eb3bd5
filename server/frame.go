package server

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/tidemill/tidemill/internal/memory"
)

// keptBytes bounds the memory that waits for the next frames when Options name no pool.
const keptBytes = 16 << 20

// A frame is the memory of one request, with the budget that admitted it.
type frame struct {
	block  *memory.Block
	budget *Budget
	// charged is what the frame has taken of budget.
	charged int64
	refs    atomic.Int32
	// lost is set when somebody may still read the block although all references are gone: it is not used again.
	lost atomic.Bool
	// paid is set once the budget was given back.
	paid atomic.Bool
}

const (
	// firstPiece is how much of a large frame is admitted at first, and growth by how much it grows when that came: so that
	// memory follows the bytes that come, not those that are claimed. Usual produces are smaller and read in one go.
	firstPiece = 256 << 10
	growth     = 8
)

// readFrame reads a frame of size bytes, all of which are admitted before they are read.
func (c *Conn) readFrame(size int, budget *Budget) (*frame, error) {
	n := min(size, firstPiece)
	if err := budget.Acquire(c.ctx, int64(memory.Size(n))); err != nil {
		return nil, fmt.Errorf("admit %d bytes: %w", size, err)
	}
	f := &frame{block: c.server.opts.Memory.Get(n), budget: budget, charged: budget.charge(int64(memory.Size(n)))}
	f.refs.Store(1)
	now := time.Now()
	a := arrival{begun: now, mark: now, size: size}
	err := c.readPieces(f, &a)
	if err != nil {
		f.release()
		return nil, err
	}
	return f, nil
}

// readPieces fills f, and lets it grow as its bytes come.
func (c *Conn) readPieces(f *frame, a *arrival) error {
	if _, err := c.r.Discard(4); err != nil {
		return err
	}
	if len(f.block.Bytes()) < a.size {
		f.budget.begin(f.charged)
		defer func() { f.budget.settle(f.charged) }()
	}
	for {
		if err := c.readPiece(a, f.block.Bytes()); err != nil || a.n == a.size {
			return err
		}
		if err := c.growFrame(f, a); err != nil {
			return err
		}
	}
}

// growFrame gives a frame whose memory is full more of it.
func (c *Conn) growFrame(f *frame, a *arrival) error {
	waited := time.Now()
	n := min(growth*a.n, a.size)
	if more := int64(memory.Size(n)) - f.charged; more > 0 {
		taken, err := f.budget.grow(c.ctx, more, int64(memory.Size(a.size))-f.charged)
		if err != nil {
			return fmt.Errorf("admit %d bytes: %w", a.size, err)
		}
		f.charged += taken
	}
	a.begun = a.begun.Add(time.Since(waited))
	a.mark, a.markN = time.Now(), a.n
	grown := c.server.opts.Memory.Get(n)
	copy(grown.Bytes(), f.block.Bytes())
	f.block.Release()
	f.block = grown
	return nil
}

// release drops one reference. The last one gives memory and budget back; it reports whether nobody reads the request any
// more. The memory may live on in other hands: what they hold is not the server's to count.
func (f *frame) release() (unread bool) {
	switch n := f.refs.Add(-1); {
	case n > 0:
		return false
	case n < 0:
		panic("server: frame released twice")
	}
	f.pay()
	if f.lost.Load() {
		return false
	}
	f.block.Release()
	f.block = nil
	return true
}

// lose is for a frame whose handler panicked: who knows who reads it, and which references are never released.
func (f *frame) lose() {
	f.lost.Store(true)
	f.pay()
}

func (f *frame) pay() {
	if !f.paid.Swap(true) {
		f.budget.giveBack(f.charged)
	}
}
