package conformance

import (
	"bytes"
	"encoding/binary"
	"maps"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/protocol/record"
)

// TestC9C10: what was produced is what is fetched, bit by bit; C7: offsets have no holes here
// and every batch begins where the one before ended.
func TestC9C10(t *testing.T) {
	c, n := begin(t)
	c.CreateTopic(n("t"), 1)
	type stored struct {
		name  string
		batch record.Batch
	}
	var want []stored
	next := int64(0)
	for name, batch := range OddBatches(t) {
		sent := bytes.Clone(batch)
		p := c.Produce(n("t"), 0, sent)
		if p.ErrorCode != 0 || p.BaseOffset != next {
			t.Fatalf("%s: code %d, offset %d, want offset %d", name, p.ErrorCode, p.BaseOffset, next)
		}
		want = append(want, stored{name, AsStored(batch, next, 0)})
		next += int64(binary.BigEndian.Uint32(batch[57:]))
	}
	req := FetchRequest(12, n("t"), protocol.TopicID{}, 0, 0)
	req.Topics[0].Partitions[0].PartitionMaxBytes = 10 << 20
	p := Fetched(c, req)
	got := BatchesOf(t, p.RecordBatches)
	if len(got) != len(want) || p.HighWatermark != next {
		t.Fatalf("%d batches up to %d, want %d up to %d", len(got), p.HighWatermark, len(want), next)
	}
	for i, batch := range got {
		if !bytes.Equal(batch, want[i].batch) {
			t.Errorf("%s: changed\n% .90x\n% .90x", want[i].name, []byte(batch), []byte(want[i].batch))
		}
	}
	if last := got[len(got)-1].LastOffset(); last != p.HighWatermark-1 {
		t.Errorf("C5: the last offset %d cannot be reached by reading: the last batch ends at %d", p.HighWatermark-1, last)
	}
}

// TestC9LogAppendTime: the broker's time goes to the batch's maximum and the attribute bit; deltas are left alone.
func TestC9LogAppendTime(t *testing.T) {
	c, n := begin(t)
	c.CreateTopic(n("t"), 1, "message.timestamp.type", "LogAppendTime")
	sent := BatchAt(1000, 2000, 1500)
	stamp := c.Produce(n("t"), 0, bytes.Clone(sent)).LogAppendTime
	want := AsStored(sent, 0, 0)
	want[22] |= 8
	binary.BigEndian.PutUint64(want[35:], uint64(stamp))
	got := BatchesOf(t, Fetched(c, FetchRequest(12, n("t"), protocol.TopicID{}, 0, 0)).RecordBatches)
	if len(got) != 1 || !bytes.Equal(got[0], Resealed(want)) {
		t.Errorf("got\n% x\nwant\n% x", got, []byte(want))
	}
}

// TestP10T2: producer ids.
func TestP10T2(t *testing.T) {
	c, _ := begin(t)
	seen := map[int64]bool{}
	ask1 := func(version int16, id int64, epoch int16) {
		t.Helper()
		req := kmsg.NewPtrInitProducerIDRequest()
		req.Version, req.ProducerID, req.ProducerEpoch, req.TransactionTimeoutMillis = version, id, epoch, 60_000
		var resp *kmsg.InitProducerIDResponse
		WaitFor(t, "a block of ids", func() bool { // Kafka asks to try again when one is used up
			resp = Ask[*kmsg.InitProducerIDResponse](c, req)
			return resp.ErrorCode != int16(protocol.CodeCoordinatorLoadInProgress)
		})
		if resp.ErrorCode != 0 || resp.ProducerEpoch != 0 || resp.ProducerID < 0 || seen[resp.ProducerID] {
			t.Errorf("v%d: code %d, id %d (given before: %v), epoch %d", version, resp.ErrorCode, resp.ProducerID, seen[resp.ProducerID], resp.ProducerEpoch)
		}
		seen[resp.ProducerID] = true
	}
	for version := int16(0); version <= 5; version++ {
		ask1(version, -1, -1)
	}
	for _, id := range slices.Collect(maps.Keys(seen)) {
		ask1(4, id, 3) // an id of its own is ignored
	}
	t.Run("T2 an empty transactional id", func(t *testing.T) {
		req := kmsg.NewPtrInitProducerIDRequest()
		req.Version, req.TransactionalID, req.ProducerID, req.ProducerEpoch = 4, kmsg.StringPtr(""), -1, -1
		resp := Ask[*kmsg.InitProducerIDResponse](c, req)
		WantCode(t, "init", resp.ErrorCode, protocol.CodeInvalidRequest)
		if resp.ProducerID != -1 {
			t.Errorf("producer id %d", resp.ProducerID)
		}
	})
}
