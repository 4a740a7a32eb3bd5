package broker

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/internal/outagetest"
	"github.com/tidemill/tidemill/objectstore"
	"github.com/tidemill/tidemill/protocol"
)

// A counted store counts its requests: those cost money and time, so tests pin how many there are.
type counted struct {
	objectstore.Store
	all, slots, manifests atomic.Int64
}

func (c *counted) Put(ctx context.Context, key string, body []byte) error {
	c.all.Add(1)
	switch {
	case strings.HasPrefix(key, "wal/"):
		c.slots.Add(1)
	case strings.HasPrefix(key, "manifest/"):
		c.manifests.Add(1)
	}
	return c.Store.Put(ctx, key, body)
}

func (c *counted) Get(ctx context.Context, key string) ([]byte, error) {
	c.all.Add(1)
	return c.Store.Get(ctx, key)
}

func (c *counted) ReadAt(ctx context.Context, key string, p []byte, off int64) error {
	c.all.Add(1)
	return c.Store.ReadAt(ctx, key, p, off)
}

func (c *counted) Delete(ctx context.Context, keys ...string) error {
	c.all.Add(1)
	return c.Store.Delete(ctx, keys...)
}

func (c *counted) Close() error { return c.Store.(io.Closer).Close() }

// startCounted starts a broker whose log waits for a whole request rather than be hasty on a slow machine.
func startCounted(t *testing.T, args ...string) (*testBroker, *counted) {
	t.Helper()
	c := &counted{}
	b := startBrokerOn(t, func(below objectstore.Store) objectstore.Store { c.Store = below; return c },
		append([]string{"--flush-interval", "10s", "--kafka", "group.initial.rebalance.delay.ms=0"}, args...)...)
	return b, c
}

// produceToAll writes one batch to each partition of a topic in one request.
func (c *rawClient) produceToAll(topic string, partitions int) {
	c.t.Helper()
	req := produceRequest(11, topic, 0, batchOf("v"))
	for i := 1; i < partitions; i++ {
		p := kmsg.NewProduceRequestTopicPartition()
		p.Partition, p.Records = int32(i), batchOf("v")
		req.Topics[0].Partitions = append(req.Topics[0].Partitions, p)
	}
	for _, p := range ask[*kmsg.ProduceResponse](c, req).Topics[0].Partitions {
		if p.ErrorCode != 0 {
			c.t.Fatalf("partition %d: code %d", p.Partition, p.ErrorCode)
		}
	}
}

// TestPutsDoNotDependOnPartitions: 1,000 partitions written at once are one PUT, as one is, and two more for a segment and all their
// manifests.
func TestPutsDoNotDependOnPartitions(t *testing.T) {
	const rounds = 10
	for _, partitions := range []int{1, 1000} {
		t.Run(fmt.Sprint(partitions), func(t *testing.T) {
			b, store := startCounted(t)
			c := dial(t, b.kafka)
			c.createTopic("t", int32(partitions))
			all, slots := store.all.Load(), store.slots.Load()
			for range rounds {
				c.produceToAll("t", partitions)
			}
			if n := store.slots.Load() - slots; n != rounds {
				t.Errorf("%d requests made %d slots", rounds, n)
			}
			if err := b.broker.logs.Checkpoint(testContext(t)); err != nil {
				t.Fatal(err)
			}
			if n := store.all.Load() - all; n != rounds+2 {
				t.Errorf("%d requests and a checkpoint were %d requests to the store", rounds, n)
			}
		})
	}
}

// TestOneFlushFromProducerToConsumer: a record to one of 8 idle partitions is with the consumer of all of them after one PUT.
func TestOneFlushFromProducerToConsumer(t *testing.T) {
	const partitions = 8
	b, store := startCounted(t)
	c := dial(t, b.kafka)
	c.createTopic("t", partitions)
	consumer := b.client(kgo.ConsumeTopics("t"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(20*time.Second))
	all := store.all.Load()
	for i := range int32(3 * partitions) {
		before := store.slots.Load()
		if p := c.produce("t", i%partitions, batchOf("v")); p.ErrorCode != 0 {
			t.Fatalf("produce: code %d", p.ErrorCode)
		}
		fetches := consumer.PollFetches(testContext(t))
		if err := fetches.Err(); err != nil || fetches.NumRecords() != 1 {
			t.Fatalf("fetched %d records, error %v", fetches.NumRecords(), err)
		}
		if n := store.slots.Load() - before; n != 1 {
			t.Errorf("record %d took %d flushes to the consumer", i, n)
		}
	}
	if n := store.all.Load() - all; n != 3*partitions {
		t.Errorf("%d requests to the store for %d records", n, 3*partitions)
	}
}

// etcdReads returns how many reads the etcd servers of this process have done.
func etcdReads(t *testing.T) float64 {
	t.Helper()
	families, err := prometheus.DefaultGatherer.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "etcd_mvcc_range_total" {
			return f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	t.Fatal("etcd does not count its reads")
	return 0
}

// TestIdleIsSilent: a broker whose clients have nothing to do sends nothing to storage and reads nothing from etcd, while a
// group's member polls, beats and the lease is refreshed.
func TestIdleIsSilent(t *testing.T) {
	if testing.Short() {
		t.Skip("watches an idle broker for seconds: skipped with -short")
	}
	b, store := startCounted(t)
	c := dial(t, b.kafka)
	c.createTopic("t", 8)
	for i := range int32(8) {
		c.produce("t", i, batchOf("v"))
	}
	ctx := testContext(t)
	member := b.client(kgo.ConsumerGroup("g"), kgo.ConsumeTopics("t"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.DisableAutoCommit(), kgo.FetchMaxWait(500*time.Millisecond), kgo.HeartbeatInterval(500*time.Millisecond))
	for n := 0; n < 8; {
		n += member.PollFetches(ctx).NumRecords()
	}
	if err := member.CommitUncommittedOffsets(ctx); err != nil {
		t.Fatal(err)
	}
	var polling sync.WaitGroup
	polled, stop := context.WithCancel(ctx)
	polling.Go(func() { member.PollFetches(polled) })
	defer polling.Wait()
	defer stop()
	if err := b.broker.logs.Checkpoint(ctx); err != nil {
		t.Fatal(err)
	}
	requests := func(api string) float64 {
		return b.observe().Metric(`tidemill_server_request_seconds_count{api="` + api + `"}`)
	}
	// The lease is refreshed each 3.3 s, longer than which a window lasts. What was written before may still be read once.
	outagetest.Eventually(t, "a window without requests to storage and etcd", func() error {
		puts, reads := store.all.Load(), etcdReads(t)
		fetches, beats := requests("Fetch"), requests("Heartbeat")
		waitFor(t, "an idle consumer's requests", func() bool { return requests("Fetch") > fetches+10 && requests("Heartbeat") > beats+8 })
		if n, r := store.all.Load()-puts, etcdReads(t)-reads; n != 0 || r != 0 {
			return fmt.Errorf("%d requests to storage and %v reads of etcd", n, r)
		}
		return nil
	})
}

// offered is a gate that remembers what it was asked to store.
type offered struct {
	*gate
	mu     sync.Mutex
	bodies [][]byte
}

func (o *offered) Put(ctx context.Context, key string, body []byte) error {
	o.mu.Lock()
	o.bodies = append(o.bodies, bytes.Clone(body))
	o.mu.Unlock()
	return o.gate.Put(ctx, key, body)
}

// has reports whether some PUT held text.
func (o *offered) has(text string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, body := range o.bodies {
		if bytes.Contains(body, []byte(text)) {
			return true
		}
	}
	return false
}

// TestPipelineIsNotHeldToOneRequestPerAck: all 5 requests that a connection has in flight are on their way to storage before
// one of them is acknowledged, whatever a PUT costs.
func TestPipelineIsNotHeldToOneRequestPerAck(t *testing.T) {
	const inFlight = 5
	for _, profile := range []string{"latency", "cost", "free"} {
		t.Run(profile, func(t *testing.T) {
			var store *offered
			b := startBrokerOn(t, func(below objectstore.Store) objectstore.Store {
				store = &offered{gate: newGate(below)}
				return store
			}, "--write-profile", profile)
			c := dial(t, b.kafka)
			c.createTopic("t", 1)
			reopen := store.shut()
			defer reopen()
			var sent []int32
			for i := range inFlight {
				sent = append(sent, c.send(produceRequest(11, "t", 0, batchOf(fmt.Sprintf("request %d", i)))))
			}
			waitFor(t, "all requests to be on their way", func() bool {
				for i := range inFlight {
					if !store.has(fmt.Sprintf("request %d", i)) {
						return false
					}
				}
				return true
			})
			reopen()
			for i, corr := range sent {
				p := answer[*kmsg.ProduceResponse](c, produceRequest(11, "t", 0, nil), corr).Topics[0].Partitions[0]
				if protocol.ErrorCode(p.ErrorCode) != protocol.CodeNone || p.BaseOffset != int64(i) {
					t.Errorf("request %d: code %d, offset %d", i, p.ErrorCode, p.BaseOffset)
				}
			}
		})
	}
}
