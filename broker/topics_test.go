package broker

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/protocol"
)

// Test205ReplicationFactor: 2.0.5, Connect's default of 3 works on one broker, which lists itself alone.
func Test205ReplicationFactor(t *testing.T) {
	b := startBroker(t)
	c := dial(t, b.kafka)
	topic := createSpec("three", 2)
	topic.ReplicationFactor = 3
	got := ask[*kmsg.CreateTopicsResponse](c, createRequest(7, topic)).Topics[0]
	if got.ErrorCode != 0 || got.ReplicationFactor != 3 {
		t.Errorf("code %d, factor %d", got.ErrorCode, got.ReplicationFactor)
	}
	resp := ask[*kmsg.MetadataResponse](c, metadataRequest(12, "three"))
	for _, p := range resp.Topics[0].Partitions {
		if !slices.Equal(p.Replicas, []int32{1}) || !slices.Equal(p.ISR, []int32{1}) || p.Leader != 1 {
			t.Errorf("partition %d: leader %d, replicas %v, in sync %v", p.Partition, p.Leader, p.Replicas, p.ISR)
		}
	}
	wantCode(t, "min.insync.replicas means nothing (2.0.6)", c.produce("three", 0, batchOf("a")).ErrorCode, protocol.CodeNone)
	assignment := createSpec("assigned-to-many", -1)
	assignment.ReplicationFactor = -1
	assignment.ReplicaAssignment = []kmsg.CreateTopicsRequestTopicReplicaAssignment{{Partition: 0, Replicas: []int32{1, 2, 3}}}
	wantCode(t, "unknown brokers", ask[*kmsg.CreateTopicsResponse](c, createRequest(7, assignment)).Topics[0].ErrorCode, protocol.CodeInvalidReplicaAssignment)
}

// TestFirstGroupsAtOnce: many consumers start on a new cluster, and the topic of their offsets is created once.
func TestFirstGroupsAtOnce(t *testing.T) {
	b := startBroker(t, "--cluster", startEtcd(t).url(), "--bucket", "file://"+t.TempDir())
	var clients []*rawClient
	for range 200 {
		clients = append(clients, dial(t, b.kafka))
	}
	before := b.broker.meta.Image().Revision
	var all sync.WaitGroup
	for i, cl := range clients {
		all.Go(func() {
			req := kmsg.NewPtrFindCoordinatorRequest()
			req.Version, req.CoordinatorKeys = 4, []string{fmt.Sprint("g", i)}
			wantCode(t, "find", ask[*kmsg.FindCoordinatorResponse](cl, req).Coordinators[0].ErrorCode, protocol.CodeNone)
		})
	}
	all.Wait()
	if n := b.broker.meta.Image().Revision - before; n > 10 { // two of the topic, some of what the broker does by itself
		t.Errorf("%d writes to etcd for one topic", n)
	}
}
