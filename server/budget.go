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
		// arriving is the part of used that frames hold which are not whole yet, and growing those of them that need more.
		arriving int64
		growing  list.List // of *budgetWaiter
	}
}

type budgetWaiter struct {
	n     int64
	ready chan struct{}
	// all is what a frame that grows may ever need; it is what it gets, and n is set to it, when all wait for each other.
	all int64
}

// NewBudget returns a Budget of size bytes.
func NewBudget(size int64) *Budget { return &Budget{size: size} }

// charge is what n bytes cost: a request larger than the whole budget is admitted alone, rather than never.
func (b *Budget) charge(n int64) int64 { return min(n, b.size) }

// Acquire takes n bytes, waiting until they are free or ctx ends. It returns nil or the cause of ctx's end.
func (b *Budget) Acquire(ctx context.Context, n int64) error {
	n = b.charge(n)
	b.mu.Lock()
	if !b.contendedLocked() && b.mu.used+n <= b.size {
		b.mu.used += n
		b.mu.Unlock()
		return nil
	}
	w := &budgetWaiter{n: n, ready: make(chan struct{})}
	return b.waitUnlock(ctx, &b.mu.waiters, w)
}

// waitUnlock puts w into a queue, gives mu up and waits until w is admitted or ctx ends.
func (b *Budget) waitUnlock(ctx context.Context, queue *list.List, w *budgetWaiter) error {
	e := queue.PushBack(w)
	b.admitLocked()
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
		b.mu.used -= w.n
		if w.all > 0 {
			b.mu.arriving -= w.n
		}
	default:
		queue.Remove(e)
	}
	b.admitLocked()
	return context.Cause(ctx)
}

// begin marks n bytes that were acquired as those of a frame that is still to grow.
func (b *Budget) begin(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mu.arriving += n
	b.admitLocked()
}

// grow takes n more bytes for a frame that has begun and may come to need all. Frames that grow come before new ones. If
// nothing but such frames holds the budget, they would wait for each other for ever: then the first takes all that it may
// need, beyond the budget's size. It returns what was taken, n or all.
func (b *Budget) grow(ctx context.Context, n, all int64) (taken int64, err error) {
	b.mu.Lock()
	w := &budgetWaiter{n: n, all: all, ready: make(chan struct{})}
	if err := b.waitUnlock(ctx, &b.mu.growing, w); err != nil {
		return 0, err
	}
	return w.n, nil
}

// settle says that a frame that has taken n bytes grows no more.
func (b *Budget) settle(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mu.arriving -= n
	b.admitLocked()
}

// TryAcquire takes n bytes if they are free and nobody waits for any.
func (b *Budget) TryAcquire(n int64) bool {
	n = b.charge(n)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.contendedLocked() || b.mu.used+n > b.size {
		return false
	}
	b.mu.used += n
	return true
}

// Contended reports whether somebody waits for bytes.
func (b *Budget) Contended() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.contendedLocked()
}

func (b *Budget) contendedLocked() bool { return b.mu.waiters.Len() > 0 || b.mu.growing.Len() > 0 }

// Release gives back what an Acquire of n took.
func (b *Budget) Release(n int64) { b.giveBack(b.charge(n)) }

// giveBack is Release for what was taken in more than one step.
func (b *Budget) giveBack(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mu.used -= n
	b.admitLocked()
}

func (b *Budget) admitLocked() {
	for e := b.mu.growing.Front(); e != nil; e = b.mu.growing.Front() {
		w := e.Value.(*budgetWaiter)
		if b.mu.used+w.n > b.size {
			if b.mu.used > b.mu.arriving || b.mu.used > b.size {
				return
			}
			w.n = w.all
		}
		b.mu.used += w.n
		b.mu.arriving += w.n
		b.mu.growing.Remove(e)
		close(w.ready)
	}
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
