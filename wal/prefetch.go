package wal

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tidemill/tidemill/objectstore"
)

// prefetcher reads slots in parallel for a sealer that judges them in order (S3). It is used by one goroutine.
type prefetcher struct {
	store   objectstore.Store
	life    Life
	depth   int
	ctx     context.Context
	cancel  context.CancelFunc
	group   sync.WaitGroup
	pending map[int64]chan fetched
}

type fetched struct {
	object []byte
	err    error
}

func newPrefetcher(ctx context.Context, store objectstore.Store, life Life, depth int) *prefetcher {
	p := &prefetcher{store: store, life: life, depth: depth, pending: map[int64]chan fetched{}}
	p.ctx, p.cancel = context.WithCancel(ctx)
	return p
}

// close stops all reads and waits for them.
func (p *prefetcher) close() {
	p.cancel()
	p.group.Wait()
}

func (p *prefetcher) get(ctx context.Context, seq int64) ([]byte, error) {
	for s := seq; s < seq+int64(p.depth); s++ {
		p.start(s)
	}
	c := p.pending[seq]
	delete(p.pending, seq)
	select {
	case f := <-c:
		return f.object, f.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (p *prefetcher) fresh(ctx context.Context, seq int64) ([]byte, error) {
	clear(p.pending)
	return p.get(ctx, seq)
}

func (p *prefetcher) start(seq int64) {
	if p.pending[seq] != nil {
		return
	}
	c := make(chan fetched, 1)
	p.pending[seq] = c
	p.group.Go(func() {
		object, err := p.store.Get(p.ctx, SlotKey(p.life, seq))
		c <- fetched{object, err}
	})
}

// deadlineStore bounds every request of a store. Reads that took too long stretch the bound of those that follow, up to eightfold: the slots
// that are read together share a link, and one that is too slow for all of them would else never bring any.
type deadlineStore struct {
	objectstore.Store
	limit time.Duration
	late  *atomic.Int32
}

// Put implements objectstore.Store.
func (d deadlineStore) Put(ctx context.Context, key string, body []byte) error {
	ctx, cancel := context.WithTimeout(ctx, d.limit)
	defer cancel()
	return d.Store.Put(ctx, key, body)
}

// Get implements objectstore.Store.
func (d deadlineStore) Get(ctx context.Context, key string) ([]byte, error) {
	limited, cancel := context.WithTimeout(ctx, d.limit<<min(d.late.Load(), 3))
	defer cancel()
	object, err := d.Store.Get(limited, key)
	if err != nil && limited.Err() != nil && ctx.Err() == nil {
		d.late.Add(1)
	}
	return object, err
}

// deadlineRegistry bounds every transaction of a registry.
type deadlineRegistry struct {
	Registry
	limit time.Duration
}

// Load implements Registry.
func (d deadlineRegistry) Load(ctx context.Context, l Life) (StreamState, error) {
	ctx, cancel := context.WithTimeout(ctx, d.limit)
	defer cancel()
	return d.Registry.Load(ctx, l)
}

// BeginSeal implements Registry.
func (d deadlineRegistry) BeginSeal(ctx context.Context, l Life, rev int64, sealer string) (StreamState, error) {
	ctx, cancel := context.WithTimeout(ctx, d.limit)
	defer cancel()
	return d.Registry.BeginSeal(ctx, l, rev, sealer)
}

// FinishSeal implements Registry.
func (d deadlineRegistry) FinishSeal(ctx context.Context, l Life, n int64, digest Digest, key string) (StreamState, error) {
	ctx, cancel := context.WithTimeout(ctx, d.limit)
	defer cancel()
	return d.Registry.FinishSeal(ctx, l, n, digest, key)
}
