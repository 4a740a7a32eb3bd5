package broker

import (
	"slices"
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
