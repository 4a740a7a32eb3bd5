package broker

import (
	"context"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/protocol/record"
)

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

// TestE1E2E3AcrossRestarts: every start of the broker is a new leader epoch. Epochs only grow, batches carry the one they
// were written in, and no consumer's position is behind the end of its epoch.
func TestE1E2E3AcrossRestarts(t *testing.T) {
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

// TestD11LookupsUnpackWithProduces: a lookup by time takes its turn to unpack among the produces.
func TestD11LookupsUnpackWithProduces(t *testing.T) {
	b := startBroker(t)
	c := dial(t, b.kafka)
	id := protocol.PartitionID{Topic: c.createTopic("t", 1)}
	packed, err := record.Recompress(batchOf("a"), record.Zstd, 3, record.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	wantCode(t, "produce", c.produce("t", 0, packed).ErrorCode, protocol.CodeNone)
	l, _ := b.broker.logs.Get(id)
	impatient, cancel := context.WithCancel(context.Background())
	cancel()
	for range cap(unpacking) {
		unpacking <- struct{}{}
	}
	_, _, err = l.OffsetsForTime(impatient, 0)
	for range cap(unpacking) {
		<-unpacking
	}
	if !errors.Is(err, context.Canceled) {
		t.Errorf("a lookup while as many batches are unpacked as may be: %v", err)
	}
}

// TestLookupsByTimeAtOnce: those of one request do not wait for each other's reads.
func TestLookupsByTimeAtOnce(t *testing.T) {
	t.Parallel()
	const n = 8
	b, s := startOnReadStore(t)
	c := dial(t, b.kafka)
	c.createTopic("t", n)
	for i := range int32(n) {
		wantCode(t, "produce", c.produce("t", i, batchOf("x")).ErrorCode, protocol.CodeNone)
	}
	b.restart(t)
	c = dial(t, b.kafka)
	req := listRequest("t", 0, 0)
	one := req.Topics[0].Partitions[0]
	for i := 1; i < n; i++ {
		one.Partition = int32(i)
		req.Topics[0].Partitions = append(req.Topics[0].Partitions, one)
	}
	reopen, before := s.shut(), s.reads.Load()
	defer reopen()
	answered := make(chan *kmsg.ListOffsetsResponse, 1)
	go func() { answered <- ask[*kmsg.ListOffsetsResponse](c, req) }()
	waitFor(t, "reads for several partitions", func() bool { return s.reads.Load()-before > 1 })
	reopen()
	for _, p := range (<-answered).Topics[0].Partitions {
		if p.ErrorCode != 0 || p.Offset != 0 {
			t.Errorf("partition %d: code %d, offset %d", p.Partition, p.ErrorCode, p.Offset)
		}
	}
}
