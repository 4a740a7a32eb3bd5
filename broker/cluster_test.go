package broker

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidemill/tidemill/partition"
	"github.com/tidemill/tidemill/protocol"
)

// testCluster is brokers without names that share an etcd and a bucket.
type testCluster struct {
	etcd    *externalEtcd
	brokers []*testBroker
}

func startCluster(t *testing.T, n int) *testCluster {
	t.Helper()
	c := &testCluster{etcd: startEtcd(t)}
	bucket := "file://" + t.TempDir()
	for range n {
		c.brokers = append(c.brokers, startBroker(t, "--cluster", c.etcd.url(), "--bucket", bucket))
	}
	waitFor(t, "the brokers to know each other", func() bool {
		for _, b := range c.brokers {
			if len(b.broker.view().brokers) != n {
				return false
			}
		}
		return true
	})
	return c
}

// owner returns the broker that serves a partition, and another one.
func (c *testCluster) owner(t *testing.T, id protocol.PartitionID) (owner, other *testBroker) {
	t.Helper()
	waitFor(t, "an owner of "+id.String(), func() bool {
		owner, other = nil, nil
		for _, b := range c.brokers {
			if _, ok := b.broker.logs.Get(id); ok {
				owner = b
			} else {
				other = b
			}
		}
		return owner != nil
	})
	return owner, other
}

// move gives a partition to another broker, and waits until that serves it.
func (c *testCluster) move(t *testing.T, id protocol.PartitionID) (to *testBroker) {
	t.Helper()
	from, to := c.owner(t, id)
	if err := from.broker.handOver(t.Context(), []partition.Transfer{{ID: id, To: to.broker.life}}); err != nil {
		t.Fatal(err)
	}
	if d := from.broker.arrivals.worth(id, false, time.Now()); d != 0 {
		t.Errorf("who has just given %s away waits %v for it", id, d)
	}
	waitFor(t, "the new owner to serve "+id.String(), func() bool {
		_, ok := to.broker.logs.Get(id)
		return ok
	})
	return to
}

func topicID(t *testing.T, b *testBroker, name string) protocol.TopicID {
	t.Helper()
	var id protocol.TopicID
	waitFor(t, "topic "+name, func() bool {
		topic, ok := b.broker.view().img.Topics[name]
		if ok {
			id = topic.ID
		}
		return ok
	})
	return id
}

// TestNewPartitionsAreSpread: brokers get as many partitions as each other, by whomever the topic was created.
func TestNewPartitionsAreSpread(t *testing.T) {
	c := startCluster(t, 3)
	dial(t, c.brokers[0].kafka).createTopic("a", 4)
	topicID(t, c.brokers[1], "a") // it counts what it has seen
	dial(t, c.brokers[1].kafka).createTopic("b", 5)
	owned := map[int32]int{}
	waitFor(t, "the topics", func() bool { return len(c.brokers[2].broker.view().img.Topics) == 2 })
	for _, topic := range c.brokers[2].broker.view().img.Topics {
		for _, p := range topic.Partitions {
			owned[p.Owner.Broker]++
		}
	}
	if owned[1] != 3 || owned[2] != 3 || owned[3] != 3 {
		t.Errorf("partitions by broker: %v, want three each", owned)
	}
}

// TestMovesUnderLoad: an idempotent producer and a consumer go on while their partition moves to and fro; every record is there once, in
// order, and leader epochs rise by one each time.
func TestMovesUnderLoad(t *testing.T) {
	c := startCluster(t, 2)
	dial(t, c.brokers[0].kafka).createTopic("t", 1)
	id := protocol.PartitionID{Topic: topicID(t, c.brokers[0], "t")}
	const moves, each = 6, 40
	producer := c.brokers[0].client(kgo.DefaultProduceTopic("t"), kgo.RequiredAcks(kgo.AllISRAcks()))
	consumer := c.brokers[1].client(kgo.ConsumeTopics("t"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	sent := make(chan error, moves*each)
	for m := range moves {
		for i := range each {
			producer.Produce(t.Context(), kgo.StringRecord(fmt.Sprint(m*each+i)), func(_ *kgo.Record, err error) { sent <- err })
		}
		c.move(t, id)
	}
	for range moves * each {
		if err := <-sent; err != nil {
			t.Fatal(err)
		}
	}
	next := 0
	for next < moves*each {
		fetches := consumer.PollFetches(t.Context())
		if err := fetches.Err(); err != nil {
			t.Fatal(err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if string(r.Value) != fmt.Sprint(next) || r.Offset != int64(next) {
				t.Fatalf("record %q at offset %d, want %d", r.Value, r.Offset, next)
			}
			next++
		})
	}
	owner, _ := c.owner(t, id)
	l, _ := owner.broker.logs.Get(id)
	if st := l.State(); st.LeaderEpoch != moves || st.HighWatermark != moves*each {
		t.Errorf("after %d moves: %+v", moves, st)
	}
}

// TestCoordinatorMoves: a group goes on under its generation when its coordinator moves: members stay, nothing is assigned anew, and
// committed offsets are there.
func TestCoordinatorMoves(t *testing.T) {
	c := startCluster(t, 2)
	dial(t, c.brokers[0].kafka).createTopic("t", 2)
	changes := make(chan string, 100)
	member := func() *kgo.Client {
		return c.brokers[0].client(kgo.ConsumeTopics("t"), kgo.ConsumerGroup("g"), kgo.HeartbeatInterval(100*time.Millisecond),
			kgo.OnPartitionsAssigned(func(context.Context, *kgo.Client, map[string][]int32) { changes <- "assigned" }),
			kgo.OnPartitionsRevoked(func(context.Context, *kgo.Client, map[string][]int32) { changes <- "revoked" }),
			kgo.OnPartitionsLost(func(context.Context, *kgo.Client, map[string][]int32) { changes <- "lost" }))
	}
	one := member()
	one.PollFetches(pollContext(t, 2*time.Second))
	admin := kadm.NewClient(one)
	generation := func() int32 {
		_, g := one.GroupMetadata()
		return g
	}
	waitFor(t, "a generation", func() bool { return generation() > 0 })
	before := generation()
	if first := <-changes; first != "assigned" {
		t.Fatalf("the first change is %q", first)
	}
	shards := c.brokers[0].broker.view().img.Topics[offsetsTopic]
	for range 2 {
		for p := range shards.Partitions {
			c.move(t, protocol.PartitionID{Topic: shards.ID, Partition: int32(p)})
		}
	}
	one.PollFetches(pollContext(t, time.Second)) // ten heartbeats
	if len(changes) > 0 || generation() != before {
		t.Errorf("the group was disturbed: %d changes, generation %d, was %d", len(changes), generation(), before)
	}
	d, err := admin.DescribeGroups(t.Context(), "g")
	if err != nil || d["g"].State != "Stable" || len(d["g"].Members) != 1 {
		t.Errorf("the group is %+v, %v", d["g"], err)
	}
}

func pollContext(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// TestFreshness: an idle broker that hears nothing from etcd does not say what the newest offset is, as another may lead by now; what it
// has it serves, and a record that becomes durable shows that nobody does.
func TestFreshness(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1)
	b := c.brokers[0]
	client := dial(t, b.kafka)
	client.createTopic("t", 1)
	client.produce("t", 0, batchOf("a"))
	c.etcd.stop()
	latest := func() protocol.ErrorCode {
		return protocol.ErrorCode(listed(client, listRequest("t", 0, latestOffset)).ErrorCode)
	}
	waitFor(t, "the proof to be old", func() bool { return latest() == protocol.CodeNotLeaderOrFollower })
	wantCode(t, "the earliest offset", listed(client, listRequest("t", 0, earliestOffset)).ErrorCode, protocol.CodeNone)
	wantCode(t, "fetch", fetched(client, fetchRequest(12, "t", protocol.TopicID{}, 0, 0)).ErrorCode, protocol.CodeNone)
	wantCode(t, "produce", client.produce("t", 0, batchOf("b")).ErrorCode, protocol.CodeNone)
	if code := latest(); code != protocol.CodeNone {
		t.Errorf("after a record became durable: %s", code)
	}
	waitFor(t, "that proof to be old", func() bool { return latest() == protocol.CodeNotLeaderOrFollower })
	c.etcd.start()
	waitFor(t, "etcd to be asked", func() bool { return latest() == protocol.CodeNone })
}

// TestWorkAsksNothingOfEtcd: produce, fetch, heartbeats, commits and the offsets of a log or a group are answered without etcd: what brokers
// send to it meanwhile is the refresh of their leases.
func TestWorkAsksNothingOfEtcd(t *testing.T) {
	c := startCluster(t, 2)
	dial(t, c.brokers[0].kafka).createTopic("t", 2)
	client := c.brokers[0].client(kgo.DefaultProduceTopic("t"), kgo.ConsumeTopics("t"), kgo.ConsumerGroup("g"),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.HeartbeatInterval(100*time.Millisecond), kgo.DisableAutoCommit())
	admin := kadm.NewClient(client)
	work := func(rounds int) {
		for i := range rounds {
			if err := client.ProduceSync(t.Context(), kgo.StringRecord(fmt.Sprint(i))).FirstErr(); err != nil {
				t.Fatal(err)
			}
			client.PollFetches(pollContext(t, 5*time.Second))
			if err := client.CommitUncommittedOffsets(t.Context()); err != nil {
				t.Fatal(err)
			}
			if _, err := admin.ListEndOffsets(t.Context(), "t"); err != nil {
				t.Fatal(err)
			}
			if _, err := admin.FetchOffsets(t.Context(), "g"); err != nil {
				t.Fatal(err)
			}
		}
	}
	work(1)                           // creates what it needs
	const rounds, idle = 200, 8 << 10 // in half a minute
	before, begun := c.etcd.asked.Load(), time.Now()
	work(rounds)
	if asked := c.etcd.asked.Load() - before; asked > idle*(1+int64(time.Since(begun)/(30*time.Second))) {
		t.Errorf("%d rounds of work sent %d bytes to etcd", rounds, asked)
	}
}
