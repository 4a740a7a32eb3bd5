package broker

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/protocol"
)

func createSpec(name string, partitions int32, configs ...string) kmsg.CreateTopicsRequestTopic {
	t := kmsg.NewCreateTopicsRequestTopic()
	t.Topic, t.NumPartitions, t.ReplicationFactor = name, partitions, 1
	for i := 0; i < len(configs); i += 2 {
		cfg := kmsg.NewCreateTopicsRequestTopicConfig()
		cfg.Name, cfg.Value = configs[i], &configs[i+1]
		t.Configs = append(t.Configs, cfg)
	}
	return t
}

func createRequest(version int16, topics ...kmsg.CreateTopicsRequestTopic) *kmsg.CreateTopicsRequest {
	req := kmsg.NewPtrCreateTopicsRequest()
	req.Version, req.TimeoutMillis, req.Topics = version, 10_000, topics
	return req
}

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

func deleteRequest(version int16, names ...string) *kmsg.DeleteTopicsRequest {
	req := kmsg.NewPtrDeleteTopicsRequest()
	req.Version, req.TimeoutMillis, req.TopicNames = version, 10_000, names
	for _, name := range names {
		req.Topics = append(req.Topics, kmsg.DeleteTopicsRequestTopic{Topic: &name})
	}
	return req
}

func deleteRecordsRequest(topic string, partition int32, offset int64) *kmsg.DeleteRecordsRequest {
	req := kmsg.NewPtrDeleteRecordsRequest()
	req.Version, req.TimeoutMillis = 2, 10_000
	req.Topics = []kmsg.DeleteRecordsRequestTopic{{
		Topic:      topic,
		Partitions: []kmsg.DeleteRecordsRequestTopicPartition{{Partition: partition, Offset: offset}},
	}}
	return req
}

func deletedRecords(c *rawClient, topic string, partition int32, offset int64) kmsg.DeleteRecordsResponseTopicPartition {
	c.t.Helper()
	return ask[*kmsg.DeleteRecordsResponse](c, deleteRecordsRequest(topic, partition, offset)).Topics[0].Partitions[0]
}

// TestM4Rules: what CreateTopics refuses, topic by topic, and what it answers.
func TestM4Rules(t *testing.T) {
	b := serve(t)
	c := dial(t, b.kafka)
	c.createTopic("taken", 1)
	c.createTopic("with.dot", 1)
	for _, tc := range []struct {
		name  string
		topic kmsg.CreateTopicsRequestTopic
		want  protocol.ErrorCode
	}{
		{"M4 exists", createSpec("taken", 1), protocol.CodeTopicAlreadyExists},
		{"M3 empty name", createSpec("", 1), protocol.CodeInvalidTopicException},
		{"M3 dot", createSpec(".", 1), protocol.CodeInvalidTopicException},
		{"M3 two dots", createSpec("..", 1), protocol.CodeInvalidTopicException},
		{"M3 bad letter", createSpec("a b", 1), protocol.CodeInvalidTopicException},
		{"M3 not ASCII", createSpec("thé", 1), protocol.CodeInvalidTopicException},
		{"M3 250 letters", createSpec(strings.Repeat("x", 250), 1), protocol.CodeInvalidTopicException},
		{"M3 249 letters", createSpec(strings.Repeat("x", 249), 1), protocol.CodeNone},
		{"M3 collides", createSpec("with_dot", 1), protocol.CodeInvalidTopicException},
		{"M3 underscores first", createSpec("__mine", 1), protocol.CodeNone},
		{"M4 no partitions", createSpec("t1", 0), protocol.CodeInvalidPartitions},
		{"M4 -2 partitions", createSpec("t2", -2), protocol.CodeInvalidPartitions},
		{"M4 -1 partitions", createSpec("t3", -1), protocol.CodeNone},
		{"M4 replication factor 0", with(createSpec("t4", 1), func(t *kmsg.CreateTopicsRequestTopic) { t.ReplicationFactor = 0 }), protocol.CodeInvalidReplicationFactor},
		{"M4 replication factor -2", with(createSpec("t5", 1), func(t *kmsg.CreateTopicsRequestTopic) { t.ReplicationFactor = -2 }), protocol.CodeInvalidReplicationFactor},
		{"M4 replication factor -1", with(createSpec("t6", 1), func(t *kmsg.CreateTopicsRequestTopic) { t.ReplicationFactor = -1 }), protocol.CodeNone},
		{"M4 assignment and partitions", with(assigned(createSpec("t7", 1), []int32{0}, []int32{1}), func(t *kmsg.CreateTopicsRequestTopic) { t.NumPartitions = 1 }), protocol.CodeInvalidRequest},
		{"M4 assignment and factor", with(assigned(createSpec("t8", 1), []int32{0}, []int32{1}), func(t *kmsg.CreateTopicsRequestTopic) { t.ReplicationFactor = 1 }), protocol.CodeInvalidRequest},
		{"M4 assignment from 1 on", assigned(createSpec("t9", 1), []int32{1}, []int32{1}), protocol.CodeInvalidReplicaAssignment},
		{"M4 partition assigned twice", assigned(createSpec("t10", 1), []int32{0, 0}, []int32{1}, []int32{1}), protocol.CodeInvalidReplicaAssignment},
		{"M4 broker twice", assigned(createSpec("t11", 1), []int32{0}, []int32{1, 1}), protocol.CodeInvalidReplicaAssignment},
		{"M4 no brokers", assigned(createSpec("t12", 1), []int32{0}, []int32{}), protocol.CodeInvalidReplicaAssignment},
		{"M4 unknown broker", assigned(createSpec("t13", 1), []int32{0}, []int32{9}), protocol.CodeInvalidReplicaAssignment},
		{"M4 assignment", assigned(createSpec("t14", 1), []int32{1, 0}, []int32{1}, []int32{1}), protocol.CodeNone},
		{"M4 unknown config", createSpec("t15", 1, "retention.mss", "1"), protocol.CodeInvalidConfig},
		{"M4 bad config", createSpec("t16", 1, "retention.ms", "soon"), protocol.CodeInvalidConfig},
		{"M4 null config", with(createSpec("t17", 1, "retention.ms", "1"), func(t *kmsg.CreateTopicsRequestTopic) { t.Configs[0].Value = nil }), protocol.CodeInvalidConfig},
		{"M4 the same config twice", createSpec("t18", 1, "retention.ms", "1", "retention.ms", "2"), protocol.CodeNone},
		{"M9 compaction lags crossed", createSpec("t19", 1, "min.compaction.lag.ms", "2", "max.compaction.lag.ms", "1"), protocol.CodeInvalidConfig},
		{"M8 empty cleanup policy", createSpec("t20", 1, "cleanup.policy", ""), protocol.CodeNone},
		{"M8 GZIP in capitals", createSpec("t21", 1, "compression.type", "GZIP"), protocol.CodeInvalidConfig},
		{"M8 retention.bytes -2", createSpec("t22", 1, "retention.bytes", "-2"), protocol.CodeNone},
		{"M8 cleanup policy with a hole", createSpec("t23", 1, "cleanup.policy", "compact,,delete"), protocol.CodeInvalidConfig},
		{"M8 message.format.version", createSpec("t24", 1, "message.format.version", "2.0"), protocol.CodeInvalidConfig},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for _, validate := range []bool{true, false} {
				req := createRequest(7, tc.topic)
				req.ValidateOnly = validate
				got := ask[*kmsg.CreateTopicsResponse](c, req).Topics[0]
				wantCode(t, fmt.Sprintf("validate only %v", validate), got.ErrorCode, tc.want)
				if failed := tc.want != protocol.CodeNone; failed && (got.ErrorMessage == nil || got.NumPartitions != -1 || got.ReplicationFactor != -1) {
					t.Errorf("refused with message %v, %d partitions, factor %d", got.ErrorMessage, got.NumPartitions, got.ReplicationFactor)
				}
				if validate && oracle == "" && got.TopicID != [16]byte{} {
					t.Error("a topic that was only validated has an id")
				}
			}
		})
	}
	t.Run("M4 duplicates beside a good one", func(t *testing.T) {
		resp := ask[*kmsg.CreateTopicsResponse](c, createRequest(7, createSpec("twice", 1), createSpec("once", 1), createSpec("twice", 1)))
		got := map[string]protocol.ErrorCode{}
		for _, topic := range resp.Topics {
			got[topic.Topic] = protocol.ErrorCode(topic.ErrorCode)
		}
		want := map[string]protocol.ErrorCode{"twice": protocol.CodeInvalidRequest, "once": protocol.CodeNone}
		if diff := cmp.Diff(want, got); diff != "" || len(resp.Topics) != 2 {
			t.Errorf("%d answers: %s", len(resp.Topics), diff)
		}
	})
	t.Run("M4 more than 10,000 partitions", func(t *testing.T) {
		resp := ask[*kmsg.CreateTopicsResponse](c, createRequest(7, createSpec("wide", 6000), createSpec("wider", 6000)))
		for _, topic := range resp.Topics {
			wantCode(t, topic.Topic, topic.ErrorCode, protocol.CodePolicyViolation)
		}
	})
	t.Run("M4 every version takes -1", func(t *testing.T) {
		for version := int16(2); version <= 7; version++ {
			topic := createSpec(fmt.Sprintf("defaults-%d", version), -1)
			topic.ReplicationFactor = -1
			wantCode(t, topic.Topic, ask[*kmsg.CreateTopicsResponse](c, createRequest(version, topic)).Topics[0].ErrorCode, protocol.CodeNone)
		}
	})
	t.Run("M4 the answer echoes", func(t *testing.T) {
		got := ask[*kmsg.CreateTopicsResponse](c, createRequest(7, createSpec("echo", 3, "retention.ms", "+5000", "preallocate", "TRUE"))).Topics[0]
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

// Test205ReplicationFactor: 2.0.5, Connect's default of 3 works on one broker, which lists itself alone.
func Test205ReplicationFactor(t *testing.T) {
	b := serve(t)
	skipOracle(t, "Kafka answers INVALID_REPLICATION_FACTOR")
	c := dial(t, b.kafka)
	topic := with(createSpec("three", 2), func(t *kmsg.CreateTopicsRequestTopic) { t.ReplicationFactor = 3 })
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
	assignment := assigned(createSpec("assigned-to-many", 1), []int32{0}, []int32{1, 2, 3})
	wantCode(t, "unknown brokers", ask[*kmsg.CreateTopicsResponse](c, createRequest(7, assignment)).Topics[0].ErrorCode, protocol.CodeInvalidReplicaAssignment)
}

// TestM5Rules: DeleteTopics by name and id, and what a topic created again must not see.
func TestM5Rules(t *testing.T) {
	b := serve(t)
	c := dial(t, b.kafka)
	byID := func(ids ...protocol.TopicID) *kmsg.DeleteTopicsRequest {
		req := deleteRequest(6)
		for _, id := range ids {
			req.Topics = append(req.Topics, kmsg.DeleteTopicsRequestTopic{TopicID: id})
		}
		return req
	}
	codes := func(req *kmsg.DeleteTopicsRequest) []protocol.ErrorCode {
		var out []protocol.ErrorCode
		for _, topic := range ask[*kmsg.DeleteTopicsResponse](c, req).Topics {
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
		id := c.createTopic("by-id", 1)
		resp := ask[*kmsg.DeleteTopicsResponse](c, byID(id)).Topics[0]
		if resp.ErrorCode != 0 || resp.Topic == nil || *resp.Topic != "by-id" || resp.TopicID != id {
			t.Errorf("code %d, name %v, id %x", resp.ErrorCode, resp.Topic, resp.TopicID)
		}
		check(t, byID(id), protocol.CodeUnknownTopicID)
	})
	t.Run("M5 by name, and again", func(t *testing.T) {
		c.createTopic("by-name", 1)
		check(t, deleteRequest(6, "by-name"), protocol.CodeNone)
		check(t, deleteRequest(6, "by-name"), protocol.CodeUnknownTopicOrPartition)
		check(t, deleteRequest(3, "by-name"), protocol.CodeUnknownTopicOrPartition)
	})
	t.Run("M5 twice in one request", func(t *testing.T) {
		id := c.createTopic("twice", 1)
		for _, req := range []*kmsg.DeleteTopicsRequest{
			deleteRequest(6, "twice", "twice"), byID(id, id),
			func() *kmsg.DeleteTopicsRequest {
				req := byID(id)
				req.Topics = append(req.Topics, deleteRequest(6, "twice").Topics...)
				return req
			}(),
		} {
			got := codes(req)
			if len(got) == 0 {
				t.Error("no answer")
			}
			for _, code := range got {
				wantCode(t, "twice", int16(code), protocol.CodeInvalidRequest)
			}
		}
		check(t, deleteRequest(6, "twice"), protocol.CodeNone)
	})
	t.Run("M5 name and id, and neither", func(t *testing.T) {
		id := c.createTopic("both", 1)
		req := byID(id)
		req.Topics[0].Topic = kmsg.StringPtr("both")
		check(t, req, protocol.CodeInvalidRequest)
		check(t, byID(protocol.TopicID{}), protocol.CodeInvalidRequest)
	})
	t.Run("M5 a topic created again is empty", func(t *testing.T) {
		old := c.createTopic("again", 1)
		c.produce("again", 0, batchOf("a", "b", "c"))
		commit := committed(c, "m5", "again", 3)
		wantCode(t, "commit", commit, protocol.CodeNone)
		check(t, deleteRequest(6, "again"), protocol.CodeNone)
		wantCode(t, "produce to the deleted", c.produce("again", 0, batchOf("x")).ErrorCode, protocol.CodeUnknownTopicOrPartition)
		wantCode(t, "fetch the deleted by id", fetched(c, fetchRequest(13, "", old, 0, 0)).ErrorCode, protocol.CodeUnknownTopicID)
		id := c.createTopic("again", 1)
		if id == old {
			t.Error("the topic has its old id")
		}
		p := fetched(c, fetchRequest(13, "", id, 0, 0))
		if p.ErrorCode != 0 || p.HighWatermark != 0 || len(p.RecordBatches) != 0 {
			t.Errorf("code %d, high watermark %d, %d bytes", p.ErrorCode, p.HighWatermark, len(p.RecordBatches))
		}
		wantCode(t, "F13 fetch by the old id", fetched(c, fetchRequest(13, "", old, 0, 0)).ErrorCode, protocol.CodeUnknownTopicID)
		if off := c.produce("again", 0, batchOf("new")).BaseOffset; off != 0 {
			t.Errorf("the first record is at offset %d", off)
		}
		waitFor(t, "the group's offset to go with the topic", func() bool { return committedOffset(c, "m5", "again") == -1 })
	})
}

// committed commits an offset of partition 0 for a group without members.
func committed(c *rawClient, group, topic string, offset int64) int16 {
	c.t.Helper()
	find := kmsg.NewPtrFindCoordinatorRequest()
	find.Version, find.CoordinatorKeys = 4, []string{group}
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Version, req.Group, req.Generation = 8, group, -1
	p := kmsg.NewOffsetCommitRequestTopicPartition()
	p.Offset = offset
	req.Topics = []kmsg.OffsetCommitRequestTopic{{Topic: topic, Partitions: []kmsg.OffsetCommitRequestTopicPartition{p}}}
	var code int16
	waitFor(c.t, "the group's coordinator", func() bool {
		ask[*kmsg.FindCoordinatorResponse](c, find)
		code = ask[*kmsg.OffsetCommitResponse](c, req).Topics[0].Partitions[0].ErrorCode
		return code < int16(protocol.CodeCoordinatorLoadInProgress) || code > int16(protocol.CodeNotCoordinator)
	})
	return code
}

func committedOffset(c *rawClient, group, topic string) int64 {
	c.t.Helper()
	req := kmsg.NewPtrOffsetFetchRequest()
	req.Version, req.Group = 7, group
	req.Topics = []kmsg.OffsetFetchRequestTopic{{Topic: topic, Partitions: []int32{0}}}
	return ask[*kmsg.OffsetFetchResponse](c, req).Topics[0].Partitions[0].Offset
}

func TestM6Rules(t *testing.T) {
	b := serve(t)
	c := dial(t, b.kafka)
	c.createTopic("t", 2)
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
		{"M6 equal", topic("t", 2), protocol.CodeInvalidPartitions},
		{"M6 fewer", topic("t", 1), protocol.CodeInvalidPartitions},
		{"M6 negative", topic("t", -1), protocol.CodeInvalidPartitions},
		{"M6 unknown topic", topic("nope", 2), protocol.CodeUnknownTopicOrPartition},
		{"M6 too few assignments", topic("t", 4, []int32{1}), protocol.CodeInvalidReplicaAssignment},
		{"M6 unknown broker", topic("t", 3, []int32{9}), protocol.CodeInvalidReplicaAssignment},
		{"M6 broker twice", topic("t", 3, []int32{1, 1}), protocol.CodeInvalidReplicaAssignment},
		{"M6 assignment", topic("t", 3, []int32{1}), protocol.CodeNone},
		{"M6 more", topic("t", 5), protocol.CodeNone},
	} {
		t.Run(tc.name, func(t *testing.T) {
			validate := req(tc.topic)
			validate.ValidateOnly = true
			wantCode(t, "validate only", ask[*kmsg.CreatePartitionsResponse](c, validate).Topics[0].ErrorCode, tc.want)
			wantCode(t, "for real", ask[*kmsg.CreatePartitionsResponse](c, req(tc.topic)).Topics[0].ErrorCode, tc.want)
		})
	}
	t.Run("M6 twice", func(t *testing.T) {
		resp := ask[*kmsg.CreatePartitionsResponse](c, req(topic("t", 8), topic("t", 9)))
		for _, r := range resp.Topics {
			wantCode(t, "twice", r.ErrorCode, protocol.CodeInvalidRequest)
		}
	})
	t.Run("M6 new partitions take records at once", func(t *testing.T) {
		c.settle("t", 5)
		if n := len(ask[*kmsg.MetadataResponse](c, metadataRequest(12, "t")).Topics[0].Partitions); n != 5 {
			t.Fatalf("%d partitions", n)
		}
		wantCode(t, "produce", c.produce("t", 4, batchOf("a")).ErrorCode, protocol.CodeNone)
		wantCode(t, "beyond", c.produce("t", 5, batchOf("a")).ErrorCode, protocol.CodeUnknownTopicOrPartition)
	})
}

func TestM7Rules(t *testing.T) {
	b := serve(t)
	c := dial(t, b.kafka)
	c.createTopic("t", 1)
	c.createTopic("compact", 1, "cleanup.policy", "compact")
	c.createTopic("both", 1, "cleanup.policy", "compact,delete")
	c.createTopic("neither", 1, "cleanup.policy", "")
	committed(c, "m7", "t", 0)
	for range 3 {
		c.produce("t", 0, batchOf("a", "b", "c"))
	}
	for _, tc := range []struct {
		name   string
		topic  string
		part   int32
		offset int64
		want   protocol.ErrorCode
		low    int64
	}{
		{"M7 unknown topic", "nope", 0, 0, protocol.CodeUnknownTopicOrPartition, -1},
		{"M7 unknown partition", "t", 7, 0, protocol.CodeUnknownTopicOrPartition, -1},
		{"M7 above the high watermark", "t", 0, 10, protocol.CodeOffsetOutOfRange, -1},
		{"M7 -2", "t", 0, -2, protocol.CodeOffsetOutOfRange, -1},
		{"M7 compact", "compact", 0, 0, protocol.CodePolicyViolation, -1},
		{"M7 compact and delete", "both", 0, 0, protocol.CodeNone, 0},
		{"M7 no policy", "neither", 0, 0, protocol.CodeNone, 0},
		{"M7 internal", offsetsTopic, 0, 0, protocol.CodeInvalidTopicException, -1},
		{"M7 within a batch", "t", 0, 4, protocol.CodeNone, 4},
		{"M7 below the log start", "t", 0, 2, protocol.CodeNone, 4},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := deletedRecords(c, tc.topic, tc.part, tc.offset)
			wantCode(t, "delete records", got.ErrorCode, tc.want)
			if got.LowWatermark != tc.low {
				t.Errorf("low watermark %d, want %d", got.LowWatermark, tc.low)
			}
		})
	}
	startsAt := func(t *testing.T, c *rawClient, want int64) {
		t.Helper()
		if got := listed(c, listRequest("t", 0, earliestOffset)).Offset; got != want {
			t.Errorf("earliest offset %d, want %d", got, want)
		}
		p := fetched(c, fetchRequest(12, "t", protocol.TopicID{}, 0, want-1))
		wantCode(t, "fetch below", p.ErrorCode, protocol.CodeOffsetOutOfRange)
		p = fetched(c, fetchRequest(12, "t", protocol.TopicID{}, 0, want))
		if p.ErrorCode != 0 || p.LogStartOffset != want {
			t.Errorf("fetch at the start: code %d, log start %d", p.ErrorCode, p.LogStartOffset)
		}
	}
	t.Run("M7 exact, and the batch around it is fetched", func(t *testing.T) {
		startsAt(t, c, 4)
		p := fetched(c, fetchRequest(12, "t", protocol.TopicID{}, 0, 4))
		if got := batchesOf(t, p.RecordBatches); len(got) == 0 || got[0].BaseOffset() != 3 {
			t.Errorf("%d batches", len(got))
		}
		if p := c.produce("t", 0, batchOf("d")); p.LogStartOffset != 4 {
			t.Errorf("produce says log start %d", p.LogStartOffset)
		}
	})
	t.Run("M7 after a restart", func(t *testing.T) {
		b.restart(t)
		c = dial(b.t, b.kafka)
		startsAt(t, c, 4)
	})
	t.Run("M7 -1 is the high watermark, also after a restart", func(t *testing.T) {
		if got := deletedRecords(c, "t", 0, -1); got.ErrorCode != 0 || got.LowWatermark != 10 {
			t.Errorf("code %d, low watermark %d", got.ErrorCode, got.LowWatermark)
		}
		b.restart(t)
		c = dial(b.t, b.kafka)
		startsAt(t, c, 10)
		if off := c.produce("t", 0, batchOf("e")).BaseOffset; off != 10 {
			t.Errorf("C7: the next record is at %d, want 10", off)
		}
	})
}
