package partition

import (
	"context"
	"testing"

	"github.com/tidemill/tidemill/objectstore"
)

// near is a store that says so.
type near struct{ objectstore.Store }

func (near) Near() bool { return true }

// TestReadNear: who goes through old data in a store that is near gets all of it, in answers of a few blocks, and larger batches
// whole if their limits allow it; no block is loaded twice, and none before it is asked for.
func TestReadNear(t *testing.T) {
	const batches, large = 24, 11
	hs := &hookStore{}
	n := cold(t, func(n *node, l *Log) {
		for i := range batches {
			size := 700 << 10
			if i == large {
				size = 3 << 20
			}
			l.try(sized(size, byte(i)))
		}
		n.commit()
		n.checkpointed(t)
	}, func(o *Options) { hs.Store = o.Store; o.Store, o.CacheBytes = near{hs}, 64<<20 })
	before, next := hs.reads.Load(), int64(0)
	for next < batches {
		r, err := n.log(0).Read(context.Background(), ReadInput{Offset: next, MaxBytes: 16 << 20})
		if err != nil {
			t.Fatal(err)
		}
		if r.next <= next || r.Bytes > nearMax+pieceMax && (next > large || r.next <= large) {
			t.Fatalf("a read at %d gives %d bytes up to %d", next, r.Bytes, r.next)
		}
		next = r.next
		r.Release()
	}
	// The index, a block for each small batch, and the large one in four pieces.
	if reads := hs.reads.Load() - before; reads != 1+batches-1+4 {
		t.Errorf("%d reads", reads)
	}
}

// TestReadNearByPartitionLimit: a limit that leaves no room for a second block does not load it, so consumers of many partitions need no
// cache.
func TestReadNearByPartitionLimit(t *testing.T) {
	const batches, perBlock = 24, 3
	hs := &hookStore{}
	n := cold(t, func(n *node, l *Log) {
		for i := range batches {
			l.try(sized(300<<10, byte(i)))
		}
		n.commit()
		n.checkpointed(t)
	}, func(o *Options) { hs.Store = o.Store; o.Store, o.CacheBytes = near{hs}, 1 })
	before, reads := hs.reads.Load(), int64(0)
	for next := int64(0); next < batches; reads++ {
		r, err := n.log(0).Read(context.Background(), ReadInput{Offset: next, MaxBytes: 1 << 20, AtLeastOne: true})
		if err != nil || r.next != next+perBlock {
			t.Fatalf("a read at %d ends at %d: %v", next, r.next, err)
		}
		next = r.next
		r.Release()
	}
	if got := hs.reads.Load() - before; got != 2*reads { // the index and a block
		t.Errorf("%d reads of the store for %d", got, reads)
	}
}

// TestReadOfNoBytesLoadsNothing: a read that may return nothing tells where the log ends, and leaves the store alone.
func TestReadOfNoBytesLoadsNothing(t *testing.T) {
	hs := &hookStore{}
	n := cold(t, func(n *node, l *Log) {
		l.try(sized(1000, 0))
		n.commit()
		n.checkpointed(t)
	}, func(o *Options) { hs.Store = o.Store; o.Store = hs })
	before := hs.reads.Load()
	r, err := n.log(0).Read(context.Background(), ReadInput{})
	if reads := hs.reads.Load() - before; err != nil || r.Bytes != 0 || r.HighWatermark != 1 || reads != 0 {
		t.Errorf("%d bytes, high watermark %d, %v, with %d reads from the store", r.Bytes, r.HighWatermark, err, reads)
	}
}
