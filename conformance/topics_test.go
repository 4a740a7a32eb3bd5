package conformance

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/protocol"
)

// assigned makes a spec one with manual assignments, partition i on the replicas of the i-th list.
func assigned(t kmsg.CreateTopicsRequestTopic, partitions []int32, replicas ...[]int32) kmsg.CreateTopicsRequestTopic {
	t.NumPartitions, t.ReplicationFactor = -1, -1
	for i, p := range partitions {
		t.ReplicaAssignment = append(t.ReplicaAssignment, kmsg.CreateTopicsRequestTopicReplicaAssignment{Partition: p, Replicas: replicas[i]})
	}
	return t
}

func with(t kmsg.CreateTopicsRequestTopic, change func(*kmsg.CreateTopicsRequestTopic)) kmsg.CreateTopicsRequestTopic {
	change(&t)
	return t
}

// replicas are lists of brokers for an assignment: the broker under test, one that is not there, the first one twice.
func replicas() (self, other, twice []int32) {
	return []int32{target.node}, []int32{target.node + 1000}, []int32{target.node, target.node}
}

// TestM3M4M8M9: what CreateTopics refuses, topic by topic, and what it answers.
func TestM3M4M8M9(t *testing.T) {
	c, n := begin(t)
	self, other, twice := replicas()
	c.CreateTopic(n("taken"), 1)
	c.CreateTopic(n("with.dot"), 1)
	for _, tc := range []struct {
		name  string
		topic kmsg.CreateTopicsRequestTopic
		want  protocol.ErrorCode
	}{
		{"M4 exists", TopicSpec(n("taken"), 1), protocol.CodeTopicAlreadyExists},
		{"M3 empty name", TopicSpec("", 1), protocol.CodeInvalidTopicException},
		{"M3 dot", TopicSpec(".", 1), protocol.CodeInvalidTopicException},
		{"M3 two dots", TopicSpec("..", 1), protocol.CodeInvalidTopicException},
		{"M3 bad letter", TopicSpec("a b", 1), protocol.CodeInvalidTopicException},
		{"M3 not ASCII", TopicSpec("thé", 1), protocol.CodeInvalidTopicException},
		{"M3 250 letters", TopicSpec(n(strings.Repeat("x", 250-len(n("")))), 1), protocol.CodeInvalidTopicException},
		{"M3 249 letters", TopicSpec(n(strings.Repeat("x", 249-len(n("")))), 1), protocol.CodeNone},
		{"M3 collides", TopicSpec(n("with_dot"), 1), protocol.CodeInvalidTopicException},
		{"M3 underscores first", TopicSpec("__"+n("mine"), 1), protocol.CodeNone},
		{"M4 no partitions", TopicSpec(n("t1"), 0), protocol.CodeInvalidPartitions},
		{"M4 -2 partitions", TopicSpec(n("t2"), -2), protocol.CodeInvalidPartitions},
		{"M4 -1 partitions", TopicSpec(n("t3"), -1), protocol.CodeNone},
		{"M4 replication factor 0", with(TopicSpec(n("t4"), 1), func(t *kmsg.CreateTopicsRequestTopic) { t.ReplicationFactor = 0 }), protocol.CodeInvalidReplicationFactor},
		{"M4 replication factor -2", with(TopicSpec(n("t5"), 1), func(t *kmsg.CreateTopicsRequestTopic) { t.ReplicationFactor = -2 }), protocol.CodeInvalidReplicationFactor},
		{"M4 replication factor -1", with(TopicSpec(n("t6"), 1), func(t *kmsg.CreateTopicsRequestTopic) { t.ReplicationFactor = -1 }), protocol.CodeNone},
		{"M4 assignment and partitions", with(assigned(TopicSpec(n("t7"), 1), []int32{0}, self), func(t *kmsg.CreateTopicsRequestTopic) { t.NumPartitions = 1 }), protocol.CodeInvalidRequest},
		{"M4 assignment and factor", with(assigned(TopicSpec(n("t8"), 1), []int32{0}, self), func(t *kmsg.CreateTopicsRequestTopic) { t.ReplicationFactor = 1 }), protocol.CodeInvalidRequest},
		{"M4 assignment from 1 on", assigned(TopicSpec(n("t9"), 1), []int32{1}, self), protocol.CodeInvalidReplicaAssignment},
		{"M4 partition assigned twice", assigned(TopicSpec(n("t10"), 1), []int32{0, 0}, self, self), protocol.CodeInvalidReplicaAssignment},
		{"M4 broker twice", assigned(TopicSpec(n("t11"), 1), []int32{0}, twice), protocol.CodeInvalidReplicaAssignment},
		{"M4 no brokers", assigned(TopicSpec(n("t12"), 1), []int32{0}, []int32{}), protocol.CodeInvalidReplicaAssignment},
		{"M4 unknown broker", assigned(TopicSpec(n("t13"), 1), []int32{0}, other), protocol.CodeInvalidReplicaAssignment},
		{"M4 assignment", assigned(TopicSpec(n("t14"), 1), []int32{1, 0}, self, self), protocol.CodeNone},
		{"M4 unknown config", TopicSpec(n("t15"), 1, "retention.mss", "1"), protocol.CodeInvalidConfig},
		{"M4 bad config", TopicSpec(n("t16"), 1, "retention.ms", "soon"), protocol.CodeInvalidConfig},
		{"M4 null config", with(TopicSpec(n("t17"), 1, "retention.ms", "1"), func(t *kmsg.CreateTopicsRequestTopic) { t.Configs[0].Value = nil }), protocol.CodeInvalidConfig},
		{"M4 the same config twice", TopicSpec(n("t18"), 1, "retention.ms", "1", "retention.ms", "2"), protocol.CodeNone},
		{"M9 compaction lags crossed", TopicSpec(n("t19"), 1, "min.compaction.lag.ms", "2", "max.compaction.lag.ms", "1"), protocol.CodeInvalidConfig},
		{"M8 empty cleanup policy", TopicSpec(n("t20"), 1, "cleanup.policy", ""), protocol.CodeNone},
		{"M8 GZIP in capitals", TopicSpec(n("t21"), 1, "compression.type", "GZIP"), protocol.CodeInvalidConfig},
		{"M8 retention.bytes -2", TopicSpec(n("t22"), 1, "retention.bytes", "-2"), protocol.CodeNone},
		{"M8 cleanup policy with a hole", TopicSpec(n("t23"), 1, "cleanup.policy", "compact,,delete"), protocol.CodeInvalidConfig},
		{"M8 message.format.version", TopicSpec(n("t24"), 1, "message.format.version", "2.0"), protocol.CodeInvalidConfig},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for _, validate := range []bool{true, false} {
				req := CreateRequest(7, tc.topic)
				req.ValidateOnly = validate
				got := Ask[*kmsg.CreateTopicsResponse](c, req).Topics[0]
				WantCode(t, fmt.Sprintf("validate only %v", validate), got.ErrorCode, tc.want)
				if failed := tc.want != protocol.CodeNone; failed && (got.ErrorMessage == nil || got.NumPartitions != -1 || got.ReplicationFactor != -1) {
					t.Errorf("refused with message %v, %d partitions, factor %d", got.ErrorMessage, got.NumPartitions, got.ReplicationFactor)
				}
			}
		})
	}
	t.Run("M4 duplicates beside a good one", func(t *testing.T) {
		resp := Ask[*kmsg.CreateTopicsResponse](c, CreateRequest(7, TopicSpec(n("twice"), 1), TopicSpec(n("once"), 1), TopicSpec(n("twice"), 1)))
		got := map[string]protocol.ErrorCode{}
		for _, topic := range resp.Topics {
			got[topic.Topic] = protocol.ErrorCode(topic.ErrorCode)
		}
		want := map[string]protocol.ErrorCode{n("twice"): protocol.CodeInvalidRequest, n("once"): protocol.CodeNone}
		if diff := cmp.Diff(want, got); diff != "" || len(resp.Topics) != 2 {
			t.Errorf("%d answers: %s", len(resp.Topics), diff)
		}
	})
	t.Run("M4 more than 10,000 partitions", func(t *testing.T) {
		resp := Ask[*kmsg.CreateTopicsResponse](c, CreateRequest(7, TopicSpec(n("wide"), 6000), TopicSpec(n("wider"), 6000)))
		for _, topic := range resp.Topics {
			WantCode(t, topic.Topic, topic.ErrorCode, protocol.CodePolicyViolation)
		}
	})
	t.Run("M4 every version takes -1", func(t *testing.T) {
		for version := int16(2); version <= 7; version++ {
			topic := TopicSpec(n(fmt.Sprintf("defaults-%d", version)), -1)
			topic.ReplicationFactor = -1
			WantCode(t, topic.Topic, Ask[*kmsg.CreateTopicsResponse](c, CreateRequest(version, topic)).Topics[0].ErrorCode, protocol.CodeNone)
		}
	})
	t.Run("M4 the answer echoes", func(t *testing.T) {
		got := Ask[*kmsg.CreateTopicsResponse](c, CreateRequest(7, TopicSpec(n("echo"), 3, "retention.ms", "+5000", "preallocate", "TRUE"))).Topics[0]
		if got.NumPartitions != 3 || got.ReplicationFactor != 1 || got.TopicID == [16]byte{} {
			t.Errorf("%d partitions, factor %d, id %x", got.NumPartitions, got.ReplicationFactor, got.TopicID)
		}
		type config struct {
			Value  string
			Source int8
		}
		configs := map[string]config{}
		for _, e := range got.Configs {
			configs[e.Name] = config{*e.Value, e.Source}
		}
		for name, want := range map[string]config{
			"retention.ms": {"+5000", 1}, "preallocate": {"TRUE", 1}, "cleanup.policy": {"delete", 5}, "max.message.bytes": {"1048588", 5},
		} {
			if configs[name] != want {
				t.Errorf("%s: got %v, want %v", name, configs[name], want)
			}
		}
		if len(configs) < 33 {
			t.Errorf("%d configs are echoed, Kafka has 33 or more", len(configs))
		}
	})
}

// TestM5: DeleteTopics by name and id, and what a topic created again must not see.
func TestM5(t *testing.T) {
	c, n := begin(t)
	byID := func(ids ...protocol.TopicID) *kmsg.DeleteTopicsRequest {
		req := DeleteRequest(6)
		for _, id := range ids {
			req.Topics = append(req.Topics, kmsg.DeleteTopicsRequestTopic{TopicID: id})
		}
		return req
	}
	codes := func(req *kmsg.DeleteTopicsRequest) []protocol.ErrorCode {
		var out []protocol.ErrorCode
		for _, topic := range Ask[*kmsg.DeleteTopicsResponse](c, req).Topics {
			out = append(out, protocol.ErrorCode(topic.ErrorCode))
		}
		return out
	}
	check := func(t *testing.T, req *kmsg.DeleteTopicsRequest, want ...protocol.ErrorCode) {
		t.Helper()
		if diff := cmp.Diff(want, codes(req)); diff != "" {
			t.Error(diff)
		}
	}
	t.Run("M5 by id, and again", func(t *testing.T) {
		id := c.CreateTopic(n("by-id"), 1)
		resp := Ask[*kmsg.DeleteTopicsResponse](c, byID(id)).Topics[0]
		if resp.ErrorCode != 0 || resp.Topic == nil || *resp.Topic != n("by-id") || resp.TopicID != id {
			t.Errorf("code %d, name %v, id %x", resp.ErrorCode, resp.Topic, resp.TopicID)
		}
		check(t, byID(id), protocol.CodeUnknownTopicID)
	})
	t.Run("M5 by name, and again", func(t *testing.T) {
		c.CreateTopic(n("by-name"), 1)
		check(t, DeleteRequest(6, n("by-name")), protocol.CodeNone)
		check(t, DeleteRequest(6, n("by-name")), protocol.CodeUnknownTopicOrPartition)
		check(t, DeleteRequest(3, n("by-name")), protocol.CodeUnknownTopicOrPartition)
	})
	t.Run("M5 twice in one request", func(t *testing.T) {
		id := c.CreateTopic(n("twice"), 1)
		for _, req := range []*kmsg.DeleteTopicsRequest{
			DeleteRequest(6, n("twice"), n("twice")), byID(id, id),
			func() *kmsg.DeleteTopicsRequest {
				req := byID(id)
				req.Topics = append(req.Topics, DeleteRequest(6, n("twice")).Topics...)
				return req
			}(),
		} {
			got := codes(req)
			if len(got) == 0 {
				t.Error("no answer")
			}
			for _, code := range got {
				WantCode(t, "twice", int16(code), protocol.CodeInvalidRequest)
			}
		}
		check(t, DeleteRequest(6, n("twice")), protocol.CodeNone)
	})
	t.Run("M5 name and id, and neither", func(t *testing.T) {
		id := c.CreateTopic(n("both"), 1)
		req := byID(id)
		req.Topics[0].Topic = kmsg.StringPtr(n("both"))
		check(t, req, protocol.CodeInvalidRequest)
		check(t, byID(protocol.TopicID{}), protocol.CodeInvalidRequest)
	})
	t.Run("M5 a topic created again is empty", func(t *testing.T) {
		old := c.CreateTopic(n("again"), 1)
		c.Produce(n("again"), 0, BatchOf("a", "b", "c"))
		commit := Committed(c, n("m5"), n("again"), 3)
		WantCode(t, "commit", commit, protocol.CodeNone)
		check(t, DeleteRequest(6, n("again")), protocol.CodeNone)
		WaitFor(t, "the deleted name to be unknown", func() bool {
			return c.Produce(n("again"), 0, BatchOf("x")).ErrorCode == int16(protocol.CodeUnknownTopicOrPartition)
		})
		WaitFor(t, "the deleted id to be unknown", func() bool {
			return Fetched(c, FetchRequest(13, "", old, 0, 0)).ErrorCode == int16(protocol.CodeUnknownTopicID)
		})
		id := c.CreateTopic(n("again"), 1)
		if id == old {
			t.Error("the topic has its old id")
		}
		p := Fetched(c, FetchRequest(13, "", id, 0, 0))
		if p.ErrorCode != 0 || p.HighWatermark != 0 || len(p.RecordBatches) != 0 {
			t.Errorf("code %d, high watermark %d, %d bytes", p.ErrorCode, p.HighWatermark, len(p.RecordBatches))
		}
		WantCode(t, "F13 fetch by the old id", Fetched(c, FetchRequest(13, "", old, 0, 0)).ErrorCode, protocol.CodeUnknownTopicID)
		if off := c.Produce(n("again"), 0, BatchOf("new")).BaseOffset; off != 0 {
			t.Errorf("the first record is at offset %d", off)
		}
		WaitFor(t, "the group's offset to go with the topic", func() bool { return CommittedOffset(c, n("m5"), n("again")) == -1 })
	})
}

func TestM6(t *testing.T) {
	c, n := begin(t)
	self, other, twice := replicas()
	c.CreateTopic(n("t"), 2)
	req := func(topics ...kmsg.CreatePartitionsRequestTopic) *kmsg.CreatePartitionsRequest {
		r := kmsg.NewPtrCreatePartitionsRequest()
		r.Version, r.TimeoutMillis, r.Topics = 3, 10_000, topics
		return r
	}
	topic := func(name string, count int32, replicas ...[]int32) kmsg.CreatePartitionsRequestTopic {
		out := kmsg.CreatePartitionsRequestTopic{Topic: name, Count: count}
		for _, r := range replicas {
			out.Assignment = append(out.Assignment, kmsg.CreatePartitionsRequestTopicAssignment{Replicas: r})
		}
		return out
	}
	for _, tc := range []struct {
		name  string
		topic kmsg.CreatePartitionsRequestTopic
		want  protocol.ErrorCode
	}{
		{"M6 equal", topic(n("t"), 2), protocol.CodeInvalidPartitions},
		{"M6 fewer", topic(n("t"), 1), protocol.CodeInvalidPartitions},
		{"M6 negative", topic(n("t"), -1), protocol.CodeInvalidPartitions},
		{"M6 unknown topic", topic(n("nope"), 2), protocol.CodeUnknownTopicOrPartition},
		{"M6 too few assignments", topic(n("t"), 4, self), protocol.CodeInvalidReplicaAssignment},
		{"M6 unknown broker", topic(n("t"), 3, other), protocol.CodeInvalidReplicaAssignment},
		{"M6 broker twice", topic(n("t"), 3, twice), protocol.CodeInvalidReplicaAssignment},
		{"M6 assignment", topic(n("t"), 3, self), protocol.CodeNone},
		{"M6 more", topic(n("t"), 5), protocol.CodeNone},
	} {
		t.Run(tc.name, func(t *testing.T) {
			validate := req(tc.topic)
			validate.ValidateOnly = true
			WantCode(t, "validate only", Ask[*kmsg.CreatePartitionsResponse](c, validate).Topics[0].ErrorCode, tc.want)
			WantCode(t, "for real", Ask[*kmsg.CreatePartitionsResponse](c, req(tc.topic)).Topics[0].ErrorCode, tc.want)
		})
	}
	t.Run("M6 twice", func(t *testing.T) {
		resp := Ask[*kmsg.CreatePartitionsResponse](c, req(topic(n("t"), 8), topic(n("t"), 9)))
		for _, r := range resp.Topics {
			WantCode(t, "twice", r.ErrorCode, protocol.CodeInvalidRequest)
		}
	})
	t.Run("M6 new partitions take records at once", func(t *testing.T) {
		c.Settle(n("t"), 5)
		if got := len(Ask[*kmsg.MetadataResponse](c, MetadataRequest(12, n("t"))).Topics[0].Partitions); got != 5 {
			t.Fatalf("%d partitions", got)
		}
		WantCode(t, "produce", c.Produce(n("t"), 4, BatchOf("a")).ErrorCode, protocol.CodeNone)
		WantCode(t, "beyond", c.Produce(n("t"), 5, BatchOf("a")).ErrorCode, protocol.CodeUnknownTopicOrPartition)
	})
}

func TestM7(t *testing.T) {
	c, n := begin(t)
	c.CreateTopic(n("t"), 1)
	c.CreateTopic(n("compact"), 1, "cleanup.policy", "compact")
	c.CreateTopic(n("both"), 1, "cleanup.policy", "compact,delete")
	c.CreateTopic(n("neither"), 1, "cleanup.policy", "")
	Committed(c, n("m7"), n("t"), 0)
	for range 3 {
		c.Produce(n("t"), 0, BatchOf("a", "b", "c"))
	}
	for _, tc := range []struct {
		name   string
		topic  string
		part   int32
		offset int64
		want   protocol.ErrorCode
		low    int64
	}{
		{"M7 unknown topic", n("nope"), 0, 0, protocol.CodeUnknownTopicOrPartition, -1},
		{"M7 unknown partition", n("t"), 7, 0, protocol.CodeUnknownTopicOrPartition, -1},
		{"M7 above the high watermark", n("t"), 0, 10, protocol.CodeOffsetOutOfRange, -1},
		{"M7 -2", n("t"), 0, -2, protocol.CodeOffsetOutOfRange, -1},
		{"M7 compact", n("compact"), 0, 0, protocol.CodePolicyViolation, -1},
		{"M7 compact and delete", n("both"), 0, 0, protocol.CodeNone, 0},
		{"M7 no policy", n("neither"), 0, 0, protocol.CodeNone, 0},
		{"M7 internal", OffsetsTopic, 0, 0, protocol.CodeInvalidTopicException, -1},
		{"M7 within a batch", n("t"), 0, 4, protocol.CodeNone, 4},
		{"M7 C8 below the log start, which never goes back", n("t"), 0, 2, protocol.CodeNone, 4},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := DeletedRecords(c, tc.topic, tc.part, tc.offset)
			WantCode(t, "delete records", got.ErrorCode, tc.want)
			if got.LowWatermark != tc.low {
				t.Errorf("low watermark %d, want %d", got.LowWatermark, tc.low)
			}
		})
	}
	startsAt := func(t *testing.T, c *Client, want int64) {
		t.Helper()
		if got := Listed(c, ListRequest(n("t"), 0, EarliestOffset)).Offset; got != want {
			t.Errorf("earliest offset %d, want %d", got, want)
		}
		p := Fetched(c, FetchRequest(12, n("t"), protocol.TopicID{}, 0, want-1))
		WantCode(t, "fetch below", p.ErrorCode, protocol.CodeOffsetOutOfRange)
		p = Fetched(c, FetchRequest(12, n("t"), protocol.TopicID{}, 0, want))
		if p.ErrorCode != 0 || p.LogStartOffset != want {
			t.Errorf("fetch at the start: code %d, log start %d", p.ErrorCode, p.LogStartOffset)
		}
	}
	t.Run("M7 exact, and the batch around it is fetched", func(t *testing.T) {
		startsAt(t, c, 4)
		p := Fetched(c, FetchRequest(12, n("t"), protocol.TopicID{}, 0, 4))
		if got := BatchesOf(t, p.RecordBatches); len(got) == 0 || got[0].BaseOffset() != 3 {
			t.Errorf("%d batches", len(got))
		}
		if p := c.Produce(n("t"), 0, BatchOf("d")); p.LogStartOffset != 4 {
			t.Errorf("produce says log start %d", p.LogStartOffset)
		}
	})
	t.Run("M7 C7 -1 is the high watermark", func(t *testing.T) {
		if got := DeletedRecords(c, n("t"), 0, -1); got.ErrorCode != 0 || got.LowWatermark != 10 {
			t.Errorf("code %d, low watermark %d", got.ErrorCode, got.LowWatermark)
		}
		startsAt(t, c, 10)
		if off := c.Produce(n("t"), 0, BatchOf("e")).BaseOffset; off != 10 {
			t.Errorf("C7: the next record is at %d, want 10", off)
		}
	})
}
