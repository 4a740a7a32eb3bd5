package conformance

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/protocol"
)

// TestEveryVersionAnswers asks for every key at every version that is served. An answer must decode and be what kmsg
// itself writes, so that no field is missing and nothing trails.
func TestEveryVersionAnswers(t *testing.T) {
	c, n := begin(t)
	topic, group := n("t"), n("g")
	id := c.CreateTopic(topic, 1)
	WantCode(t, "commit", Committed(c, group, topic, 0), protocol.CodeNone)
	served := map[int16]kmsg.ApiVersionsResponseApiKey{}
	for _, k := range Ask[*kmsg.ApiVersionsResponse](c, kmsg.NewPtrApiVersionsRequest()).ApiKeys {
		served[k.ApiKey] = k
	}
	for _, api := range protocol.APIs() {
		theirs, ok := served[int16(api.Key)]
		if !ok {
			t.Errorf("%s is not served", api.Name)
			continue
		}
		for version := max(api.Min, theirs.MinVersion); version <= min(api.Max, theirs.MaxVersion); version++ {
			t.Run(fmt.Sprintf("%s v%d", api.Name, version), func(t *testing.T) {
				req := kmsg.RequestForKey(int16(api.Key))
				req.SetVersion(version)
				fillRequest(req, n, id)
				checkAnswer(t, Dial(t, target.addr), req)
			})
		}
	}
}

func checkAnswer(t *testing.T, c *Client, req kmsg.Request) {
	t.Helper()
	corr := c.Send(req)
	got, body, err := c.Receive()
	if err != nil || got != corr {
		t.Fatalf("answer %d, %v", got, err)
	}
	resp := req.ResponseKind()
	resp.SetVersion(req.GetVersion())
	if resp.IsFlexible() && resp.Key() != int16(protocol.KeyAPIVersions) {
		if body[0] != 0 {
			t.Errorf("the header has %d tags", body[0])
		}
		body = body[1:]
	}
	if err := resp.ReadFrom(body); err != nil {
		t.Fatal(err)
	}
	if again := resp.AppendTo(nil); !bytes.Equal(again, body) {
		t.Errorf("the answer\n% x\nis written by kmsg as\n% x", body, again)
	}
}

// fillRequest makes a default request one that a client could send.
func fillRequest(req kmsg.Request, n func(string) string, id protocol.TopicID) {
	topic, group := n("t"), n("g")
	version := req.GetVersion()
	switch r := req.(type) {
	case *kmsg.ProduceRequest:
		*r = *ProduceRequest(version, topic, 0, BatchOf("a"))
	case *kmsg.FetchRequest:
		*r = *FetchRequest(version, topic, id, 0, 0)
	case *kmsg.ListOffsetsRequest:
		*r = *ListRequest(topic, 0, LatestOffset)
		r.Version = version
	case *kmsg.MetadataRequest:
		*r = *MetadataRequest(version, topic)
	case *kmsg.OffsetCommitRequest:
		r.Group, r.Generation = group, -1
		p := kmsg.NewOffsetCommitRequestTopicPartition()
		p.Offset, p.Metadata = 1, kmsg.StringPtr("m")
		r.Topics = []kmsg.OffsetCommitRequestTopic{{Topic: topic, TopicID: id, Partitions: []kmsg.OffsetCommitRequestTopicPartition{p}}}
	case *kmsg.OffsetFetchRequest:
		r.Group = group
		r.Topics = []kmsg.OffsetFetchRequestTopic{{Topic: topic, Partitions: []int32{0}}}
		g := kmsg.NewOffsetFetchRequestGroup()
		g.Group, g.Topics = group, []kmsg.OffsetFetchRequestGroupTopic{{Topic: topic, TopicID: id, Partitions: []int32{0}}}
		r.Groups = append(r.Groups, g)
	case *kmsg.FindCoordinatorRequest:
		r.CoordinatorKey, r.CoordinatorKeys = group, []string{group}
	case *kmsg.JoinGroupRequest:
		r.Group, r.ProtocolType = n(fmt.Sprintf("join-%d", version)), "test"
		r.SessionTimeoutMillis, r.RebalanceTimeoutMillis = 10_000, 10_000
		r.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "p", Metadata: []byte("x")}}
	case *kmsg.HeartbeatRequest:
		r.Group, r.MemberID = group, "m"
	case *kmsg.LeaveGroupRequest:
		r.Group, r.MemberID = group, "m"
		r.Members = []kmsg.LeaveGroupRequestMember{kmsg.NewLeaveGroupRequestMember()}
	case *kmsg.SyncGroupRequest:
		r.Group, r.MemberID = group, "m"
	case *kmsg.DescribeGroupsRequest:
		r.Groups = []string{group, n("nobody")}
	case *kmsg.DeleteGroupsRequest:
		r.Groups = []string{n("nobody")}
	case *kmsg.SASLHandshakeRequest:
		r.Mechanism = "PLAIN"
	case *kmsg.ApiVersionsRequest:
		r.ClientSoftwareName, r.ClientSoftwareVersion = "test", "1"
	case *kmsg.CreateTopicsRequest:
		*r = *CreateRequest(version, TopicSpec(n(fmt.Sprintf("created-%d", version)), 1))
	case *kmsg.DeleteTopicsRequest:
		*r = *DeleteRequest(version, n(fmt.Sprintf("created-%d", version+1)))
	case *kmsg.DeleteRecordsRequest:
		*r = *DeleteRecordsRequest(topic, 0, 0)
		r.Version = version
	case *kmsg.InitProducerIDRequest:
		r.ProducerID, r.ProducerEpoch = -1, -1
	case *kmsg.OffsetForLeaderEpochRequest:
		*r = *EpochRequest(version, topic, 0, 0, -1)
	case *kmsg.DescribeConfigsRequest:
		r.Resources = []kmsg.DescribeConfigsRequestResource{{ResourceType: kmsg.ConfigResourceTypeTopic, ResourceName: topic}}
		r.IncludeSynonyms, r.IncludeDocumentation = true, true
	case *kmsg.CreatePartitionsRequest:
		r.Topics = []kmsg.CreatePartitionsRequestTopic{{Topic: topic, Count: 2 + int32(version)}}
		r.TimeoutMillis = 10_000
	case *kmsg.IncrementalAlterConfigsRequest:
		*r = *AlterRequest(kmsg.ConfigResourceTypeTopic, topic, AlterSet("retention.ms", "5000"))
		r.Version = version
	case *kmsg.OffsetDeleteRequest:
		r.Group = group
		r.Topics = []kmsg.OffsetDeleteRequestTopic{{Topic: topic, Partitions: []kmsg.OffsetDeleteRequestTopicPartition{{Partition: 0}}}}
	case *kmsg.DescribeACLsRequest:
		r.ResourceType, r.Operation, r.PermissionType = 1, 1, 1
	case *kmsg.CreateACLsRequest:
		acl := kmsg.NewCreateACLsRequestCreation()
		acl.ResourceType, acl.ResourceName, acl.Principal, acl.Host, acl.Operation, acl.PermissionType = 2, topic, "User:a", "*", 3, 3
		r.Creations = append(r.Creations, acl)
	case *kmsg.DeleteACLsRequest:
		filter := kmsg.NewDeleteACLsRequestFilter()
		filter.ResourceType, filter.Operation, filter.PermissionType = 1, 1, 1
		r.Filters = append(r.Filters, filter)
	case *kmsg.ElectLeadersRequest:
		r.Topics = []kmsg.ElectLeadersRequestTopic{{Topic: topic, Partitions: []int32{0}}}
		r.TimeoutMillis = 10_000
	case *kmsg.AlterPartitionAssignmentsRequest:
		r.Topics = []kmsg.AlterPartitionAssignmentsRequestTopic{{Topic: topic,
			Partitions: []kmsg.AlterPartitionAssignmentsRequestTopicPartition{{Partition: 0, Replicas: []int32{target.node}}}}}
		r.TimeoutMillis = 10_000
	case *kmsg.DescribeClusterRequest:
		r.EndpointType = 1
	case *kmsg.DescribeTopicPartitionsRequest:
		r.Topics = []kmsg.DescribeTopicPartitionsRequestTopic{{Topic: topic}}
		r.ResponsePartitionLimit = 10
	}
}
