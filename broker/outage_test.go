package broker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidemill/tidemill/objectstore"
	"github.com/tidemill/tidemill/objectstore/faultstore"
)

// Traffic is a producer and a group with one member that commits what it has read, both with a client's usual patience.
type traffic struct {
	t         *testing.T
	acked     atomic.Int64
	consumed  atomic.Int64
	committed atomic.Int64 // commits that were acknowledged

	// restarts: the broker goes away at times, and a group's member may say so.
	restarts atomic.Bool

	mu       sync.Mutex
	offsets  map[string]int64 // of acknowledged values
	got      map[string]int64 // offsets where values were read
	failures []error

	stopProducing, stopConsuming context.CancelFunc
	producing, consuming         sync.WaitGroup
}

func startTraffic(b *testBroker, topic string) *traffic {
	tr := &traffic{t: b.t, offsets: map[string]int64{}, got: map[string]int64{}}
	producing, stopProducing := context.WithCancel(b.t.Context())
	consuming, stopConsuming := context.WithCancel(b.t.Context())
	tr.stopProducing, tr.stopConsuming = stopProducing, stopConsuming
	producer := b.client(kgo.MaxBufferedRecords(64), kgo.UnknownTopicRetries(-1), kgo.RecordRetries(1<<20))
	tr.producing.Go(func() { tr.produce(producing, producer, topic) })
	member := b.client(kgo.ConsumerGroup("readers"), kgo.ConsumeTopics(topic), kgo.DisableAutoCommit(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.RetryTimeout(time.Minute), kgo.RequestRetries(1<<20))
	tr.consuming.Go(func() { tr.consume(consuming, member) })
	b.t.Cleanup(func() {
		tr.stopProducing()
		tr.stopConsuming()
		tr.producing.Wait()
		tr.consuming.Wait()
	})
	tr.awaitProgress("at the beginning")
	return tr
}

// pace is the time between two records: a test is to last, not to load.
const pace = 2 * time.Millisecond

func (tr *traffic) produce(ctx context.Context, cl *kgo.Client, topic string) {
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for i := 0; ctx.Err() == nil; i++ {
		r := &kgo.Record{Topic: topic, Value: fmt.Appendf(nil, "value-%d", i)}
		cl.Produce(context.WithoutCancel(ctx), r, func(r *kgo.Record, err error) {
			if err != nil {
				tr.fail(fmt.Errorf("produce: %w", err))
				return
			}
			tr.mu.Lock()
			tr.offsets[string(r.Value)] = r.Offset
			tr.mu.Unlock()
			tr.acked.Add(1)
		})
		<-tick.C
	}
	if err := cl.Flush(testContext(tr.t)); err != nil {
		tr.fail(fmt.Errorf("flush: %w", err))
	}
}

func (tr *traffic) consume(ctx context.Context, cl *kgo.Client) {
	for {
		fetches := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			return
		}
		for _, e := range fetches.Errors() {
			var session *kgo.ErrGroupSession
			if tr.restarts.Load() && errors.As(e.Err, &session) {
				continue
			}
			tr.fail(fmt.Errorf("fetch: %w", e.Err))
		}
		n := 0
		tr.mu.Lock()
		fetches.EachRecord(func(r *kgo.Record) {
			if at, ok := tr.got[string(r.Value)]; ok && at != r.Offset {
				tr.failures = append(tr.failures, fmt.Errorf("%s is at offsets %d and %d", r.Value, at, r.Offset))
			}
			tr.got[string(r.Value)] = r.Offset
			n++
		})
		tr.mu.Unlock()
		tr.consumed.Add(int64(n))
		if err := cl.CommitUncommittedOffsets(ctx); err == nil {
			tr.committed.Add(1)
		} else if ctx.Err() == nil && !tr.restarts.Load() {
			tr.fail(fmt.Errorf("commit: %w", err))
		}
	}
}

func (tr *traffic) fail(err error) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.failures = append(tr.failures, err)
}

// awaitProgress returns when more was acknowledged, read and committed.
func (tr *traffic) awaitProgress(when string) {
	tr.t.Helper()
	a, r, c := tr.acked.Load(), tr.consumed.Load(), tr.committed.Load()
	waitFor(tr.t, "progress "+when, func() bool {
		return tr.acked.Load() > a+20 && tr.consumed.Load() > r+20 && tr.committed.Load() > c+1
	})
}

// check ends producing and compares: everything acknowledged is read, at its offset, once; nobody saw an error.
func (tr *traffic) check() {
	t := tr.t
	t.Helper()
	tr.stopProducing()
	tr.producing.Wait()
	waitFor(t, "the rest to be read", func() bool {
		tr.mu.Lock()
		defer tr.mu.Unlock()
		return len(tr.got) >= len(tr.offsets)
	})
	tr.stopConsuming()
	tr.consuming.Wait()
	for value, offset := range tr.offsets {
		if at, ok := tr.got[value]; !ok || at != offset {
			t.Errorf("%s was acknowledged at offset %d: read %v at %d", value, offset, ok, at)
		}
	}
	if n, last := len(tr.got), int64(len(tr.offsets)); int64(n) != last {
		t.Errorf("read %d values of %d acknowledged", n, last)
	}
	for _, err := range tr.failures {
		t.Errorf("a client saw: %v", err)
	}
	t.Logf("%d records, %d commits", len(tr.offsets), tr.committed.Load())
}

// TestLyingStore: PUTs that fail, and PUTs that are applied but answered with an error, are nobody's business but the log's.
func TestLyingStore(t *testing.T) {
	var faults *faultstore.Store
	b := startBrokerOn(t, func(below objectstore.Store) objectstore.Store {
		faults = faultstore.New(below, 1)
		return closingStore{faults, below}
	})
	dial(t, b.kafka).createTopic("t", 1)
	tr := startTraffic(b, "t")
	for _, tc := range []struct {
		name string
		rule faultstore.Rule
	}{
		{"applied but answered with an error", faultstore.Rule{Op: faultstore.Put, Fault: faultstore.LostReply, Chance: .7}},
		{"not applied", faultstore.Rule{Op: faultstore.Put, Fault: faultstore.Lost, Chance: .7}},
		{"applied twice", faultstore.Rule{Op: faultstore.Put, Fault: faultstore.Twice, Chance: .7}},
		{"applied later", faultstore.Rule{Op: faultstore.Put, Fault: faultstore.Late, Delay: 50 * time.Millisecond, Chance: .7}},
	} {
		before := faults.Faulted()
		faults.SetRules(tc.rule)
		waitFor(t, "faults: "+tc.name, func() bool { return faults.Faulted() > before+15 })
		faults.SetRules()
		tr.awaitProgress("after PUTs " + tc.name)
	}
	faults.Wait()
	tr.check()
}

// closingStore closes the store below one that cannot be closed.
type closingStore struct {
	objectstore.Store
	below objectstore.Store
}

func (c closingStore) Close() error { return c.below.(io.Closer).Close() }

// TestEtcdOutage: no produce, fetch, heartbeat or commit needs etcd (section 11); afterwards admin requests work again.
func TestEtcdOutage(t *testing.T) {
	if testing.Short() {
		t.Skip("an outage of seconds: skipped with -short")
	}
	etcd := startEtcd(t)
	b := startBroker(t, "--cluster", etcd.url(), "--bucket", "file://"+t.TempDir())
	c := dial(t, b.kafka)
	c.createTopic("t", 1)
	tr := startTraffic(b, "t")
	etcd.stop()
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); {
		tr.awaitProgress("while etcd is away")
	}
	if code := b.httpStatus("/readyz"); code != http.StatusOK {
		t.Errorf("/readyz answers %d while etcd is away", code)
	}
	etcd.start()
	dial(t, b.kafka).createTopic("later", 1)
	tr.awaitProgress("after the outage")
	tr.check()
}
