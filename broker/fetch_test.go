package broker

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/protocol"
)

// TestF1UnknownTopicIsAnsweredAtOnce: Kafka waits when only other partitions can be read; here nobody waits beside an error.
func TestF1UnknownTopicIsAnsweredAtOnce(t *testing.T) {
	b := startBroker(t)
	c := dial(t, b.kafka)
	c.createTopic("empty", 1)
	req := fetchRequest(12, "empty", protocol.TopicID{}, 0, 0)
	req.Topics = append(req.Topics, fetchRequest(12, "nope", protocol.TopicID{}, 0, 0).Topics...)
	req.MaxWaitMillis, req.MinBytes = 60_000, 1
	start := time.Now()
	ask[*kmsg.FetchResponse](c, req)
	if took := time.Since(start); took > 30*time.Second {
		t.Errorf("answered after %v", took)
	}
}

// TestF2WholeBatchesOnly: where Kafka sends a part of the batch that no longer fits, nothing is sent.
func TestF2WholeBatchesOnly(t *testing.T) {
	b := startBroker(t)
	c := dial(t, b.kafka)
	c.createTopic("t", 1)
	size := 0
	for range 3 {
		batch := batchOf(string(make([]byte, 900)))
		size = len(batch)
		c.produce("t", 0, batch)
	}
	req := fetchRequest(12, "t", protocol.TopicID{}, 0, 0)
	req.Topics[0].Partitions[0].PartitionMaxBytes = int32(2*size + size/2)
	if n := len(batchesOf(t, fetched(c, req).RecordBatches)); n != 2 {
		t.Errorf("%d batches, want 2", n)
	}
}

// TestF4: whatever a read fails with, a Java consumer survives the code.
func TestF4(t *testing.T) {
	survived := map[protocol.ErrorCode]bool{}
	for _, code := range []protocol.ErrorCode{0, 1, 3, 6, 9, 56, 74, 75, 78, 29, 2, 100, 103, -1} {
		survived[code] = true
	}
	for _, e := range errorCodes {
		if code := new(fetching).codeOf(context.Background(), fmt.Errorf("read: %w", e.err)); !survived[code] || code == protocol.CodeNone {
			t.Errorf("%v is answered %v", e.err, code)
		}
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if code := new(fetching).codeOf(ended, context.Canceled); code != protocol.CodeNone {
		t.Errorf("a request that was cut short is answered %v", code)
	}
}

// TestF8TwoRequestsOfASession: what one request of a session reads is not changed by the next, on another connection; and what one was told
// the other need not be.
func TestF8TwoRequestsOfASession(t *testing.T) {
	var s fetchSessions
	plan := func(session, epoch int32, offset int64) fetchPlan {
		t.Helper()
		req := fetchRequest(12, "t", protocol.TopicID{}, 0, offset)
		req.SessionID, req.SessionEpoch = session, epoch
		p := s.plan(req, 1, time.UnixMilli(0))
		if p.code != protocol.CodeNone || p.session == nil || len(p.targets) != 1 {
			t.Fatalf("code %v, %d targets", p.code, len(p.targets))
		}
		return p
	}
	first := plan(0, initialEpoch, 1)
	second := plan(first.session.id, 1, 2)
	third := plan(first.session.id, 2, 3)
	for i, p := range []fetchPlan{first, second, third} {
		if got := p.targets[0].offset; got != int64(i+1) {
			t.Errorf("request %d reads at %d", i+1, got)
		}
	}
	answer := []protocol.FetchPartition{{HighWatermark: 5, DivergingEpoch: protocol.EpochEnd{Epoch: -1}}}
	for i, want := range []bool{true, false} {
		p := []fetchPlan{second, third}[i]
		if got := p.session.told(p.targets, answer, p.incremental)[0]; got != want {
			t.Errorf("answer %d tells of the partition: %v", i+1, got)
		}
	}
}
