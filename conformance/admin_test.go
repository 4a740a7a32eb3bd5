package conformance

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/protocol"
)

// TestM13ElectLeaders: there is nothing to elect.
func TestM13ElectLeaders(t *testing.T) {
	c, n := begin(t)
	c.CreateTopic(n("t"), 2)
	for version := int16(0); version <= 2; version++ {
		for kind, want := range map[int8]map[string][]int16{
			0:  {n("t"): {84, 84, 3, 3}, n("absent"): {3}},
			1:  {n("t"): {84, 84, 3, 3}, n("absent"): {3}},
			2:  {n("t"): {42, 42, 42, 42}, n("absent"): {42}},
			-1: {n("t"): {42, 42, 42, 42}, n("absent"): {42}},
		} {
			if version == 0 && kind != 0 {
				continue // has no election type
			}
			req := kmsg.NewPtrElectLeadersRequest()
			req.Version, req.ElectionType = version, kind
			req.Topics = []kmsg.ElectLeadersRequestTopic{{Topic: n("t"), Partitions: []int32{0, 1, 2, -1}}, {Topic: n("absent"), Partitions: []int32{0}}}
			got := map[string][]int16{}
			for _, topic := range Ask[*kmsg.ElectLeadersResponse](c, req).Topics {
				for _, p := range topic.Partitions {
					got[topic.Topic] = append(got[topic.Topic], p.ErrorCode)
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("v%d, election type %d (-want +got):\n%s", version, kind, diff)
			}
		}
		all := kmsg.NewPtrElectLeadersRequest()
		all.Version = version
		resp := Ask[*kmsg.ElectLeadersResponse](c, all)
		WantCode(t, "all partitions", resp.ErrorCode, protocol.CodeNone)
		for _, topic := range resp.Topics { // Kafka names the topics
			if len(topic.Partitions) != 0 {
				t.Errorf("v%d, all partitions: %+v", version, topic)
			}
		}
	}
}

// TestM13Reassign: what cannot be a partition's replicas is refused in Kafka's words, each partition by itself; assigning it to where it
// is changes nothing.
func TestM13Reassign(t *testing.T) {
	c, n := begin(t)
	c.CreateTopic(n("t"), 2)
	self, stranger := target.node, target.node+7
	asks := []struct {
		topic     string
		partition int32
		replicas  []int32
		code      protocol.ErrorCode
		message   string
	}{
		{n("t"), 0, []int32{self}, protocol.CodeNone, ""},
		{n("t"), 1, nil, protocol.CodeNoReassignmentInProgress, ""},
		{n("t"), 1, []int32{}, protocol.CodeInvalidReplicaAssignment, "The manual partition assignment includes an empty replica list."},
		{n("t"), 1, []int32{self, self}, protocol.CodeInvalidReplicaAssignment,
			fmt.Sprintf("The manual partition assignment includes the broker %d more than once.", self)},
		{n("t"), 1, []int32{self, stranger}, protocol.CodeInvalidReplicaAssignment,
			fmt.Sprintf("The manual partition assignment includes broker %d, but no such broker is registered.", stranger)},
		{n("t"), 1, []int32{stranger, stranger, self, self}, protocol.CodeInvalidReplicaAssignment,
			fmt.Sprintf("The manual partition assignment includes the broker %d more than once.", self)},
		{n("t"), 1, []int32{-1}, protocol.CodeInvalidReplicaAssignment,
			"The manual partition assignment includes broker -1, but no such broker is registered."},
		{n("t"), 2, []int32{self}, protocol.CodeUnknownTopicOrPartition, "Unable to find partition " + n("t") + ":2."},
		{n("t"), -1, nil, protocol.CodeUnknownTopicOrPartition, "Unable to find partition " + n("t") + ":-1."},
		{n("absent"), 0, []int32{}, protocol.CodeUnknownTopicOrPartition, "Unable to find a topic named " + n("absent") + "."},
		{"", 0, nil, protocol.CodeUnknownTopicOrPartition, "Unable to find a topic named ."},
	}
	for version := int16(0); version <= 1; version++ {
		req := kmsg.NewPtrAlterPartitionAssignmentsRequest()
		req.Version, req.AllowReplicationFactorChange = version, false
		for _, a := range asks {
			req.Topics = append(req.Topics, kmsg.AlterPartitionAssignmentsRequestTopic{Topic: a.topic,
				Partitions: []kmsg.AlterPartitionAssignmentsRequestTopicPartition{{Partition: a.partition, Replicas: a.replicas}}})
		}
		resp := Ask[*kmsg.AlterPartitionAssignmentsResponse](c, req)
		if resp.ErrorCode != 0 || resp.ErrorMessage != nil || len(resp.Topics) != len(asks) || resp.AllowReplicationFactorChange != (version == 0) {
			t.Fatalf("v%d: %+v", version, resp)
		}
		for i, a := range asks {
			topic := resp.Topics[i]
			if topic.Topic != a.topic || len(topic.Partitions) != 1 || topic.Partitions[0].Partition != a.partition {
				t.Fatalf("v%d, %v: answered for %+v", version, a, topic)
			}
			p := topic.Partitions[0]
			WantCode(t, fmt.Sprintf("v%d, %s-%d to %v", version, a.topic, a.partition, a.replicas), p.ErrorCode, a.code)
			if message := deref(p.ErrorMessage); message != a.message {
				t.Errorf("v%d, %s-%d to %v: %q, want %q", version, a.topic, a.partition, a.replicas, message, a.message)
			}
		}
	}
	list := kmsg.NewPtrListPartitionReassignmentsRequest()
	list.Topics = []kmsg.ListPartitionReassignmentsRequestTopic{{Topic: n("t"), Partitions: []int32{0, 1, 2, -1}}, {Topic: n("absent"), Partitions: []int32{0}}}
	if resp := Ask[*kmsg.ListPartitionReassignmentsResponse](c, list); resp.ErrorCode != 0 || len(resp.Topics) != 0 {
		t.Errorf("listed: %+v", resp)
	}
	meta := Ask[*kmsg.MetadataResponse](c, MetadataRequest(12, n("t")))
	for _, p := range meta.Topics[0].Partitions {
		if diff := cmp.Diff([]int32{self}, p.Replicas); diff != "" || p.Leader != self {
			t.Errorf("partition %d has leader %d, replicas (-want +got):\n%s", p.Partition, p.Leader, diff)
		}
	}
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// TestM14NoAuthorizer: every request about access rules says that there is nobody who would heed them.
func TestM14NoAuthorizer(t *testing.T) {
	c, _ := begin(t)
	for version := int16(1); version <= 3; version++ {
		describe := kmsg.NewPtrDescribeACLsRequest()
		describe.Version, describe.ResourceType, describe.Operation, describe.PermissionType = version, 1, 1, 1
		resp := Ask[*kmsg.DescribeACLsResponse](c, describe)
		if resp.ErrorMessage == nil || len(resp.Resources) != 0 {
			t.Errorf("describe v%d: %+v", version, resp)
		}
		WantCode(t, "describe", resp.ErrorCode, protocol.CodeSecurityDisabled)
		create := kmsg.NewPtrCreateACLsRequest()
		create.Version = version
		for range 3 {
			acl := kmsg.NewCreateACLsRequestCreation()
			acl.ResourceType, acl.ResourceName, acl.Principal, acl.Host, acl.Operation, acl.PermissionType = 2, "t", "User:a", "*", 3, 3
			create.Creations = append(create.Creations, acl)
		}
		created := Ask[*kmsg.CreateACLsResponse](c, create).Results
		filter := kmsg.NewDeleteACLsRequestFilter()
		filter.ResourceType, filter.Operation, filter.PermissionType = 1, 1, 1
		remove := kmsg.NewPtrDeleteACLsRequest()
		remove.Version, remove.Filters = version, []kmsg.DeleteACLsRequestFilter{filter, filter}
		removed := Ask[*kmsg.DeleteACLsResponse](c, remove).Results
		if len(created) != 3 || len(removed) != 2 {
			t.Fatalf("v%d: %d answers to 3 rules, %d to 2 filters", version, len(created), len(removed))
		}
		for _, r := range created {
			WantCode(t, "create", r.ErrorCode, protocol.CodeSecurityDisabled)
		}
		for _, r := range removed {
			WantCode(t, "delete", r.ErrorCode, protocol.CodeSecurityDisabled)
		}
	}
}

// TestM10DeleteStaticKey: a key that may not be set at run time may be deleted all the same, as in Kafka.
func TestM10DeleteStaticKey(t *testing.T) {
	c, _ := begin(t)
	del := kmsg.IncrementalAlterConfigsRequestResourceConfig{Name: "num.partitions", Op: kmsg.IncrementalAlterConfigOpDelete}
	for _, broker := range []string{"", fmt.Sprint(target.node)} {
		WantCode(t, "delete", Altered(c, BrokerResource, broker, del), protocol.CodeNone)
		WantCode(t, "set", Altered(c, BrokerResource, broker, AlterSet("num.partitions", "2")), protocol.CodeInvalidRequest)
	}
}

// TestM3CollidingTopic: the topic that is in the way is named.
func TestM3CollidingTopic(t *testing.T) {
	c, n := begin(t)
	c.CreateTopic(n("a.b_c"), 1)
	resp := Ask[*kmsg.CreateTopicsResponse](c, CreateRequest(7, TopicSpec(n("a_b.c"), 1))).Topics[0]
	want := fmt.Sprintf("Topic '%s' collides with existing topic: %s", n("a_b.c"), n("a.b_c"))
	if resp.ErrorMessage == nil || *resp.ErrorMessage != want {
		t.Errorf("got %+v, want %s", resp, want)
	}
	WantCode(t, "collision", resp.ErrorCode, protocol.CodeInvalidTopicException)
}
