package broker

import (
	"context"
	"io"
	"iter"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidemill/tidemill/objectstore"
)

// The tests named TestPeer are failures that were found in other brokers on object storage; docs/PEERS.md says what each
// was. A test's name carries the failure's name there.

// putHook is what a test does to a Put; next is the Put itself.
type putHook func(ctx context.Context, key string, body []byte, next func() error) error

// hooks count what a broker asks of its store, over all of its lives, and let a test into its Puts.
type hooks struct {
	puts, reads, lists, deletes atomic.Int64
	put                         atomic.Pointer[putHook]
}

func (h *hooks) onPut(f putHook) { h.put.Store(&f) }

// hookedStore is the store of one life.
type hookedStore struct {
	objectstore.Store
	*hooks
}

func (s hookedStore) Put(ctx context.Context, key string, body []byte) error {
	s.puts.Add(1)
	next := func() error { return s.Store.Put(ctx, key, body) }
	if f := s.put.Load(); f != nil {
		return (*f)(ctx, key, body, next)
	}
	return next()
}

func (s hookedStore) Get(ctx context.Context, key string) ([]byte, error) {
	s.reads.Add(1)
	return s.Store.Get(ctx, key)
}

func (s hookedStore) ReadAt(ctx context.Context, key string, p []byte, off int64) error {
	s.reads.Add(1)
	return s.Store.ReadAt(ctx, key, p, off)
}

func (s hookedStore) List(ctx context.Context, prefix, after string) iter.Seq2[objectstore.Info, error] {
	s.lists.Add(1)
	return s.Store.List(ctx, prefix, after)
}

func (s hookedStore) Delete(ctx context.Context, keys ...string) error {
	for _, key := range keys {
		if !strings.HasPrefix(key, "probe") {
			s.deletes.Add(1)
		}
	}
	return s.Store.Delete(ctx, keys...)
}

func (s hookedStore) Close() error { return s.Store.(io.Closer).Close() }

// startHooked starts a broker whose store a test can look at and get into.
func startHooked(t *testing.T, args ...string) (*testBroker, *hooks) {
	t.Helper()
	h := &hooks{}
	b := startBrokerOn(t, func(below objectstore.Store) objectstore.Store { return hookedStore{below, h} }, args...)
	return b, h
}

// crash ends a broker as kill -9 does, as far as its store can tell: nothing is written from now on.
func (b *testBroker) crash(h *hooks) {
	b.t.Helper()
	h.onPut(func(context.Context, string, []byte, func() error) error { return objectstore.ErrDenied })
	b.stop()
	b.stop = nil
	if err := <-b.stopped; err == nil {
		b.t.Error("the broker closed its log on a store that takes nothing")
	}
	h.put.Store(nil)
}

// isSlot reports whether a key is that of a slot of the log.
func isSlot(key string) bool { return strings.HasPrefix(key, "wal/") }

// heldPuts lets a test hold Puts and say how each ends.
type heldPuts struct {
	t        *testing.T
	arrived  chan heldPut
	released chan struct{}
}

// A heldPut waits for its verdict: nil lets it happen. done is closed when it has.
type heldPut struct {
	key     string
	verdict chan error
	done    chan struct{}
}

// holdSlots holds every Put of a slot from now on.
func (h *hooks) holdSlots(t *testing.T) *heldPuts {
	held := &heldPuts{t: t, arrived: make(chan heldPut, 1024), released: make(chan struct{})}
	h.onPut(func(ctx context.Context, key string, _ []byte, next func() error) error {
		if !isSlot(key) {
			return next()
		}
		put := heldPut{key: key, verdict: make(chan error, 1), done: make(chan struct{})}
		defer close(put.done)
		held.arrived <- put
		select {
		case err := <-put.verdict:
			if err != nil {
				return err
			}
		case <-held.released:
		case <-ctx.Done():
			return objectstore.ErrAmbiguous
		}
		return next()
	})
	return held
}

// next returns the next Put that is held.
func (held *heldPuts) next() heldPut {
	held.t.Helper()
	select {
	case put := <-held.arrived:
		return put
	case <-time.After(time.Minute):
		held.t.Fatal("no slot is put")
		return heldPut{}
	}
}

// release lets all Puts happen that are held, and those to come.
func (held *heldPuts) release() { close(held.released) }
