package conformance

import (
	"fmt"
	"slices"
	"strings"
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

func TestM1(t *testing.T) {
	c, n := begin(t)
	id := c.CreateTopic(n("a"), 2)
	c.CreateTopic(n("b"), 1)
	exists := func(name string) bool {
		all := MetadataRequest(12)
		all.Topics = nil
		_, ok := topicCodes(Ask[*kmsg.MetadataResponse](c, all))[name]
		return ok
	}
	t.Run("M1 all and none", func(t *testing.T) {
		for version := int16(0); version <= 13; version++ {
			all, none := MetadataRequest(version), MetadataRequest(version)
			all.Topics = nil
			got := topicCodes(Ask[*kmsg.MetadataResponse](c, all))
			if _, ok := got[n("a")]; !ok {
				t.Errorf("v%d: all topics are %v", version, got)
			}
			if got := len(Ask[*kmsg.MetadataResponse](c, none).Topics); (got == 0) != (version > 0) {
				t.Errorf("v%d: the empty list has %d topics", version, got)
			}
		}
	})
	t.Run("M1 M2 auto create is answered unknown, then there", func(t *testing.T) {
		for _, version := range []int16{0, 3, 4, 12} {
			name := n(fmt.Sprintf("auto-%d", version))
			req := MetadataRequest(version, name)
			req.AllowAutoTopicCreation = version >= 4
			want := map[string]protocol.ErrorCode{name: protocol.CodeUnknownTopicOrPartition}
			if diff := cmp.Diff(want, topicCodes(Ask[*kmsg.MetadataResponse](c, req))); diff != "" {
				t.Errorf("v%d: %s", version, diff)
			}
			WaitFor(t, name, func() bool {
				resp := Ask[*kmsg.MetadataResponse](c, req)
				return resp.Topics[0].ErrorCode == 0 && len(resp.Topics[0].Partitions) == 1 // M2: num.partitions
			})
		}
	})
	t.Run("M1 not created", func(t *testing.T) {
		req := MetadataRequest(12, n("never"))
		Ask[*kmsg.MetadataResponse](c, req)
		describe := kmsg.NewPtrDescribeTopicPartitionsRequest()
		describe.Topics, describe.ResponsePartitionLimit = []kmsg.DescribeTopicPartitionsRequestTopic{{Topic: n("never")}}, 10
		Ask[*kmsg.DescribeTopicPartitionsResponse](c, describe)
		bad := MetadataRequest(12, "a b", "", "..", n("never"))
		want := map[string]protocol.ErrorCode{
			"a b": protocol.CodeInvalidTopicException, "": protocol.CodeInvalidTopicException,
			"..": protocol.CodeInvalidTopicException, n("never"): protocol.CodeUnknownTopicOrPartition,
		}
		if diff := cmp.Diff(want, topicCodes(Ask[*kmsg.MetadataResponse](c, bad))); diff != "" {
			t.Error(diff)
		}
		if exists(n("never")) || exists("a b") {
			t.Error("a topic was created")
		}
	})
	t.Run("M1 by id", func(t *testing.T) {
		req := MetadataRequest(12)
		req.Topics = []kmsg.MetadataRequestTopic{{TopicID: id}, {TopicID: protocol.TopicID{9}}, {TopicID: id}}
		resp := Ask[*kmsg.MetadataResponse](c, req)
		want := map[string]protocol.ErrorCode{n("a"): 0, "(null)": protocol.CodeUnknownTopicID}
		if diff := cmp.Diff(want, topicCodes(resp)); diff != "" || len(resp.Topics) != 2 {
			t.Errorf("%d answers: %s", len(resp.Topics), diff)
		}
		for version := int16(10); version <= 11; version++ {
			req.Version = version
			resp := Ask[*kmsg.MetadataResponse](c, req)
			if len(resp.Brokers) != 0 || resp.ClusterID != nil || resp.ControllerID != -1 {
				t.Errorf("3.13 v%d: %d brokers, controller %d", version, len(resp.Brokers), resp.ControllerID)
			}
			for _, topic := range resp.Topics {
				WantCode(t, "3.13", topic.ErrorCode, protocol.CodeInvalidRequest)
			}
		}
	})
	t.Run("M1 the zero id without a name", func(t *testing.T) {
		for version, top := range map[int16]protocol.ErrorCode{12: protocol.CodeNone, 13: protocol.CodeUnknownServerError} {
			req := MetadataRequest(version)
			req.Topics = []kmsg.MetadataRequestTopic{{}}
			resp := Ask[*kmsg.MetadataResponse](c, req)
			WantCode(t, "top", resp.ErrorCode, top)
			WantCode(t, "topic", resp.Topics[0].ErrorCode, protocol.CodeUnknownServerError)
		}
	})
	t.Run("M1 a name twice is answered once", func(t *testing.T) {
		if got := len(Ask[*kmsg.MetadataResponse](c, MetadataRequest(12, n("a"), n("b"), n("a"))).Topics); got != 2 {
			t.Errorf("%d topics", got)
		}
	})
	t.Run("M1 operations and cluster", func(t *testing.T) {
		req := MetadataRequest(10, n("a"))
		resp := Ask[*kmsg.MetadataResponse](c, req)
		if resp.AuthorizedOperations != noOperations || resp.Topics[0].AuthorizedOperations != noOperations {
			t.Errorf("operations %d and %d though nobody asked", resp.AuthorizedOperations, resp.Topics[0].AuthorizedOperations)
		}
		req.IncludeClusterAuthorizedOperations, req.IncludeTopicAuthorizedOperations = true, true
		resp = Ask[*kmsg.MetadataResponse](c, req)
		if resp.AuthorizedOperations != clusterOperations || resp.Topics[0].AuthorizedOperations != topicOperations {
			t.Errorf("operations %#x and %#x", resp.AuthorizedOperations, resp.Topics[0].AuthorizedOperations)
		}
		if resp.ClusterID == nil || len(*resp.ClusterID) != 22 || len(resp.Brokers) != 1 || resp.ControllerID != resp.Brokers[0].NodeID {
			t.Errorf("2.0: cluster %v, controller %d of %d brokers", resp.ClusterID, resp.ControllerID, len(resp.Brokers))
		}
		p := resp.Topics[0].Partitions[1]
		if self := []int32{target.node}; p.Leader != target.node || !slices.Equal(p.Replicas, self) || !slices.Equal(p.ISR, self) || len(p.OfflineReplicas) != 0 {
			t.Errorf("leader %d, replicas %v, in sync %v, offline %v", p.Leader, p.Replicas, p.ISR, p.OfflineReplicas)
		}
	})
	t.Run("M1 internal topics", func(t *testing.T) {
		Committed(c, n("m1"), n("a"), 0)
		resp := Ask[*kmsg.MetadataResponse](c, MetadataRequest(12, OffsetsTopic, n("a")))
		for _, topic := range resp.Topics {
			if topic.IsInternal != (*topic.Topic == OffsetsTopic) {
				t.Errorf("%s is internal: %v", *topic.Topic, topic.IsInternal)
			}
		}
	})
}

func TestDescribeTopicPartitions(t *testing.T) {
	c, n := begin(t)
	c.CreateTopic(n("a"), 3)
	c.CreateTopic(n("b"), 2)
	c.CreateTopic(n("c"), 1)
	page := func(limit int32, cursor *kmsg.DescribeTopicPartitionsRequestCursor, topics ...string) ([]string, *kmsg.DescribeTopicPartitionsRequestCursor) {
		req := kmsg.NewPtrDescribeTopicPartitionsRequest()
		req.ResponsePartitionLimit, req.Cursor = limit, cursor
		for _, name := range topics {
			req.Topics = append(req.Topics, kmsg.DescribeTopicPartitionsRequestTopic{Topic: n(name)})
		}
		resp := Ask[*kmsg.DescribeTopicPartitionsResponse](c, req)
		var got []string
		for _, topic := range resp.Topics {
			name := strings.TrimPrefix(*topic.Topic, n(""))
			if topic.ErrorCode != 0 {
				got = append(got, fmt.Sprintf("%s: %v", name, protocol.ErrorCode(topic.ErrorCode)))
			}
			for _, p := range topic.Partitions {
				got = append(got, fmt.Sprintf("%s-%d", name, p.Partition))
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

// TestM11M13: DescribeCluster and Metadata tell of the same cluster, and nothing is being reassigned.
func TestM11M13(t *testing.T) {
	c, _ := begin(t)
	req := kmsg.NewPtrDescribeClusterRequest()
	req.EndpointType = 1
	meta := Ask[*kmsg.MetadataResponse](c, MetadataRequest(12))
	for version := int16(0); version <= 2; version++ {
		req.Version = version
		resp := Ask[*kmsg.DescribeClusterResponse](c, req)
		if resp.ErrorCode != 0 || meta.ClusterID == nil || resp.ClusterID != *meta.ClusterID || resp.ControllerID != target.node || len(resp.Brokers) != 1 {
			t.Fatalf("M11 v%d: %+v", version, resp)
		}
		if b, m := resp.Brokers[0], meta.Brokers[0]; b.NodeID != m.NodeID || b.Host != m.Host || b.Port != m.Port {
			t.Errorf("M11 v%d: broker %+v, Metadata says %+v", version, b, m)
		}
	}
	req.Version, req.EndpointType = 2, 2
	WantCode(t, "M11 controllers", Ask[*kmsg.DescribeClusterResponse](c, req).ErrorCode, protocol.CodeMismatchedEndpointType)
	reassign := kmsg.NewPtrListPartitionReassignmentsRequest()
	if resp := Ask[*kmsg.ListPartitionReassignmentsResponse](c, reassign); resp.ErrorCode != 0 || len(resp.Topics) != 0 {
		t.Errorf("M13 code %d, %d topics", resp.ErrorCode, len(resp.Topics))
	}
}
