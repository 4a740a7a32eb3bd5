package broker

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/controller"
	"github.com/tidemill/tidemill/metadata"
	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/wal"
)

// strangers opens the metadata of a broker's cluster for lives that the test registers.
func strangers(t *testing.T, etcd *externalEtcd) *metadata.Store {
	t.Helper()
	meta, err := metadata.Open(t.Context(), metadata.Config{Endpoints: []string{etcd.ln.Addr().String()}, Name: "test", LeaseTTL: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { meta.Close() })
	return meta
}

// register opens a life and registers it at an address where nobody listens.
func register(t *testing.T, meta *metadata.Store, id int32) wal.Life {
	t.Helper()
	life, err := meta.OpenLife(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := meta.Register(t.Context(), life, metadata.BrokerInfo{Host: "127.0.0.1", Port: 1}); err != nil {
		t.Fatal(err)
	}
	return life
}

// TestPlacingBesideARestart: a broker was killed and is back under its id. It has ended the log of its previous life, whose liveness key is
// still there, and is not registered yet. Whatever has to place partitions meanwhile leaves that life out.
func TestPlacingBesideARestart(t *testing.T) {
	t.Parallel()
	etcd := startEtcd(t)
	b := startBroker(t, "--cluster", etcd.url(), "--bucket", "file://"+t.TempDir(), "--broker-id", "1")
	cl := dial(t, b.kafka)
	cl.createTopic("old", 1)
	meta := strangers(t, etcd)
	old := register(t, meta, 2)
	waitFor(t, "both", func() bool { return len(b.broker.view().brokers) == 2 })
	if err := meta.Close(); err != nil { // killed
		t.Fatal(err)
	}
	if _, err := b.broker.meta.OpenLife(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	if _, err := b.broker.seal(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	wantCode(t, "CreateTopics", ask[*kmsg.CreateTopicsResponse](cl, createRequest(7, createSpec("new", 4))).Topics[0].ErrorCode, protocol.CodeNone)
	assigned := createSpec("assigned", -1)
	assigned.ReplicationFactor = -1
	assigned.ReplicaAssignment = []kmsg.CreateTopicsRequestTopicReplicaAssignment{{Partition: 0, Replicas: []int32{2, 1}}}
	wantCode(t, "CreateTopics with an assignment", ask[*kmsg.CreateTopicsResponse](cl, createRequest(7, assigned)).Topics[0].ErrorCode, protocol.CodeNone)
	wantCode(t, "CreatePartitions", addPartitions(cl, "old", 4), protocol.CodeNone)
	group := kmsg.NewPtrFindCoordinatorRequest()
	group.Version, group.CoordinatorKeys = 4, []string{"g"}
	wantCode(t, "FindCoordinator", ask[*kmsg.FindCoordinatorResponse](cl, group).Coordinators[0].ErrorCode, protocol.CodeNone)
	if away := b.broker.transfersAway(b.broker.endedLogs(t.Context())); len(b.broker.transfersAway(nil)) == 0 || len(away) > 0 {
		t.Errorf("a stop gives %d partitions to nobody", len(away))
	}
	if b.broker.view().img.Brokers[2].Life != old {
		t.Fatal("the liveness key has gone, so nothing was shown")
	}
}

// TestTopicOverManyBrokers: a topic and more partitions of it are created in a cluster of more brokers than a transaction can compare, where
// an operator wants a partition at each too.
func TestTopicOverManyBrokers(t *testing.T) {
	t.Parallel()
	const others = 130
	etcd := startEtcd(t)
	b := startBroker(t, "--cluster", etcd.url(), "--bucket", "file://"+t.TempDir(), "--broker-id", "1")
	meta := strangers(t, etcd)
	for id := range int32(others) {
		register(t, meta, id+2)
	}
	waitFor(t, "all", func() bool { return len(b.broker.view().brokers) == others+1 })
	cl := dial(t, b.kafka)
	wantCode(t, "a topic", ask[*kmsg.CreateTopicsResponse](cl, createRequest(7, createSpec("wide", others))).Topics[0].ErrorCode, protocol.CodeNone)
	wantCode(t, "more partitions", addPartitions(cl, "wide", 2*others), protocol.CodeNone)
	assigned := createSpec("assigned", -1)
	assigned.ReplicationFactor = -1
	for i := range int32(others) {
		assigned.ReplicaAssignment = append(assigned.ReplicaAssignment, kmsg.CreateTopicsRequestTopicReplicaAssignment{Partition: i, Replicas: []int32{i + 2}})
	}
	wantCode(t, "an assignment", ask[*kmsg.CreateTopicsResponse](cl, createRequest(7, assigned)).Topics[0].ErrorCode, protocol.CodeNone)
	for i, p := range b.broker.view().img.Topics["assigned"].Partitions {
		if p.Pin == nil || p.Pin.Replicas[0] != int32(i)+2 || i < controller.OwnersMax && p.Owner.Broker != int32(i)+2 {
			t.Errorf("partition %d is at %s, pinned to %+v", i, p.Owner, p.Pin)
		}
	}
}
