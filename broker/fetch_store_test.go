package broker

import (
	"context"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/objectstore"
	"github.com/tidemill/tidemill/protocol"
)

// A readStore is a store that is far, whose reads of data are counted, and wait while it is shut, as those of a service that hangs.
type readStore struct {
	objectstore.Store
	reads atomic.Int64
	open  atomic.Pointer[chan struct{}]
}

// shut makes reads wait until the returned function is called.
func (s *readStore) shut() (reopen func()) {
	opened := make(chan struct{})
	s.open.Store(&opened)
	return sync.OnceFunc(func() { close(opened) })
}

func startOnReadStore(t *testing.T, args ...string) (*testBroker, *readStore) {
	t.Helper()
	s := &readStore{}
	s.shut()()
	b := prepareBroker(t, func(below objectstore.Store) objectstore.Store { s.Store = below; return s }, args...)
	b.start()
	return b, s
}

func (s *readStore) ReadAt(ctx context.Context, key string, p []byte, off int64) error {
	if strings.HasPrefix(key, "wal/") || strings.HasPrefix(key, "segment/") {
		s.reads.Add(1)
		select {
		case <-*s.open.Load():
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return s.Store.ReadAt(ctx, key, p, off)
}

func (s *readStore) Close() error { return s.Store.(io.Closer).Close() }

// fetchPartitions asks for the first n partitions of a topic from their beginning.
func fetchPartitions(topic string, n int) *kmsg.FetchRequest {
	req := fetchRequest(12, topic, protocol.TopicID{}, 0, 0)
	one := req.Topics[0].Partitions[0]
	for i := 1; i < n; i++ {
		one.Partition = int32(i)
		req.Topics[0].Partitions = append(req.Topics[0].Partitions, one)
	}
	return req
}

// TestFetchReadsNotWhatItMayNotSend: once a fetch has no room for a batch it loads nothing for the partitions behind, whose marks it tells.
func TestFetchReadsNotWhatItMayNotSend(t *testing.T) {
	t.Parallel()
	b, s := startOnReadStore(t)
	c := dial(t, b.kafka)
	const n = 10
	c.createTopic("t", n)
	for i := range n {
		wantCode(t, "produce", c.produce("t", int32(i), batchOf(strings.Repeat("x", 9000))).ErrorCode, protocol.CodeNone)
	}
	b.restart(t)
	c = dial(t, b.kafka)
	before := s.reads.Load()
	req := fetchPartitions("t", n)
	req.MaxBytes = 10_000
	for i, p := range ask[*kmsg.FetchResponse](c, req).Topics[0].Partitions {
		if p.ErrorCode != 0 || p.HighWatermark != 1 || len(p.RecordBatches) > 0 != (i == 0) {
			t.Errorf("partition %d: code %d, high watermark %d, %d bytes", i, p.ErrorCode, p.HighWatermark, len(p.RecordBatches))
		}
	}
	// An index and a block of the first, and of the one that did not fit.
	if reads := s.reads.Load() - before; reads > 4 {
		t.Errorf("%d reads from the store for one batch", reads)
	}

	// A limit of the first partition that is too small for it says nothing of the others.
	req.MaxBytes = 1 << 20
	req.Topics[0].Partitions[1].PartitionMaxBytes = 100
	for i, p := range ask[*kmsg.FetchResponse](c, req).Topics[0].Partitions {
		if len(p.RecordBatches) > 0 != (i != 1) {
			t.Errorf("partition %d: %d bytes", i, len(p.RecordBatches))
		}
	}
}

// TestOldDataStarvesNotTheTail: while reads from the store hang, a fetch is answered with what lies in memory, and without an error for the
// rest, which goes on to be loaded.
func TestOldDataStarvesNotTheTail(t *testing.T) {
	t.Parallel()
	b, s := startOnReadStore(t)
	c := dial(t, b.kafka)
	const old, n = 2, 3
	c.createTopic("t", n)
	for i := range old {
		wantCode(t, "old", c.produce("t", int32(i), batchOf("old")).ErrorCode, protocol.CodeNone)
	}
	b.patience = 100 * time.Millisecond
	b.restart(t)
	c = dial(t, b.kafka)
	wantCode(t, "new", c.produce("t", old, batchOf("new")).ErrorCode, protocol.CodeNone)
	reopen := s.shut()
	defer reopen()
	before := s.reads.Load()
	req := fetchPartitions("t", n)
	req.MinBytes, req.MaxWaitMillis = 1, 60_000
	for i, p := range ask[*kmsg.FetchResponse](c, req).Topics[0].Partitions {
		if p.ErrorCode != 0 || p.HighWatermark != 1 || len(p.RecordBatches) > 0 != (i == old) {
			t.Errorf("partition %d: code %d, high watermark %d, %d bytes", i, p.ErrorCode, p.HighWatermark, len(p.RecordBatches))
		}
	}
	if p := fetched(c, fetchPartitions("t", 1)); p.ErrorCode != 0 || p.HighWatermark != 1 || len(p.RecordBatches) > 0 {
		t.Errorf("old data alone: code %d, high watermark %d, %d bytes", p.ErrorCode, p.HighWatermark, len(p.RecordBatches))
	}
	reopen()
	waitFor(t, "the old data", func() bool {
		got := 0
		for _, p := range ask[*kmsg.FetchResponse](c, req).Topics[0].Partitions {
			got += min(len(p.RecordBatches), 1)
		}
		return got == n
	})
	if reads := s.reads.Load() - before; reads > 2*old { // an index and a block of each
		t.Errorf("%d reads from the store: what was begun did not go on", reads)
	}
}

// TestFetchHoldsLittleThatItReads: what fetches have read from the store while they wait for more is bounded, for all of them together, and
// each gets on nonetheless; what lies in memory already is not held back (D11).
func TestFetchHoldsLittleThatItReads(t *testing.T) {
	t.Parallel()
	b, _ := startOnReadStore(t, "--memory", "64MiB")
	c := dial(t, b.kafka)
	const n, size = 8, 900_000
	c.createTopic("t", n)
	produce := func() {
		for i := range n {
			wantCode(t, "produce", c.produce("t", int32(i), batchOf(strings.Repeat("x", size))).ErrorCode, protocol.CodeNone)
		}
	}
	produce()
	b.restart(t)
	c = dial(t, b.kafka)
	bytes := func(resp *kmsg.FetchResponse) (sum int) {
		for _, p := range resp.Topics[0].Partitions {
			sum += len(p.RecordBatches)
		}
		return sum
	}
	reading := b.broker.reading
	most := int(reading.Size()) + size
	if got := bytes(ask[*kmsg.FetchResponse](c, fetchPartitions("t", n))); got < size || got > most {
		t.Errorf("a fetch of old data has %d bytes, want a batch at least and %d bytes at most", got, most)
	}
	if !reading.TryAcquire(reading.Size()) {
		t.Fatalf("%d bytes are still reserved", reading.InUse())
	}
	if got := bytes(ask[*kmsg.FetchResponse](c, fetchPartitions("t", n))); got < size || got > 2*size {
		t.Errorf("a fetch beside others that have all has %d bytes, want a batch", got)
	}
	produce()
	req := fetchPartitions("t", n)
	for i := range req.Topics[0].Partitions {
		req.Topics[0].Partitions[i].FetchOffset = 1
	}
	if got := bytes(ask[*kmsg.FetchResponse](c, req)); got < n*size {
		t.Errorf("a fetch of what lies in memory has %d bytes", got)
	}
	reading.Release(reading.Size())
}
