package broker

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
	b := serve(t, "--kafka", "group.initial.rebalance.delay.ms=0")
	c := dial(t, b.kafka)
	id := c.createTopic("t", 1)
	warm := kmsg.NewPtrFindCoordinatorRequest()
	warm.Version, warm.CoordinatorKeys = 4, []string{"g"}
	waitFor(t, "the group coordinator", func() bool {
		ask[*kmsg.FindCoordinatorResponse](c, warm)
		fetch := kmsg.NewPtrOffsetFetchRequest()
		fetch.Version, fetch.Group = 7, "g"
		return ask[*kmsg.OffsetFetchResponse](c, fetch).ErrorCode == 0
	})
	for _, api := range protocol.APIs() {
		for version := api.Min; version <= api.Max; version++ {
			t.Run(fmt.Sprintf("%s v%d", api.Name, version), func(t *testing.T) {
				req := kmsg.RequestForKey(int16(api.Key))
				req.SetVersion(version)
				fillRequest(req, id)
				checkAnswer(t, dial(t, b.kafka), req)
			})
		}
	}
}

func checkAnswer(t *testing.T, c *rawClient, req kmsg.Request) {
	t.Helper()
	corr := c.send(req)
	got, body, err := c.receive()
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
func fillRequest(req kmsg.Request, topic protocol.TopicID) {
	version := req.GetVersion()
	switch r := req.(type) {
	case *kmsg.ProduceRequest:
		*r = *produceRequest(version, "t", 0, batchOf("a"))
	case *kmsg.FetchRequest:
		*r = *fetchRequest(version, "t", topic, 0, 0)
	case *kmsg.ListOffsetsRequest:
		*r = *listRequest("t", 0, latestOffset)
		r.Version = version
	case *kmsg.MetadataRequest:
		*r = *metadataRequest(version, "t")
	case *kmsg.OffsetCommitRequest:
		r.Group, r.Generation = "g", -1
		p := kmsg.NewOffsetCommitRequestTopicPartition()
		p.Offset, p.Metadata = 1, kmsg.StringPtr("m")
		r.Topics = []kmsg.OffsetCommitRequestTopic{{Topic: "t", TopicID: topic, Partitions: []kmsg.OffsetCommitRequestTopicPartition{p}}}
	case *kmsg.OffsetFetchRequest:
		r.Group = "g"
		r.Topics = []kmsg.OffsetFetchRequestTopic{{Topic: "t", Partitions: []int32{0}}}
		g := kmsg.NewOffsetFetchRequestGroup()
		g.Group, g.Topics = "g", []kmsg.OffsetFetchRequestGroupTopic{{Topic: "t", TopicID: topic, Partitions: []int32{0}}}
		r.Groups = append(r.Groups, g)
	case *kmsg.FindCoordinatorRequest:
		r.CoordinatorKey, r.CoordinatorKeys = "g", []string{"g"}
	case *kmsg.JoinGroupRequest:
		r.Group, r.ProtocolType = fmt.Sprintf("join-%d", version), "test"
		r.SessionTimeoutMillis, r.RebalanceTimeoutMillis = 10_000, 10_000
		r.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "p", Metadata: []byte("x")}}
	case *kmsg.HeartbeatRequest:
		r.Group, r.MemberID = "g", "m"
	case *kmsg.LeaveGroupRequest:
		r.Group, r.MemberID = "g", "m"
		r.Members = []kmsg.LeaveGroupRequestMember{kmsg.NewLeaveGroupRequestMember()}
	case *kmsg.SyncGroupRequest:
		r.Group, r.MemberID = "g", "m"
	case *kmsg.DescribeGroupsRequest:
		r.Groups = []string{"g", "nobody"}
	case *kmsg.DeleteGroupsRequest:
		r.Groups = []string{"nobody"}
	case *kmsg.SASLHandshakeRequest:
		r.Mechanism = "PLAIN"
	case *kmsg.ApiVersionsRequest:
		r.ClientSoftwareName, r.ClientSoftwareVersion = "test", "1"
	case *kmsg.CreateTopicsRequest:
		*r = *createRequest(version, createSpec(fmt.Sprintf("created-%d", version), 1))
	case *kmsg.DeleteTopicsRequest:
		*r = *deleteRequest(version, fmt.Sprintf("created-%d", version+1))
	case *kmsg.DeleteRecordsRequest:
		*r = *deleteRecordsRequest("t", 0, 0)
		r.Version = version
	case *kmsg.InitProducerIDRequest:
		r.ProducerID, r.ProducerEpoch = -1, -1
	case *kmsg.OffsetForLeaderEpochRequest:
		*r = *epochRequest(version, "t", 0, 0, -1)
	case *kmsg.DescribeConfigsRequest:
		r.Resources = []kmsg.DescribeConfigsRequestResource{{ResourceType: kmsg.ConfigResourceTypeTopic, ResourceName: "t"}}
		r.IncludeSynonyms, r.IncludeDocumentation = true, true
	case *kmsg.CreatePartitionsRequest:
		r.Topics = []kmsg.CreatePartitionsRequestTopic{{Topic: "t", Count: 2 + int32(version)}}
		r.TimeoutMillis = 10_000
	case *kmsg.IncrementalAlterConfigsRequest:
		*r = *alterRequest(kmsg.ConfigResourceTypeTopic, "t", alterSet("retention.ms", "5000"))
		r.Version = version
	case *kmsg.OffsetDeleteRequest:
		r.Group = "g"
		r.Topics = []kmsg.OffsetDeleteRequestTopic{{Topic: "t", Partitions: []kmsg.OffsetDeleteRequestTopicPartition{{Partition: 0}}}}
	case *kmsg.DescribeClusterRequest:
		r.EndpointType = 1
	case *kmsg.DescribeTopicPartitionsRequest:
		r.Topics = []kmsg.DescribeTopicPartitionsRequestTopic{{Topic: "t"}}
		r.ResponsePartitionLimit = 10
	}
}
