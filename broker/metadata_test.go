package broker

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/protocol"
)

// topicCodes maps the topics of an answer to their errors.
func topicCodes(resp *kmsg.MetadataResponse) map[string]protocol.ErrorCode {
	out := map[string]protocol.ErrorCode{}
	for _, t := range resp.Topics {
		name := "(null)"
		if t.Topic != nil {
			name = *t.Topic
		}
		out[name] = protocol.ErrorCode(t.ErrorCode)
	}
	return out
}

func TestM1Rules(t *testing.T) {
	b := serve(t)
	c := dial(t, b.kafka)
	id := c.createTopic("a", 2)
	c.createTopic("b", 1)
	exists := func(name string) bool {
		all := metadataRequest(12)
		all.Topics = nil
		_, ok := topicCodes(ask[*kmsg.MetadataResponse](c, all))[name]
		return ok
	}
	t.Run("M1 all and none", func(t *testing.T) {
		for version := int16(0); version <= 13; version++ {
			all, none := metadataRequest(version), metadataRequest(version)
			all.Topics = nil
			got := topicCodes(ask[*kmsg.MetadataResponse](c, all))
			if _, ok := got["a"]; !ok {
				t.Errorf("v%d: all topics are %v", version, got)
			}
			if n := len(ask[*kmsg.MetadataResponse](c, none).Topics); (n == 0) != (version > 0) {
				t.Errorf("v%d: the empty list has %d topics", version, n)
			}
		}
	})
	t.Run("M1 auto create is answered unknown, then there", func(t *testing.T) {
		for _, version := range []int16{0, 3, 4, 12} {
			name := fmt.Sprintf("auto-%d", version)
			req := metadataRequest(version, name)
			req.AllowAutoTopicCreation = version >= 4
			want := map[string]protocol.ErrorCode{name: protocol.CodeUnknownTopicOrPartition}
			if diff := cmp.Diff(want, topicCodes(ask[*kmsg.MetadataResponse](c, req))); diff != "" {
				t.Errorf("v%d: %s", version, diff)
			}
			waitFor(t, name, func() bool {
				resp := ask[*kmsg.MetadataResponse](c, req)
				return resp.Topics[0].ErrorCode == 0 && len(resp.Topics[0].Partitions) == 1 // M2: num.partitions
			})
		}
	})
	t.Run("M1 not created", func(t *testing.T) {
		req := metadataRequest(12, "never")
		ask[*kmsg.MetadataResponse](c, req)
		describe := kmsg.NewPtrDescribeTopicPartitionsRequest()
		describe.Topics, describe.ResponsePartitionLimit = []kmsg.DescribeTopicPartitionsRequestTopic{{Topic: "never"}}, 10
		ask[*kmsg.DescribeTopicPartitionsResponse](c, describe)
		bad := metadataRequest(12, "a b", "", "..", "never")
		want := map[string]protocol.ErrorCode{
			"a b": protocol.CodeInvalidTopicException, "": protocol.CodeInvalidTopicException,
			"..": protocol.CodeInvalidTopicException, "never": protocol.CodeUnknownTopicOrPartition,
		}
		if diff := cmp.Diff(want, topicCodes(ask[*kmsg.MetadataResponse](c, bad))); diff != "" {
			t.Error(diff)
		}
		if exists("never") || exists("a b") {
			t.Error("a topic was created")
		}
	})
	t.Run("M1 by id", func(t *testing.T) {
		req := metadataRequest(12)
		req.Topics = []kmsg.MetadataRequestTopic{{TopicID: id}, {TopicID: protocol.TopicID{9}}, {TopicID: id}}
		resp := ask[*kmsg.MetadataResponse](c, req)
		want := map[string]protocol.ErrorCode{"a": 0, "(null)": protocol.CodeUnknownTopicID}
		if diff := cmp.Diff(want, topicCodes(resp)); diff != "" || len(resp.Topics) != 2 {
			t.Errorf("%d answers: %s", len(resp.Topics), diff)
		}
		for version := int16(10); version <= 11; version++ {
			req.Version = version
			resp := ask[*kmsg.MetadataResponse](c, req)
			if len(resp.Brokers) != 0 || resp.ClusterID != nil || resp.ControllerID != -1 {
				t.Errorf("3.13 v%d: %d brokers, controller %d", version, len(resp.Brokers), resp.ControllerID)
			}
			for _, topic := range resp.Topics {
				wantCode(t, "3.13", topic.ErrorCode, protocol.CodeInvalidRequest)
			}
		}
	})
	t.Run("M1 the zero id without a name", func(t *testing.T) {
		for version, top := range map[int16]protocol.ErrorCode{12: protocol.CodeNone, 13: protocol.CodeUnknownServerError} {
			req := metadataRequest(version)
			req.Topics = []kmsg.MetadataRequestTopic{{}}
			resp := ask[*kmsg.MetadataResponse](c, req)
			wantCode(t, "top", resp.ErrorCode, top)
			wantCode(t, "topic", resp.Topics[0].ErrorCode, protocol.CodeUnknownServerError)
		}
	})
	t.Run("M1 a name twice is answered once", func(t *testing.T) {
		if n := len(ask[*kmsg.MetadataResponse](c, metadataRequest(12, "a", "b", "a")).Topics); n != 2 {
			t.Errorf("%d topics", n)
		}
	})
	t.Run("M1 operations and cluster", func(t *testing.T) {
		req := metadataRequest(10, "a")
		resp := ask[*kmsg.MetadataResponse](c, req)
		if resp.AuthorizedOperations != noOperations || resp.Topics[0].AuthorizedOperations != noOperations {
			t.Errorf("operations %d and %d though nobody asked", resp.AuthorizedOperations, resp.Topics[0].AuthorizedOperations)
		}
		req.IncludeClusterAuthorizedOperations, req.IncludeTopicAuthorizedOperations = true, true
		resp = ask[*kmsg.MetadataResponse](c, req)
		if resp.AuthorizedOperations != clusterOperations || resp.Topics[0].AuthorizedOperations != topicOperations {
			t.Errorf("operations %#x and %#x", resp.AuthorizedOperations, resp.Topics[0].AuthorizedOperations)
		}
		if resp.ClusterID == nil || len(*resp.ClusterID) != 22 || len(resp.Brokers) != 1 || resp.ControllerID != resp.Brokers[0].NodeID {
			t.Errorf("2.0: cluster %v, controller %d of %d brokers", resp.ClusterID, resp.ControllerID, len(resp.Brokers))
		}
		p := resp.Topics[0].Partitions[1]
		if p.Leader != 1 || !slices.Equal(p.Replicas, []int32{1}) || !slices.Equal(p.ISR, []int32{1}) || len(p.OfflineReplicas) != 0 {
			t.Errorf("leader %d, replicas %v, in sync %v, offline %v", p.Leader, p.Replicas, p.ISR, p.OfflineReplicas)
		}
	})
	t.Run("M1 internal topics", func(t *testing.T) {
		committed(c, "m1", "a", 0)
		resp := ask[*kmsg.MetadataResponse](c, metadataRequest(12, offsetsTopic, "a"))
		for _, topic := range resp.Topics {
			if topic.IsInternal != (*topic.Topic == offsetsTopic) {
				t.Errorf("%s is internal: %v", *topic.Topic, topic.IsInternal)
			}
		}
	})
}

// TestM1StaticSettings: what auto-creation takes from the broker's settings.
func TestM1StaticSettings(t *testing.T) {
	skipOracle(t, "it starts brokers with settings")
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
		if got := topicCodes(ask[*kmsg.MetadataResponse](c, req))["auto"]; got != protocol.CodeUnknownTopicOrPartition {
			t.Errorf("auto: %v", got)
		}
		wantCode(t, "delete", ask[*kmsg.DeleteTopicsResponse](c, deleteRequest(6, "t")).Topics[0].ErrorCode, protocol.CodeTopicDeletionDisabled)
	})
}

func TestDescribeTopicPartitionsRules(t *testing.T) {
	b := serve(t)
	c := dial(t, b.kafka)
	c.createTopic("a", 3)
	c.createTopic("b", 2)
	c.createTopic("c", 1)
	page := func(limit int32, cursor *kmsg.DescribeTopicPartitionsRequestCursor, topics ...string) ([]string, *kmsg.DescribeTopicPartitionsRequestCursor) {
		req := kmsg.NewPtrDescribeTopicPartitionsRequest()
		req.ResponsePartitionLimit, req.Cursor = limit, cursor
		for _, name := range topics {
			req.Topics = append(req.Topics, kmsg.DescribeTopicPartitionsRequestTopic{Topic: name})
		}
		resp := ask[*kmsg.DescribeTopicPartitionsResponse](c, req)
		var got []string
		for _, topic := range resp.Topics {
			if topic.ErrorCode != 0 {
				got = append(got, fmt.Sprintf("%s: %v", *topic.Topic, protocol.ErrorCode(topic.ErrorCode)))
			}
			for _, p := range topic.Partitions {
				got = append(got, fmt.Sprintf("%s-%d", *topic.Topic, p.Partition))
			}
		}
		if resp.NextCursor == nil {
			return got, nil
		}
		return got, &kmsg.DescribeTopicPartitionsRequestCursor{Topic: resp.NextCursor.Topic, Partition: resp.NextCursor.Partition}
	}
	for _, tc := range []struct {
		name   string
		limit  int32
		topics []string
		pages  [][]string
	}{
		{"everything", 100, []string{"c", "a", "b"}, [][]string{{"a-0", "a-1", "a-2", "b-0", "b-1", "c-0"}}},
		{"two at a time", 2, []string{"a", "b", "c"}, [][]string{{"a-0", "a-1"}, {"a-2", "b-0"}, {"b-1", "c-0"}}},
		{"page ends with a topic", 3, []string{"a", "b", "c"}, [][]string{{"a-0", "a-1", "a-2"}, {"b-0", "b-1", "c-0"}}},
		{"unknown and invalid names", 100, []string{"a b", "c", "nope"}, [][]string{{"a b: INVALID_TOPIC_EXCEPTION", "c-0", "nope: UNKNOWN_TOPIC_OR_PARTITION"}}},
		{"a name twice", 100, []string{"c", "c"}, [][]string{{"c-0"}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var cursor *kmsg.DescribeTopicPartitionsRequestCursor
			var pages [][]string
			for len(pages) <= len(tc.pages) {
				var got []string
				got, cursor = page(tc.limit, cursor, tc.topics...)
				pages = append(pages, got)
				if cursor == nil {
					break
				}
			}
			if diff := cmp.Diff(tc.pages, pages); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestM11Rules(t *testing.T) {
	skipOracle(t, "it has no rack")
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
