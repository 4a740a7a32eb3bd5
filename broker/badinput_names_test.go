package broker

import (
	"fmt"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/conformance"
	"github.com/tidemill/tidemill/protocol"
)

// A question asks one API about a topic and returns what is said about it.
type question struct {
	name string
	ask  func(c *rawClient, topic string) int16
}

var aboutNames = []question{
	{"Produce", func(c *rawClient, topic string) int16 {
		return ask[*kmsg.ProduceResponse](c, produceRequest(11, topic, 0, batchOf("x"))).Topics[0].Partitions[0].ErrorCode
	}},
	{"Fetch", func(c *rawClient, topic string) int16 {
		return ask[*kmsg.FetchResponse](c, fetchRequest(12, topic, protocol.TopicID{}, 0, 0)).Topics[0].Partitions[0].ErrorCode
	}},
	{"ListOffsets", func(c *rawClient, topic string) int16 {
		return ask[*kmsg.ListOffsetsResponse](c, listRequest(topic, 0, latestOffset)).Topics[0].Partitions[0].ErrorCode
	}},
	{"Metadata", func(c *rawClient, topic string) int16 {
		return ask[*kmsg.MetadataResponse](c, metadataOf(topic)).Topics[0].ErrorCode
	}},
	{"OffsetForLeaderEpoch", func(c *rawClient, topic string) int16 {
		return ask[*kmsg.OffsetForLeaderEpochResponse](c, epochRequest(4, topic, 0, 0, -1)).Topics[0].Partitions[0].ErrorCode
	}},
	{"OffsetCommit", func(c *rawClient, topic string) int16 {
		return ask[*kmsg.OffsetCommitResponse](c, conformance.CommitRequest("kept-group", topic, 1)).Topics[0].Partitions[0].ErrorCode
	}},
	{"OffsetDelete", func(c *rawClient, topic string) int16 {
		req := kmsg.NewPtrOffsetDeleteRequest()
		req.Group = "kept-group"
		req.Topics = []kmsg.OffsetDeleteRequestTopic{{Topic: topic, Partitions: make([]kmsg.OffsetDeleteRequestTopicPartition, 1)}}
		return ask[*kmsg.OffsetDeleteResponse](c, req).Topics[0].Partitions[0].ErrorCode
	}},
	{"DeleteTopics", func(c *rawClient, topic string) int16 {
		return ask[*kmsg.DeleteTopicsResponse](c, conformance.DeleteRequest(5, topic)).Topics[0].ErrorCode
	}},
	{"DeleteRecords", func(c *rawClient, topic string) int16 {
		return deletedRecords(c, topic, 0, 0).ErrorCode
	}},
	{"CreatePartitions", func(c *rawClient, topic string) int16 {
		return ask[*kmsg.CreatePartitionsResponse](c, growRequest(topic, 5)).Topics[0].ErrorCode
	}},
	{"DescribeConfigs", func(c *rawClient, topic string) int16 {
		req := conformance.DescribeRequest(kmsg.ConfigResourceTypeTopic, topic)
		return ask[*kmsg.DescribeConfigsResponse](c, req).Resources[0].ErrorCode
	}},
	{"IncrementalAlterConfigs", func(c *rawClient, topic string) int16 {
		return altered(c, kmsg.ConfigResourceTypeTopic, topic, alterSet("retention.ms", "1"))
	}},
	{"DescribeTopicPartitions", func(c *rawClient, topic string) int16 {
		req := kmsg.NewPtrDescribeTopicPartitionsRequest()
		req.ResponsePartitionLimit = 10
		req.Topics = []kmsg.DescribeTopicPartitionsRequestTopic{{Topic: topic}}
		return ask[*kmsg.DescribeTopicPartitionsResponse](c, req).Topics[0].ErrorCode
	}},
}

func growRequest(topic string, count int32) *kmsg.CreatePartitionsRequest {
	req := kmsg.NewPtrCreatePartitionsRequest()
	req.Version, req.TimeoutMillis = 3, 30_000
	req.Topics = []kmsg.CreatePartitionsRequestTopic{{Topic: topic, Count: count}}
	return req
}

// TestBadInputUnknownRules: what is not there, by each API that names topics, partitions or groups.
func TestBadInputUnknownRules(t *testing.T) {
	a := besiege(t)
	c := a.dial(t)
	for _, q := range aboutNames {
		t.Run("topic by "+q.name, func(t *testing.T) {
			wantCode(t, q.name, q.ask(c, "nowhere"), protocol.CodeUnknownTopicOrPartition)
		})
	}
	unknown := protocol.TopicID{9, 9}
	t.Run("id by Fetch", func(t *testing.T) {
		p := ask[*kmsg.FetchResponse](c, fetchRequest(16, "", unknown, 0, 0)).Topics[0].Partitions[0]
		wantCode(t, "Fetch", p.ErrorCode, protocol.CodeUnknownTopicID)
	})
	t.Run("id by Metadata", func(t *testing.T) {
		req := kmsg.NewPtrMetadataRequest()
		req.Version, req.Topics = 12, []kmsg.MetadataRequestTopic{{TopicID: unknown}}
		wantCode(t, "Metadata", ask[*kmsg.MetadataResponse](c, req).Topics[0].ErrorCode, protocol.CodeUnknownTopicID)
	})
	t.Run("id by DeleteTopics", func(t *testing.T) {
		req := kmsg.NewPtrDeleteTopicsRequest()
		req.Version, req.TimeoutMillis, req.Topics = 6, 30_000, []kmsg.DeleteTopicsRequestTopic{{TopicID: unknown}}
		wantCode(t, "DeleteTopics", ask[*kmsg.DeleteTopicsResponse](c, req).Topics[0].ErrorCode, protocol.CodeUnknownTopicID)
	})
	t.Run("id by OffsetCommit", func(t *testing.T) {
		req := conformance.CommitRequest("kept-group", "", 1)
		req.Version, req.Topics[0].TopicID = 10, unknown
		wantCode(t, "OffsetCommit", ask[*kmsg.OffsetCommitResponse](c, req).Topics[0].Partitions[0].ErrorCode, protocol.CodeUnknownTopicID)
	})
	for _, partition := range []int32{2, -1, 1<<31 - 1, -1 << 31} {
		t.Run(fmt.Sprint("partition ", partition), func(t *testing.T) {
			wantCode(t, "Produce", c.produce(keptTopic, partition, batchOf("x")).ErrorCode, protocol.CodeUnknownTopicOrPartition)
			p := ask[*kmsg.FetchResponse](c, fetchRequest(12, keptTopic, protocol.TopicID{}, partition, 0)).Topics[0].Partitions[0]
			wantCode(t, "Fetch", p.ErrorCode, protocol.CodeUnknownTopicOrPartition)
			wantCode(t, "ListOffsets", listed(c, listRequest(keptTopic, partition, latestOffset)).ErrorCode, protocol.CodeUnknownTopicOrPartition)
			wantCode(t, "DeleteRecords", deletedRecords(c, keptTopic, partition, 0).ErrorCode, protocol.CodeUnknownTopicOrPartition)
		})
	}
	for _, offset := range []int64{2, -1, -2, 1<<63 - 1, -1 << 63} {
		t.Run(fmt.Sprint("offset ", offset), func(t *testing.T) {
			p := ask[*kmsg.FetchResponse](c, fetchRequest(12, keptTopic, protocol.TopicID{}, 0, offset)).Topics[0].Partitions[0]
			wantCode(t, "Fetch", p.ErrorCode, protocol.CodeOffsetOutOfRange)
		})
	}
	t.Run("group", func(t *testing.T) {
		del := kmsg.NewPtrDeleteGroupsRequest()
		del.Version, del.Groups = 2, []string{"nobody"}
		wantCode(t, "DeleteGroups", ask[*kmsg.DeleteGroupsResponse](c, del).Groups[0].ErrorCode, protocol.CodeGroupIDNotFound)
		beat := kmsg.NewPtrHeartbeatRequest()
		beat.Version, beat.Group, beat.MemberID = 4, "nobody", "m"
		wantCode(t, "Heartbeat", ask[*kmsg.HeartbeatResponse](c, beat).ErrorCode, protocol.CodeUnknownMemberID)
	})
	a.checkUnharmed(t)
}

// TestBadInputUnknownVersions: keys and versions that are not served close the connection, ApiVersions alone is answered (A3).
func TestBadInputUnknownVersions(t *testing.T) {
	a := besiege(t)
	for _, api := range protocol.APIs() {
		for _, version := range []int16{-1, -1 << 15, api.Min - 1, api.Max + 1, 1<<15 - 1} {
			c := a.dial(t)
			c.sendBytes([]byte{0, 0, 0, 16, byte(api.Key >> 8), byte(api.Key), byte(version >> 8), byte(version), 0, 0, 0, 1, 0xff, 0xff, 0, 0, 0, 0, 0, 0})
			if api.Key != protocol.KeyAPIVersions {
				c.checkClosed()
			} else if _, body, err := c.receive(); err != nil || body[1] != byte(protocol.CodeUnsupportedVersion) {
				t.Errorf("ApiVersions v%d: %v", version, err)
			}
		}
	}
	for _, key := range []int16{-1, -1 << 15, 4, 999, 1<<15 - 1} {
		c := a.dial(t)
		c.sendBytes([]byte{0, 0, 0, 10, byte(key >> 8), byte(key), 0, 0, 0, 0, 0, 1, 0xff, 0xff})
		c.checkClosed()
	}
	a.checkUnharmed(t)
}

// TestBadInputNamesRules: names that no topic may have are not there, invalid where Kafka looks, and never created.
func TestBadInputNamesRules(t *testing.T) {
	a := besiege(t)
	c := a.dial(t)
	invalid := map[string]bool{"Metadata": true, "DescribeConfigs": true, "IncrementalAlterConfigs": true, "DescribeTopicPartitions": true}
	for _, name := range []string{"", ".", "..", "a b", "a/b", "a\x00b", "thé", "\xff\xfe", "a\n", strings.Repeat("x", 250), strings.Repeat("x", 32_000)} {
		shown := name
		if len(name) > 20 {
			shown = fmt.Sprintf("%d letters", len(name))
		}
		t.Run(fmt.Sprintf("create %q", shown), func(t *testing.T) {
			resp := ask[*kmsg.CreateTopicsResponse](c, createRequest(7, createSpec(name, 1)))
			wantCode(t, "CreateTopics", resp.Topics[0].ErrorCode, protocol.CodeInvalidTopicException)
		})
		for _, q := range aboutNames {
			t.Run(fmt.Sprintf("%s %q", q.name, shown), func(t *testing.T) {
				want := protocol.CodeUnknownTopicOrPartition
				switch {
				case name == "" && q.name == "IncrementalAlterConfigs":
					want = protocol.CodeInvalidRequest
				case name == "" && q.name == "DescribeTopicPartitions" && oracle != "":
					want = protocol.CodeUnknownServerError
				case invalid[q.name]:
					want = protocol.CodeInvalidTopicException
				}
				wantCode(t, q.name, q.ask(c, name), want)
			})
		}
	}
	a.checkUnharmed(t)
}

// TestDeleteManyTopics deletes many topics by one request, beside some that are not there and one that is named twice.
func TestDeleteManyTopics(t *testing.T) {
	b := startBroker(t)
	c := dial(t, b.kafka).warm()
	specs := []kmsg.CreateTopicsRequestTopic{createSpec("twice", 1)}
	names := []string{"twice", "absent", "twice"}
	for i := range 50 {
		name := fmt.Sprintf("t%03d", i)
		specs, names = append(specs, createSpec(name, 2)), append(names, name)
	}
	ask[*kmsg.CreateTopicsResponse](c, createRequest(7, specs...))
	answers := ask[*kmsg.DeleteTopicsResponse](c, conformance.DeleteRequest(5, names...)).Topics
	if len(answers) != len(names)-1 {
		t.Fatalf("%d answers for %d names", len(answers), len(names)-1)
	}
	wantCode(t, "twice", answers[0].ErrorCode, protocol.CodeInvalidRequest)
	wantCode(t, "absent", answers[1].ErrorCode, protocol.CodeUnknownTopicOrPartition)
	for i, got := range answers[2:] {
		if want := fmt.Sprintf("t%03d", i); got.ErrorCode != 0 || *got.Topic != want {
			t.Errorf("answer %d is %v for %s, want none for %s", i, protocol.ErrorCode(got.ErrorCode), *got.Topic, want)
		}
	}
	a := &attack{testBroker: b}
	if left := a.topics(c); len(left) != 1 || left[0] != "twice" {
		t.Errorf("what is left: %v", left)
	}
}

// TestBadInputPartitionsRules: 10,001 partitions are more than a request may make, in one topic or in many.
func TestBadInputPartitionsRules(t *testing.T) {
	a := besiege(t)
	c := a.dial(t)
	create := func(t *testing.T, want protocol.ErrorCode, topics ...kmsg.CreateTopicsRequestTopic) {
		t.Helper()
		for _, topic := range ask[*kmsg.CreateTopicsResponse](c, createRequest(7, topics...)).Topics {
			wantCode(t, topic.Topic, topic.ErrorCode, want)
		}
	}
	t.Run("in one topic", func(t *testing.T) { create(t, protocol.CodePolicyViolation, createSpec("many", 10_001)) })
	t.Run("in two", func(t *testing.T) {
		create(t, protocol.CodePolicyViolation, createSpec("many", 10_000), createSpec("one", 1))
	})
	t.Run("2^31-1", func(t *testing.T) { create(t, protocol.CodePolicyViolation, createSpec("many", 1<<31-1)) })
	t.Run("more than 2^31 together", func(t *testing.T) {
		if oracle != "" {
			t.Skip("Kafka adds them up to an arithmetic error")
		}
		create(t, protocol.CodePolicyViolation, createSpec("many", 1<<31-1), createSpec("more", 1<<31-1), createSpec("most", 5))
	})
	t.Run("none", func(t *testing.T) { create(t, protocol.CodeInvalidPartitions, createSpec("none", 0)) })
	t.Run("-2", func(t *testing.T) { create(t, protocol.CodeInvalidPartitions, createSpec("none", -2)) })
	t.Run("added", func(t *testing.T) {
		if oracle != "" {
			t.Skip("Kafka answers an error and adds 10,000 of them")
		}
		got := ask[*kmsg.CreatePartitionsResponse](c, growRequest(keptTopic, 2+10_001)).Topics[0].ErrorCode
		wantCode(t, "CreatePartitions", got, protocol.CodePolicyViolation)
	})
	a.checkUnharmed(t)
}
