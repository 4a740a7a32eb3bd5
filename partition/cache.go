package partition

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/tidemill/tidemill/objectstore"
)

// pieceMax bounds one read from the store: large enough that the request costs less than the bytes, small enough for a fair budget.
const pieceMax = 1 << 20

// blockKey names an exact range of an object: of a slot, or of a manifest object.
type blockKey struct {
	manifest bool
	life     uint32
	seq      int64
	pos, len uint32
}

// A block is a range of an object in memory. Its fields are written once, before ready is closed.
type block struct {
	ready chan struct{}
	// data is an immutable piece of a slot; whole tells that a chunk's checksum over it was right.
	data  []byte
	whole bool
	// fleeting blocks are given to those who wait and not kept.
	fleeting bool
	// extents is the decoded form of a page, in place of data.
	extents []Extent
	err     error

	// size and element are guarded by the cache's mutex; element is nil while the block loads.
	size    int64
	element *list.Element
}

// A loader fills a block. It runs without locks on a context that outlives the request that asked first.
type loader func(ctx context.Context, b *block) error

// blockCache holds old data in a byte budget, least recently used first out. Each miss is loaded once, however many ask (F4). What
// fails is not kept.
type blockCache struct {
	metrics *metrics
	budget  int64
	timeout time.Duration
	// slots bounds concurrent loads.
	slots chan struct{}
	loads sync.WaitGroup

	mu     sync.Mutex
	closed bool
	blocks map[blockKey]*block
	lru    list.List // of blockKey, most recent first
	bytes  int64
}

func (c *blockCache) init(o Options, m *metrics) {
	c.metrics, c.budget, c.timeout = m, o.CacheBytes, o.LoadTimeout
	c.slots = make(chan struct{}, o.Loads)
	c.blocks = map[blockKey]*block{}
}

var errCacheClosed = errors.New("closing")

// start returns the block for key and makes sure that it is loaded or being loaded. ctx only lends its values: the load goes on when
// ctx ends, because others may wait for it.
func (c *blockCache) start(ctx context.Context, key blockKey, load loader) *block {
	c.mu.Lock()
	defer c.mu.Unlock()
	if b, ok := c.blocks[key]; ok {
		c.metrics.cacheHits.Inc()
		if b.element != nil {
			c.lru.MoveToFront(b.element)
		}
		return b
	}
	c.metrics.cacheMisses.Inc()
	b := &block{ready: make(chan struct{})}
	if c.closed {
		b.err = errCacheClosed
		close(b.ready)
		return b
	}
	c.blocks[key] = b
	c.loads.Add(1)
	go c.load(context.WithoutCancel(ctx), key, b, load)
	return b
}

// load runs in a goroutine of its own, which close waits for.
func (c *blockCache) load(ctx context.Context, key blockKey, b *block, load loader) {
	defer c.loads.Done()
	c.slots <- struct{}{}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	b.err = load(ctx, b)
	cancel()
	<-c.slots
	c.mu.Lock()
	defer c.mu.Unlock()
	defer close(b.ready)
	if b.err != nil || b.fleeting {
		delete(c.blocks, key)
		return
	}
	b.size = int64(len(b.data)) + int64(len(b.extents))*extentLen
	b.element = c.lru.PushFront(key)
	c.bytes += b.size
	for c.bytes > c.budget {
		c.dropLocked(c.lru.Back().Value.(blockKey))
	}
}

// wait returns once b is loaded, or with the error of ctx.
func (b *block) wait(ctx context.Context) error {
	select {
	case <-b.ready:
		return b.err
	default:
	}
	select {
	case <-b.ready:
		return b.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *blockCache) dropLocked(key blockKey) {
	b := c.blocks[key]
	if b == nil || b.element == nil {
		return
	}
	c.lru.Remove(b.element)
	c.bytes -= b.size
	delete(c.blocks, key)
}

// drop forgets a block that turned out to be wrong.
func (c *blockCache) drop(key blockKey) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dropLocked(key)
}

func (c *blockCache) size() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.bytes
}

// close lets no more loads begin and waits for those under way, at most the load timeout.
func (c *blockCache) close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.loads.Wait()
}

// storeError tells damage from trouble: a range beyond an immutable object's end can only come from a wrong index or a cut object.
func storeError(err error) error {
	switch {
	case errors.Is(err, ErrCorrupt), errors.Is(err, ErrStorage):
		return err
	case errors.Is(err, objectstore.ErrRange):
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return fmt.Errorf("%w: %w", ErrStorage, err)
}
