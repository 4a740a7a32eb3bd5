package partition

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tidemill/tidemill/internal/memory"
	"github.com/tidemill/tidemill/objectstore"
)

const (
	// pieceMax bounds one read from the store: large enough that the request costs less than the bytes, small enough for a fair budget.
	pieceMax = 1 << 20
	// nearShare divides the memory for blocks of a store that is near, which the system caches already: they are kept for those who ask for
	// less than a block. What is used again and again a core's cache has.
	nearShare = 4
	// aheadBlocks bounds how many blocks are read ahead of one reader.
	aheadBlocks = 8
	// aheadEarned is how many blocks that were read ahead must be used before one more is.
	aheadEarned = 16
)

// blockKey names an exact range of an object.
type blockKey struct {
	objectID
	pos, len uint32
}

// A block is a range of an object in memory. Its fields are written once, before ready is closed. It is counted by reference: the cache
// holds one, and so does everybody who acquired it.
type block struct {
	ready chan struct{}
	// data is an immutable piece of a slot or segment, in memory that is used again; whole tells that a checksum over it was right.
	data   []byte
	memory *memory.Block
	whole  bool
	// fleeting blocks are given to those who wait and not kept.
	fleeting bool
	// extents is the decoded form of an index, in place of data.
	extents []Extent
	err     error
	refs    atomic.Int32

	// size, element and ahead are guarded by the cache's mutex. element is nil while the block loads; ahead: it was read ahead of need
	// and not asked for yet.
	size    int64
	element *list.Element
	ahead   bool
}

// Release implements held.
func (b *block) Release() {
	if n := b.refs.Add(-1); n == 0 && b.memory != nil {
		b.memory.Release()
	} else if n < 0 {
		panic("partition: block released twice")
	}
}

// A loader fills a block. It runs without locks on a context that outlives the request that asked first.
type loader func(ctx context.Context, b *block) error

// blockCache holds old data in a byte budget, least recently used first out. Each miss is loaded once, however many ask (F4). What
// fails is not kept.
type blockCache struct {
	metrics *metrics
	pool    *memory.Pool
	// near: who asks for a block loads it, see objectstore.NearStore, and nothing is loaded before it is asked for.
	near    bool
	budget  int64
	timeout time.Duration
	// slots bounds concurrent loads.
	slots chan struct{}
	loads sync.WaitGroup
	// ahead is how many blocks are read ahead of a reader now: less when what was read ahead was dropped unused.
	ahead atomic.Int32

	mu     sync.Mutex
	closed bool
	blocks map[blockKey]*block
	lru    list.List // of blockKey, most recent first
	bytes  int64
	earned int
}

func (c *blockCache) init(o Options, pool *memory.Pool, m *metrics) {
	c.metrics, c.pool, c.budget, c.timeout = m, pool, o.CacheBytes, o.LoadTimeout
	if c.near = objectstore.Near(o.Store); c.near {
		c.budget /= nearShare
	}
	c.slots = make(chan struct{}, o.Loads)
	c.blocks = map[blockKey]*block{}
	c.ahead.Store(aheadBlocks)
}

var errCacheClosed = errors.New("closing")

// acquire returns the block for key and makes sure that it is loaded or being loaded. The caller releases it. ctx only lends its values:
// the load goes on when ctx ends, because others may wait for it.
func (c *blockCache) acquire(ctx context.Context, key blockKey, load loader) *block {
	c.mu.Lock()
	b, missing := c.findLocked(key)
	b.refs.Add(1)
	if b.ahead {
		b.ahead = false
		if c.earned++; c.earned >= aheadEarned {
			c.earned = 0
			c.ahead.Store(min(c.ahead.Load()+1, aheadBlocks))
		}
	}
	c.mu.Unlock()
	if missing {
		c.start(context.WithoutCancel(ctx), key, b, load)
	}
	return b
}

// start loads a block: at once if the store is near and a place among the loads is free, else in the background.
func (c *blockCache) start(ctx context.Context, key blockKey, b *block, load loader) {
	if c.near {
		select {
		case c.slots <- struct{}{}:
			c.load(ctx, key, b, load)
			return
		default:
		}
	}
	go func() {
		c.slots <- struct{}{}
		c.load(ctx, key, b, load)
	}()
}

// prefetch begins to load what will be asked for; early: perhaps, later.
func (c *blockCache) prefetch(ctx context.Context, key blockKey, load loader, early bool) {
	if c.near {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch b := c.blocks[key]; {
	case b == nil && !c.closed:
		c.metrics.cacheMisses.Inc()
		b = c.addLocked(key)
		b.ahead = early
		c.start(context.WithoutCancel(ctx), key, b, load)
	case b != nil && b.element != nil:
		c.lru.MoveToFront(b.element)
	}
}

// findLocked returns the block for key; missing: it is to be loaded.
func (c *blockCache) findLocked(key blockKey) (b *block, missing bool) {
	if b, ok := c.blocks[key]; ok {
		c.metrics.cacheHits.Inc()
		if b.element != nil {
			c.lru.MoveToFront(b.element)
		}
		return b, false
	}
	c.metrics.cacheMisses.Inc()
	if c.closed {
		b := newBlock()
		b.err = errCacheClosed
		close(b.ready)
		return b, false
	}
	return c.addLocked(key), true
}

func newBlock() *block {
	b := &block{ready: make(chan struct{})}
	b.refs.Store(1)
	return b
}

// addLocked adds a block that is not there, which the caller lets load.
func (c *blockCache) addLocked(key blockKey) *block {
	b := newBlock()
	c.blocks[key] = b
	c.loads.Add(1)
	return b
}

// load loads a block and gives its place among the loads back. close waits for it.
func (c *blockCache) load(ctx context.Context, key blockKey, b *block, load loader) {
	defer c.loads.Done()
	b.err = errLoadPanicked // unless it returns: who asked may survive it, and the others must not wait for ever
	defer c.loaded(key, b)
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	b.err = load(ctx, b)
}

var errLoadPanicked = errors.New("panic in a read")

// loaded lets those who wait for a block have it, and keeps it if it is good.
func (c *blockCache) loaded(key blockKey, b *block) {
	<-c.slots
	c.mu.Lock()
	defer c.mu.Unlock()
	defer close(b.ready)
	if b.err != nil || b.fleeting {
		delete(c.blocks, key)
		b.Release()
		return
	}
	b.size = int64(len(b.extents)) * extentLen
	if b.memory != nil {
		b.size += int64(b.memory.Cap())
	}
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
	if b.ahead { // memory is too short for what was read ahead
		c.earned = 0
		c.ahead.Store(max(c.ahead.Load()/2, 1)) // one is always tried: how else would it learn that there is room
	}
	c.lru.Remove(b.element)
	c.bytes -= b.size
	delete(c.blocks, key)
	b.Release()
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

// close lets no more loads begin and waits for those under way, at most until ctx ends.
func (c *blockCache) close(ctx context.Context) error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	ended := make(chan struct{})
	go func() {
		c.loads.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for reads from the store: %w", ctx.Err())
	}
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
