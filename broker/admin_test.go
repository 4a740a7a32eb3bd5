package broker

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/conformance"
	"github.com/tidemill/tidemill/protocol"
)

// TestM12LogDirs: one directory with the sizes of the partitions that are here, each asked for or all.
func TestM12LogDirs(t *testing.T) {
	b := startBroker(t)
	c := dial(t, b.kafka)
	c.createTopic("full", 2)
	c.createTopic("void", 1)
	wantCode(t, "produce", c.produce("full", 1, batchOf("a")).ErrorCode, protocol.CodeNone)
	asked := []kmsg.DescribeLogDirsRequestTopic{
		{Topic: "full", Partitions: []int32{1, 1, 7, -1}}, {Topic: "absent", Partitions: []int32{0}}, {Topic: "void"}, {Topic: "full", Partitions: []int32{1}},
	}
	type sizes map[string]map[int32]bool // whether there are bytes
	for _, tt := range []struct {
		what   string
		topics []kmsg.DescribeLogDirsRequestTopic
		want   sizes
	}{
		{"all", nil, sizes{"full": {0: false, 1: true}, "void": {0: false}}},
		{"none", []kmsg.DescribeLogDirsRequestTopic{}, sizes{}},
		{"some", asked, sizes{"full": {1: true}}},
	} {
		for version := int16(1); version <= 5; version++ {
			req := kmsg.NewPtrDescribeLogDirsRequest()
			req.Version, req.Topics = version, tt.topics
			resp := ask[*kmsg.DescribeLogDirsResponse](c, req)
			if len(resp.Dirs) != 1 || resp.ErrorCode != 0 {
				t.Fatalf("%s v%d: %+v", tt.what, version, resp)
			}
			dir := resp.Dirs[0]
			if !strings.HasPrefix(dir.Dir, "file:///") || dir.ErrorCode != 0 || dir.TotalBytes != -1 || dir.UsableBytes != -1 {
				t.Errorf("%s v%d: %+v", tt.what, version, dir)
			}
			got := sizes{}
			for _, topic := range dir.Topics {
				got[topic.Topic] = map[int32]bool{}
				for _, p := range topic.Partitions {
					got[topic.Topic][p.Partition] = p.Size > 0
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("%s v%d (-want +got):\n%s", tt.what, version, diff)
			}
		}
	}
}

// TestM13ElectLeaders: there is nothing to elect.
func TestM13ElectLeaders(t *testing.T) {
	c := dial(t, startBroker(t).kafka)
	c.createTopic("t", 2)
	for version := int16(0); version <= 2; version++ {
		for kind, want := range map[int8]map[string][]int16{
			0:  {"t": {84, 84, 3, 3}, "absent": {3}},
			1:  {"t": {84, 84, 3, 3}, "absent": {3}},
			2:  {"t": {42, 42, 42, 42}, "absent": {42}},
			-1: {"t": {42, 42, 42, 42}, "absent": {42}},
		} {
			if version == 0 && kind != 0 {
				continue // has no election type
			}
			req := kmsg.NewPtrElectLeadersRequest()
			req.Version, req.ElectionType = version, kind
			req.Topics = []kmsg.ElectLeadersRequestTopic{{Topic: "t", Partitions: []int32{0, 1, 2, -1}}, {Topic: "absent", Partitions: []int32{0}}}
			got := map[string][]int16{}
			for _, topic := range ask[*kmsg.ElectLeadersResponse](c, req).Topics {
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
		if resp := ask[*kmsg.ElectLeadersResponse](c, all); resp.ErrorCode != 0 || len(resp.Topics) != 0 {
			t.Errorf("v%d, all partitions: %+v", version, resp)
		}
	}
}

// TestM14NoAuthorizer: every request about access rules says that there is nobody who would heed them.
func TestM14NoAuthorizer(t *testing.T) {
	c := dial(t, startBroker(t).kafka)
	for version := int16(1); version <= 3; version++ {
		describe := kmsg.NewPtrDescribeACLsRequest()
		describe.Version, describe.ResourceType, describe.Operation, describe.PermissionType = version, 1, 1, 1
		resp := ask[*kmsg.DescribeACLsResponse](c, describe)
		if resp.ErrorMessage == nil || len(resp.Resources) != 0 {
			t.Errorf("describe v%d: %+v", version, resp)
		}
		wantCode(t, "describe", resp.ErrorCode, protocol.CodeSecurityDisabled)
		create := kmsg.NewPtrCreateACLsRequest()
		create.Version = version
		for range 3 {
			acl := kmsg.NewCreateACLsRequestCreation()
			acl.ResourceType, acl.ResourceName, acl.Principal, acl.Host, acl.Operation, acl.PermissionType = 2, "t", "User:a", "*", 3, 3
			create.Creations = append(create.Creations, acl)
		}
		created := ask[*kmsg.CreateACLsResponse](c, create).Results
		remove := kmsg.NewPtrDeleteACLsRequest()
		remove.Version, remove.Filters = version, []kmsg.DeleteACLsRequestFilter{kmsg.NewDeleteACLsRequestFilter(), kmsg.NewDeleteACLsRequestFilter()}
		removed := ask[*kmsg.DeleteACLsResponse](c, remove).Results
		if len(created) != 3 || len(removed) != 2 {
			t.Fatalf("v%d: %d answers to 3 rules, %d to 2 filters", version, len(created), len(removed))
		}
		for _, r := range created {
			wantCode(t, "create", r.ErrorCode, protocol.CodeSecurityDisabled)
		}
		for _, r := range removed {
			wantCode(t, "delete", r.ErrorCode, protocol.CodeSecurityDisabled)
		}
	}
}

// TestM10DeleteStaticKey: a key that may not be set at run time may be deleted all the same, as in Kafka.
func TestM10DeleteStaticKey(t *testing.T) {
	c := dial(t, startBroker(t).kafka)
	del := kmsg.IncrementalAlterConfigsRequestResourceConfig{Name: "num.partitions", Op: kmsg.IncrementalAlterConfigOpDelete}
	for _, broker := range []string{"", "1"} {
		wantCode(t, "delete", altered(c, conformance.BrokerResource, broker, del), protocol.CodeNone)
		wantCode(t, "set", altered(c, conformance.BrokerResource, broker, alterSet("num.partitions", "2")), protocol.CodeInvalidRequest)
	}
}

// TestNodeIDIsTold: a broker says which it is, also when its id was not given to it.
func TestNodeIDIsTold(t *testing.T) {
	c := dial(t, startBroker(t).kafka)
	got := conformance.DescribedAs(c.Client, conformance.BrokerResource, "1")
	for name, want := range map[string]string{"node.id": "1 source=4 type=3 node.id=1@4", "broker.id": "1 source=4 type=3 broker.id=1@4 broker.id=-1@5"} {
		if s := conformance.Shown(got[name]); s != want {
			t.Errorf("%s: got %s, want %s", name, s, want)
		}
	}
}

// TestM3CollidingTopic: the topic that is in the way is named.
func TestM3CollidingTopic(t *testing.T) {
	c := dial(t, startBroker(t).kafka)
	c.createTopic("a.b_c", 1)
	resp := ask[*kmsg.CreateTopicsResponse](c, createRequest(7, createSpec("a_b.c", 1))).Topics[0]
	const want = "Topic 'a_b.c' collides with existing topic: a.b_c"
	if resp.ErrorMessage == nil || *resp.ErrorMessage != want {
		t.Errorf("got %+v, want %s", resp, want)
	}
	wantCode(t, "collision", resp.ErrorCode, protocol.CodeInvalidTopicException)
}
