package broker

import (
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/protocol"
)

// TestM1StaticSettings: what auto-creation takes from the broker's settings.
func TestM1StaticSettings(t *testing.T) {
	t.Run("M2 num.partitions and default.replication.factor", func(t *testing.T) {
		b := startBroker(t, "--kafka", "num.partitions=3", "--kafka", "default.replication.factor=2")
		c := dial(t, b.kafka)
		req := metadataRequest(12, "auto")
		req.AllowAutoTopicCreation = true
		waitFor(t, "the topic", func() bool {
			return len(ask[*kmsg.MetadataResponse](c, req).Topics[0].Partitions) == 3
		})
		topic := createSpec("asked", -1)
		topic.ReplicationFactor = -1
		if got := ask[*kmsg.CreateTopicsResponse](c, createRequest(7, topic)).Topics[0]; got.NumPartitions != 3 || got.ReplicationFactor != 2 {
			t.Errorf("%d partitions, factor %d", got.NumPartitions, got.ReplicationFactor)
		}
	})
	t.Run("M1 auto.create.topics.enable, M5 delete.topic.enable", func(t *testing.T) {
		b := startBroker(t, "--kafka", "auto.create.topics.enable=false", "--kafka", "delete.topic.enable=false")
		c := dial(t, b.kafka)
		req := metadataRequest(12, "auto")
		req.AllowAutoTopicCreation = true
		ask[*kmsg.MetadataResponse](c, req)
		c.createTopic("t", 1) // admin writes are in order behind what the request might have started
		wantCode(t, "auto", ask[*kmsg.MetadataResponse](c, req).Topics[0].ErrorCode, protocol.CodeUnknownTopicOrPartition)
		wantCode(t, "delete", ask[*kmsg.DeleteTopicsResponse](c, deleteRequest(6, "t")).Topics[0].ErrorCode, protocol.CodeTopicDeletionDisabled)
	})
}

// TestM11S5RackAndAddress: the rack is told, and the address that the request came in on.
func TestM11S5RackAndAddress(t *testing.T) {
	b := startBroker(t, "--kafka", "broker.rack=az-1")
	c := dial(t, b.kafka)
	req := kmsg.NewPtrDescribeClusterRequest()
	req.Version, req.EndpointType = 2, 1
	resp := ask[*kmsg.DescribeClusterResponse](c, req)
	if len(resp.Brokers) != 1 || resp.Brokers[0].Rack == nil || *resp.Brokers[0].Rack != "az-1" || resp.ControllerID != resp.Brokers[0].NodeID {
		t.Errorf("brokers %+v, controller %d", resp.Brokers, resp.ControllerID)
	}
	meta := ask[*kmsg.MetadataResponse](c, metadataRequest(12))
	if *meta.Brokers[0].Rack != "az-1" || *meta.ClusterID != resp.ClusterID {
		t.Errorf("metadata: rack %v, cluster %v", meta.Brokers[0].Rack, meta.ClusterID)
	}
	if fmt.Sprintf("%s:%d", resp.Brokers[0].Host, resp.Brokers[0].Port) != b.kafka {
		t.Errorf("S5: the broker is at %s:%d, we reached it at %s", resp.Brokers[0].Host, resp.Brokers[0].Port, b.kafka)
	}
	req.EndpointType = 2
	wantCode(t, "controllers", ask[*kmsg.DescribeClusterResponse](c, req).ErrorCode, protocol.CodeMismatchedEndpointType)
}
