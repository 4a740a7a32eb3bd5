package broker

import (
	"encoding/binary"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/protocol/record"
)

func listed(c *rawClient, req *kmsg.ListOffsetsRequest) kmsg.ListOffsetsResponseTopicPartition {
	c.t.Helper()
	return ask[*kmsg.ListOffsetsResponse](c, req).Topics[0].Partitions[0]
}

// batchAt makes a batch of records with the given timestamps.
func batchAt(timestamps ...int64) record.Batch {
	var b record.Builder
	for _, ts := range timestamps {
		b.Append(ts, nil, []byte("v"))
	}
	return b.Build()
}

func TestL1L2L3Rules(t *testing.T) {
	b := serve(t)
	c := dial(t, b.kafka)
	c.createTopic("t", 1)
	c.createTopic("empty", 1)
	c.createTopic("now", 1, "message.timestamp.type", "LogAppendTime")
	c.produce("t", 0, batchAt(100, 300, 200))
	c.produce("t", 0, batchAt(50, 300, 400, 400))
	c.produce("t", 0, batchAt(250))
	stamp := c.produce("now", 0, batchAt(100, 200)).LogAppendTime
	deletedRecords(c, "t", 0, 1)
	for _, tc := range []struct {
		name    string
		topic   string
		at      int64
		version int16
		want    protocol.ErrorCode
		offset  int64
		ts      int64
		epoch   int32
	}{
		{"L1 latest", "t", -1, 11, 0, 8, -1, 0},
		{"L1 latest of an empty log", "empty", -1, 11, 0, 0, -1, 0},
		{"L1 earliest", "t", -2, 11, 0, 1, -1, 0},
		{"L1 earliest of an empty log", "empty", -2, 11, 0, 0, -1, 0},
		{"L1 maximum timestamp is its first record", "t", -3, 11, 0, 5, 400, 0},
		{"L1 maximum timestamp of an empty log", "empty", -3, 11, 0, -1, -1, -1},
		{"L1 maximum timestamp before v7", "t", -3, 6, protocol.CodeUnsupportedVersion, -1, -1, -1},
		{"L1 earliest local", "t", -4, 8, 0, 1, -1, 0},
		{"L1 earliest local before v8", "t", -4, 7, protocol.CodeUnsupportedVersion, -1, -1, -1},
		{"L1 latest tiered", "t", -5, 9, 0, -1, -1, -1},
		{"L1 latest tiered before v9", "t", -5, 8, protocol.CodeUnsupportedVersion, -1, -1, -1},
		{"L1 earliest pending upload", "t", -6, 11, 0, -1, -1, -1},
		{"L1 earliest pending upload before v11", "t", -6, 10, protocol.CodeUnsupportedVersion, -1, -1, -1},
		{"L1 unknown position", "t", -7, 11, protocol.CodeUnsupportedVersion, -1, -1, -1},
		{"L2 a record, not its batch", "t", 150, 11, 0, 1, 300, 0},
		{"L2 exact", "t", 400, 11, 0, 5, 400, 0},
		{"L2 in offset order", "t", 250, 11, 0, 1, 300, 0},
		{"L2 past the end", "t", 401, 11, 0, -1, -1, -1},
		{"L2 zero", "t", 0, 11, 0, 1, 300, 0},
		{"L2 in an empty log", "empty", 0, 11, 0, -1, -1, -1},
		{"L2 log append time is every record's", "now", 150, 11, 0, 0, stamp, 0},
		{"L2 no topic", "nope", 0, 11, protocol.CodeUnknownTopicOrPartition, -1, -1, -1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			req := listRequest(tc.topic, 0, tc.at)
			req.Version = tc.version
			got := listed(c, req)
			wantCode(t, "list offsets", got.ErrorCode, tc.want)
			if got.Offset != tc.offset || got.Timestamp != tc.ts || got.LeaderEpoch != tc.epoch {
				t.Errorf("offset %d, timestamp %d, epoch %d, want %d, %d, %d", got.Offset, got.Timestamp, got.LeaderEpoch, tc.offset, tc.ts, tc.epoch)
			}
		})
	}
	t.Run("L1 read committed", func(t *testing.T) {
		req := listRequest("t", 0, latestOffset)
		req.IsolationLevel = 1
		if got := listed(c, req).Offset; got != 8 {
			t.Errorf("last stable offset %d", got)
		}
		req.IsolationLevel = 2
		wantCode(t, "3.13 isolation level 2", listed(c, req).ErrorCode, protocol.CodeUnknownServerError)
	})
	t.Run("L3 duplicates", func(t *testing.T) {
		req := listRequest("t", 0, latestOffset)
		req.Topics = append(req.Topics, listRequest("t", 0, earliestOffset).Topics...)
		req.Topics = append(req.Topics, listRequest("empty", 0, earliestOffset).Topics...)
		for _, topic := range ask[*kmsg.ListOffsetsResponse](c, req).Topics {
			want := protocol.CodeInvalidRequest
			if topic.Topic == "empty" {
				want = protocol.CodeNone
			}
			for _, p := range topic.Partitions {
				wantCode(t, topic.Topic, p.ErrorCode, want)
			}
		}
	})
	t.Run("F10 leader epochs", func(t *testing.T) {
		req := listRequest("t", 0, latestOffset)
		req.Topics[0].Partitions[0].CurrentLeaderEpoch = 1
		wantCode(t, "from the future", listed(c, req).ErrorCode, protocol.CodeUnknownLeaderEpoch)
		req.Topics[0].Partitions[0].CurrentLeaderEpoch = 0
		wantCode(t, "the present", listed(c, req).ErrorCode, protocol.CodeNone)
	})
}

func epochRequest(version int16, topic string, partition, epoch, current int32) *kmsg.OffsetForLeaderEpochRequest {
	req := kmsg.NewPtrOffsetForLeaderEpochRequest()
	req.Version, req.ReplicaID = version, -1
	p := kmsg.NewOffsetForLeaderEpochRequestTopicPartition()
	p.Partition, p.LeaderEpoch, p.CurrentLeaderEpoch = partition, epoch, current
	req.Topics = []kmsg.OffsetForLeaderEpochRequestTopic{{Topic: topic, Partitions: []kmsg.OffsetForLeaderEpochRequestTopicPartition{p}}}
	return req
}

type epochCase struct {
	name           string
	epoch, current int32
	want           protocol.ErrorCode
	found          int32
	end            int64
}

func checkEpochs(t *testing.T, c *rawClient, cases []epochCase) {
	t.Helper()
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			got := ask[*kmsg.OffsetForLeaderEpochResponse](c, epochRequest(4, "t", 0, tc.epoch, tc.current)).Topics[0].Partitions[0]
			wantCode(t, "epoch end", got.ErrorCode, tc.want)
			if got.LeaderEpoch != tc.found || got.EndOffset != tc.end {
				t.Errorf("epoch %d ends at %d, want %d at %d", got.LeaderEpoch, got.EndOffset, tc.found, tc.end)
			}
		})
	}
}

// TestE2Rules: a log in its first epoch, as Apache Kafka answers too.
func TestE2Rules(t *testing.T) {
	b := serve(t)
	c := dial(t, b.kafka)
	c.createTopic("t", 1)
	c.produce("t", 0, batchOf("a", "b"))
	checkEpochs(t, c, []epochCase{
		{"E2 the present epoch ends at the log's end", 0, -1, 0, 0, 2},
		{"E2 an epoch to come", 5, -1, 0, -1, -1},
		{"E2 an epoch before all", -1, -1, 0, -1, -1},
		{"F10 right belief", 0, 0, 0, 0, 2},
		{"F10 belief from the future", 0, 3, protocol.CodeUnknownLeaderEpoch, -1, -1},
	})
	wantCode(t, "unknown topic", ask[*kmsg.OffsetForLeaderEpochResponse](c, epochRequest(4, "nope", 0, 0, -1)).Topics[0].Partitions[0].ErrorCode, protocol.CodeUnknownTopicOrPartition)
}

// TestE1E2E3AcrossRestarts: every start of the broker is a new leader epoch. Epochs only grow, batches carry the one they
// were written in, and no consumer's position is behind the end of its epoch.
func TestE1E2E3AcrossRestarts(t *testing.T) {
	skipOracle(t, "it restarts the broker")
	b := startBroker(t)
	dial(t, b.kafka).createTopic("t", 1)
	var c *rawClient
	leaderEpoch := func() int32 {
		return ask[*kmsg.MetadataResponse](c, metadataRequest(12, "t")).Topics[0].Partitions[0].LeaderEpoch
	}
	for epoch := range int32(3) {
		if epoch > 0 {
			b.restart(t)
		}
		c = dial(t, b.kafka)
		if got := leaderEpoch(); got != epoch {
			t.Fatalf("E1: leader epoch %d after %d restarts", got, epoch)
		}
		c.produce("t", 0, batchOf("a", "b", "c")) // epoch n has offsets 3n to 3n+2
	}
	p := fetched(c, fetchRequest(12, "t", protocol.TopicID{}, 0, 0))
	for i, batch := range batchesOf(t, p.RecordBatches) {
		if got := int32(binary.BigEndian.Uint32(batch[12:])); got != int32(i) {
			t.Errorf("E3: batch %d has leader epoch %d", i, got)
		}
	}
	checkEpochs(t, c, []epochCase{
		{"E2 epoch 0", 0, 2, 0, 0, 3},
		{"E2 epoch 1", 1, 2, 0, 1, 6},
		{"E2 epoch 2", 2, 2, 0, 2, 9},
		{"E2 epoch 3", 3, 2, 0, -1, -1},
		{"F10 stale belief", 0, 1, protocol.CodeFencedLeaderEpoch, -1, -1},
		{"F10 belief from the future", 0, 3, protocol.CodeUnknownLeaderEpoch, -1, -1},
	})
	for at, want := range map[int64]int32{earliestOffset: 0, latestOffset: 2} {
		if got := listed(c, listRequest("t", 0, at)).LeaderEpoch; got != want {
			t.Errorf("L1: offset by %d has epoch %d, want %d", at, got, want)
		}
	}
	t.Run("F10 fetch", func(t *testing.T) {
		for belief, want := range map[int32]protocol.ErrorCode{
			-1: protocol.CodeNone, 0: protocol.CodeFencedLeaderEpoch, 1: protocol.CodeFencedLeaderEpoch, 2: protocol.CodeNone, 3: protocol.CodeUnknownLeaderEpoch,
		} {
			req := fetchRequest(12, "t", protocol.TopicID{}, 0, 0)
			req.Topics[0].Partitions[0].CurrentLeaderEpoch = belief
			p := fetched(c, req)
			wantCode(t, "fetch", p.ErrorCode, want)
			if want != protocol.CodeNone && len(p.RecordBatches) != 0 {
				t.Errorf("records beside an error")
			}
		}
	})
	t.Run("F11 last fetched epoch", func(t *testing.T) {
		for _, tc := range []struct {
			last   int32
			offset int64
			want   protocol.ErrorCode
			epoch  int32
			end    int64
		}{
			{0, 3, 0, -1, -1}, {0, 4, 0, 0, 3}, {1, 6, 0, -1, -1}, {1, 9, 0, 1, 6}, {2, 9, 0, -1, -1},
			{3, 9, protocol.CodeOffsetOutOfRange, -1, -1},
		} {
			req := fetchRequest(12, "t", protocol.TopicID{}, 0, tc.offset)
			req.Topics[0].Partitions[0].LastFetchedEpoch = tc.last
			p := fetched(c, req)
			wantCode(t, "fetch", p.ErrorCode, tc.want)
			if p.DivergingEpoch.Epoch != tc.epoch || p.DivergingEpoch.EndOffset != tc.end {
				t.Errorf("last epoch %d at %d diverges at %d/%d, want %d/%d", tc.last, tc.offset, p.DivergingEpoch.Epoch, p.DivergingEpoch.EndOffset, tc.epoch, tc.end)
			}
		}
	})
}
