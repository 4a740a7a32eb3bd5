package server

import (
	"container/list"
	"context"
	"sync"
)

// A Budget admits bytes. Those who wait are served in the order they came, so that a large request is not starved by small
// ones. All methods are safe for concurrent use.
type Budget struct {
	size int64
	mu   struct {
		sync.Mutex
		used    int64
		waiters list.List // of *budgetWaiter
	}
}

type budgetWaiter struct {
	n     int64
	ready chan struct{}
}

// NewBudget returns a Budget of size bytes.
func NewBudget(size int64) *Budget { return &Budget{size: size} }

// charge is what n bytes cost: a request larger than the whole budget is admitted alone, rather than never.
func (b *Budget) charge(n int64) int64 { return min(n, b.size) }

// Acquire takes n bytes, waiting until they are free or ctx ends. It returns nil or the cause of ctx's end.
func (b *Budget) Acquire(ctx context.Context, n int64) error {
	n = b.charge(n)
	b.mu.Lock()
	if b.mu.waiters.Len() == 0 && b.mu.used+n <= b.size {
		b.mu.used += n
		b.mu.Unlock()
		return nil
	}
	w := &budgetWaiter{n: n, ready: make(chan struct{})}
	e := b.mu.waiters.PushBack(w)
	b.mu.Unlock()
	select {
	case <-w.ready:
		return nil
	case <-ctx.Done():
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case <-w.ready: // admitted just before ctx ended
		b.mu.used -= n
	default:
		b.mu.waiters.Remove(e)
	}
	b.admitLocked()
	return context.Cause(ctx)
}

// Release gives back what an Acquire of n took.
func (b *Budget) Release(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mu.used -= b.charge(n)
	b.admitLocked()
}

func (b *Budget) admitLocked() {
	for e := b.mu.waiters.Front(); e != nil; e = b.mu.waiters.Front() {
		w := e.Value.(*budgetWaiter)
		if b.mu.used+w.n > b.size {
			return
		}
		b.mu.used += w.n
		b.mu.waiters.Remove(e)
		close(w.ready)
	}
}

// InUse returns the bytes taken.
func (b *Budget) InUse() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.mu.used
}

// Size returns the bytes that there are.
func (b *Budget) Size() int64 { return b.size }
