package conformance

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/protocol"
)

func TestL1L2L3(t *testing.T) {
	c, n := begin(t)
	c.CreateTopic(n("t"), 1)
	c.CreateTopic(n("empty"), 1)
	c.CreateTopic(n("now"), 1, "message.timestamp.type", "LogAppendTime")
	c.Produce(n("t"), 0, BatchAt(100, 300, 200))
	c.Produce(n("t"), 0, BatchAt(50, 300, 400, 400))
	c.Produce(n("t"), 0, BatchAt(250))
	stamp := c.Produce(n("now"), 0, BatchAt(100, 200)).LogAppendTime
	DeletedRecords(c, n("t"), 0, 1)
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
		{"L1 latest", n("t"), -1, 11, 0, 8, -1, 0},
		{"L1 latest of an empty log", n("empty"), -1, 11, 0, 0, -1, 0},
		{"L1 earliest", n("t"), -2, 11, 0, 1, -1, 0},
		{"L1 earliest of an empty log", n("empty"), -2, 11, 0, 0, -1, 0},
		{"L1 maximum timestamp is its first record", n("t"), -3, 11, 0, 5, 400, 0},
		{"L1 maximum timestamp of an empty log", n("empty"), -3, 11, 0, -1, -1, -1},
		{"L1 maximum timestamp before v7", n("t"), -3, 6, protocol.CodeUnsupportedVersion, -1, -1, -1},
		{"L1 earliest local", n("t"), -4, 8, 0, 1, -1, 0},
		{"L1 earliest local before v8", n("t"), -4, 7, protocol.CodeUnsupportedVersion, -1, -1, -1},
		{"L1 latest tiered", n("t"), -5, 9, 0, -1, -1, -1},
		{"L1 latest tiered before v9", n("t"), -5, 8, protocol.CodeUnsupportedVersion, -1, -1, -1},
		{"L1 earliest pending upload", n("t"), -6, 11, 0, -1, -1, -1},
		{"L1 earliest pending upload before v11", n("t"), -6, 10, protocol.CodeUnsupportedVersion, -1, -1, -1},
		{"L1 unknown position", n("t"), -7, 11, protocol.CodeUnsupportedVersion, -1, -1, -1},
		{"L2 a record, not its batch", n("t"), 150, 11, 0, 1, 300, 0},
		{"L2 exact", n("t"), 400, 11, 0, 5, 400, 0},
		{"L2 in offset order", n("t"), 250, 11, 0, 1, 300, 0},
		{"L2 past the end", n("t"), 401, 11, 0, -1, -1, -1},
		{"L2 zero", n("t"), 0, 11, 0, 1, 300, 0},
		{"L2 in an empty log", n("empty"), 0, 11, 0, -1, -1, -1},
		{"L2 log append time is every record's", n("now"), 150, 11, 0, 0, stamp, 0},
		{"L2 no topic", n("nope"), 0, 11, protocol.CodeUnknownTopicOrPartition, -1, -1, -1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			req := ListRequest(tc.topic, 0, tc.at)
			req.Version = tc.version
			got := Listed(c, req)
			WantCode(t, "list offsets", got.ErrorCode, tc.want)
			if got.Offset != tc.offset || got.Timestamp != tc.ts || got.LeaderEpoch != tc.epoch {
				t.Errorf("offset %d, timestamp %d, epoch %d, want %d, %d, %d", got.Offset, got.Timestamp, got.LeaderEpoch, tc.offset, tc.ts, tc.epoch)
			}
		})
	}
	t.Run("L1 read committed", func(t *testing.T) {
		req := ListRequest(n("t"), 0, LatestOffset)
		req.IsolationLevel = 1
		if got := Listed(c, req).Offset; got != 8 {
			t.Errorf("last stable offset %d", got)
		}
		req.IsolationLevel = 2
		WantCode(t, "3.13 isolation level 2", Listed(c, req).ErrorCode, protocol.CodeUnknownServerError)
	})
	t.Run("L3 duplicates", func(t *testing.T) {
		req := ListRequest(n("t"), 0, LatestOffset)
		req.Topics = append(req.Topics, ListRequest(n("t"), 0, EarliestOffset).Topics...)
		req.Topics = append(req.Topics, ListRequest(n("empty"), 0, EarliestOffset).Topics...)
		for _, topic := range Ask[*kmsg.ListOffsetsResponse](c, req).Topics {
			want := protocol.CodeInvalidRequest
			if topic.Topic == n("empty") {
				want = protocol.CodeNone
			}
			for _, p := range topic.Partitions {
				WantCode(t, topic.Topic, p.ErrorCode, want)
			}
		}
	})
	t.Run("F10 leader epochs", func(t *testing.T) {
		req := ListRequest(n("t"), 0, LatestOffset)
		req.Topics[0].Partitions[0].CurrentLeaderEpoch = 1
		WantCode(t, "from the future", Listed(c, req).ErrorCode, protocol.CodeUnknownLeaderEpoch)
		req.Topics[0].Partitions[0].CurrentLeaderEpoch = 0
		WantCode(t, "the present", Listed(c, req).ErrorCode, protocol.CodeNone)
	})
}

type epochCase struct {
	name           string
	epoch, current int32
	want           protocol.ErrorCode
	found          int32
	end            int64
}

func checkEpochs(t *testing.T, c *Client, topic string, cases []epochCase) {
	t.Helper()
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			got := Ask[*kmsg.OffsetForLeaderEpochResponse](c, EpochRequest(4, topic, 0, tc.epoch, tc.current)).Topics[0].Partitions[0]
			WantCode(t, "epoch end", got.ErrorCode, tc.want)
			if got.LeaderEpoch != tc.found || got.EndOffset != tc.end {
				t.Errorf("epoch %d ends at %d, want %d at %d", got.LeaderEpoch, got.EndOffset, tc.found, tc.end)
			}
		})
	}
}

// TestE2: a log in its first epoch, as Apache Kafka answers too.
func TestE2(t *testing.T) {
	c, n := begin(t)
	c.CreateTopic(n("t"), 1)
	c.Produce(n("t"), 0, BatchOf("a", "b"))
	checkEpochs(t, c, n("t"), []epochCase{
		{"E2 the present epoch ends at the log's end", 0, -1, 0, 0, 2},
		{"E2 an epoch to come", 5, -1, 0, -1, -1},
		{"E2 an epoch before all", -1, -1, 0, -1, -1},
		{"F10 right belief", 0, 0, 0, 0, 2},
		{"F10 belief from the future", 0, 3, protocol.CodeUnknownLeaderEpoch, -1, -1},
	})
	WantCode(t, "unknown topic", Ask[*kmsg.OffsetForLeaderEpochResponse](c, EpochRequest(4, n("nope"), 0, 0, -1)).Topics[0].Partitions[0].ErrorCode, protocol.CodeUnknownTopicOrPartition)
}
