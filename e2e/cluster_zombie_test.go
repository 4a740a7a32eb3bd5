package e2e

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/conformance"
	"github.com/tidemill/tidemill/e2e/harness"
)

const (
	zombieTopic = "undead"
	zombieSleep = 15 * time.Second
	// zombieAsked is for how long the woken broker is asked.
	zombieAsked = 5 * time.Second
)

// TestClusterZombie freezes a broker until others have its partitions, and wakes it. What waited in its sockets and what comes then
// is answered as by a broker that leads nothing, or truly; and it comes back as another life.
func TestClusterZombie(t *testing.T) {
	r := startClusterRun(t, harness.ClusterOptions{})
	z := newZombie(t, r.cluster)
	r.fault()
	z.node.Stop()
	asleep := time.After(zombieSleep)
	harness.Eventually(t, time.Minute, "the partitions of the frozen broker are others'", z.taken)
	<-asleep
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	z.produceElsewhere(ctx)
	var asking sync.WaitGroup
	want := z.written.n.Load() + int64(2*len(z.partitions))
	for _, p := range z.partitions {
		asking.Go(func() { z.askEnds(ctx, p) })
		asking.Go(func() { z.produceHere(ctx, p) })
	}
	harness.Eventually(t, time.Minute, "requests wait in the sockets of the frozen broker", func() error {
		if n := z.written.n.Load(); n < want {
			return errorf("%d of %d are written", n, want)
		}
		return nil
	})
	z.node.Continue()
	asking.Wait()
	r.cluster.AwaitBrokers(3)
	r.cluster.AwaitSpread()
	_, gap := r.finish("SIGSTOP for longer than the lease, and SIGCONT")
	// Only its lease speaks for its death, so that there is a grace of one more.
	r.within(gap, 2*brokerLease+takeoverLimit)
	r.survivors(3)
	z.judge()
}

// A zombie is a broker that does not know yet that it leads nothing.
type zombie struct {
	*testing.T
	cluster    *harness.Cluster
	node       *harness.Node
	client     *kgo.Client // of all brokers
	pinned     *kgo.Client
	id         int32
	topic      [16]byte
	partitions []int32         // which it led
	acked      map[int32]int64 // ends of what was acknowledged before it woke
	written    writes

	mu      sync.Mutex
	stored  map[int32]map[int64]string // what it said that it has stored
	answers map[string]int
}

func newZombie(t *testing.T, c *harness.Cluster) *zombie {
	t.Helper()
	z := &zombie{T: t, cluster: c, client: c.Client(), acked: map[int32]int64{}, stored: map[int32]map[int64]string{}, answers: map[string]int{}}
	if _, err := kadm.NewClient(z.client).CreateTopic(t.Context(), 12, -1, nil, zombieTopic); err != nil {
		t.Fatal(err)
	}
	c.AwaitSpread()
	z.node = others(c)[0]
	// Its connections outlast the sleep, though nothing comes.
	z.pinned = z.node.Pinned(kgo.WithHooks(&z.written), kgo.ConnIdleTimeout(10*time.Minute), kgo.RequestTimeoutOverhead(time.Minute))
	m, err := c.Metadata(t.Context(), zombieTopic)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range m.Brokers {
		if fmt.Sprintf("%s:%d", b.Host, b.Port) == z.node.Addr {
			z.id = b.NodeID
		}
	}
	z.topic = m.Topics[zombieTopic].ID
	for _, p := range m.Topics[zombieTopic].Partitions {
		if p.Leader == z.id {
			z.partitions = append(z.partitions, p.Partition)
		}
	}
	slices.Sort(z.partitions)
	z.produceElsewhere(t.Context())
	// Both connections are made before it sleeps, so that requests wait in its sockets.
	if _, code, err := z.end(t.Context(), z.partitions[0]); code != 0 || err != nil {
		t.Fatal(kerr.ErrorForCode(code), err)
	}
	if _, err := z.produceOnce(t.Context(), z.partitions[0], "warm"); err != nil {
		t.Fatal(err)
	}
	return z
}

// writes counts requests that were written to a socket.
type writes struct{ n atomic.Int64 }

func (w *writes) OnBrokerWrite(_ kgo.BrokerMetadata, key int16, _ int, _, _ time.Duration, err error) {
	if key != kmsg.ApiVersions.Int16() && err == nil {
		w.n.Add(1)
	}
}

// taken returns nil once others lead what it led.
func (z *zombie) taken() error {
	m, err := z.cluster.Metadata(z.Context(), zombieTopic)
	if err != nil {
		return err
	}
	for _, p := range m.Topics[zombieTopic].Partitions {
		if p.Err != nil || p.Leader == z.id || p.Leader < 0 {
			return errorf("partition %d has leader %d: %w", p.Partition, p.Leader, p.Err)
		}
	}
	return nil
}

// produceElsewhere stores a few records in its partitions, with whoever leads them.
func (z *zombie) produceElsewhere(ctx context.Context) {
	z.Helper()
	producer := z.cluster.Client(kgo.RecordPartitioner(kgo.ManualPartitioner()))
	for range 5 {
		for _, p := range z.partitions {
			r, err := producer.ProduceSync(ctx, &kgo.Record{Topic: zombieTopic, Partition: p, Value: []byte("live")}).First()
			if err != nil {
				z.Fatal(err)
			}
			z.acked[p] = r.Offset + 1
		}
	}
}

// note counts an answer.
func (z *zombie) note(what string, code int16, err error) {
	z.mu.Lock()
	defer z.mu.Unlock()
	switch {
	case err != nil:
		what += " no answer"
	case code != 0:
		what += " " + kerr.ErrorForCode(code).Error()
	}
	z.answers[what]++
}

func (z *zombie) end(ctx context.Context, p int32) (offset int64, code int16, err error) {
	req := kmsg.NewPtrListOffsetsRequest()
	req.ReplicaID = -1
	part := kmsg.NewListOffsetsRequestTopicPartition()
	part.Partition, part.Timestamp, part.CurrentLeaderEpoch = p, -1, -1
	topic := kmsg.NewListOffsetsRequestTopic()
	topic.Topic, topic.Partitions = zombieTopic, append(topic.Partitions, part)
	req.Topics = append(req.Topics, topic)
	resp, err := z.pinned.SeedBrokers()[0].Request(ctx, req)
	if err != nil {
		return 0, 0, err
	}
	got := resp.(*kmsg.ListOffsetsResponse).Topics[0].Partitions[0]
	return got.Offset, got.ErrorCode, nil
}

// askEnds asks it for the end of a partition again and again.
func (z *zombie) askEnds(ctx context.Context, p int32) {
	for begun := time.Now(); time.Since(begun) < zombieAsked; {
		offset, code, err := z.end(ctx, p)
		z.note("end", code, err)
		if err == nil && code == 0 && offset < z.acked[p] {
			z.Errorf("%v after the wake-up: partition %d is said to end at %d, and %d was acknowledged", time.Since(begun), p, offset, z.acked[p])
		}
		if err != nil && ctx.Err() != nil {
			return
		}
	}
}

func (z *zombie) produceOnce(ctx context.Context, p int32, value string) (got kmsg.ProduceResponseTopicPartition, err error) {
	req := kmsg.NewPtrProduceRequest()
	req.Acks, req.TimeoutMillis = -1, 10_000
	part := kmsg.NewProduceRequestTopicPartition()
	part.Partition, part.Records = p, conformance.BatchOf(value)
	topic := kmsg.NewProduceRequestTopic()
	topic.Topic, topic.TopicID, topic.Partitions = zombieTopic, z.topic, append(topic.Partitions, part)
	req.Topics = append(req.Topics, topic)
	resp, err := z.pinned.SeedBrokers()[0].Request(ctx, req)
	if err != nil {
		return got, err
	}
	return resp.(*kmsg.ProduceResponse).Topics[0].Partitions[0], nil
}

// produceHere sends it records of a partition one after another.
func (z *zombie) produceHere(ctx context.Context, p int32) {
	for i, begun := 0, time.Now(); time.Since(begun) < zombieAsked && ctx.Err() == nil; i++ {
		value := fmt.Sprintf("undead-%d-%d", p, i)
		got, err := z.produceOnce(ctx, p, value)
		z.note("produce", got.ErrorCode, err)
		if err != nil || got.ErrorCode != 0 {
			continue
		}
		z.mu.Lock()
		if z.stored[p] == nil {
			z.stored[p] = map[int64]string{}
		}
		z.stored[p][got.BaseOffset] = value
		z.mu.Unlock()
	}
}

// judge reads the partitions, which must have what the zombie said that it has stored.
func (z *zombie) judge() {
	z.Helper()
	ctx, cancel := context.WithTimeout(z.Context(), time.Minute)
	defer cancel()
	z.Logf("answers of the woken broker: %v", z.answers)
	for p, stored := range z.stored {
		last := slices.Max(slices.Collect(maps.Keys(stored)))
		reader := z.cluster.Client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{zombieTopic: {p: kgo.NewOffset().At(0)}}))
		read := map[int64]string{}
		for len(read) == 0 || !has(read, last) {
			fetches := reader.PollFetches(ctx)
			if err := ctx.Err(); err != nil {
				z.Errorf("partition %d was not read to offset %d: %v", p, last, err)
				break
			}
			fetches.EachRecord(func(r *kgo.Record) { read[r.Offset] = string(r.Value) })
		}
		for offset, value := range stored {
			if read[offset] != value {
				z.Errorf("partition %d: %q was acknowledged at offset %d, where %q is", p, value, offset, read[offset])
			}
		}
	}
}

func has(m map[int64]string, key int64) bool { _, ok := m[key]; return ok }
