package broker

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/internal/proctest"
	"github.com/tidemill/tidemill/objectstore"
	"github.com/tidemill/tidemill/protocol"
)

// sendProduce sends one batch and returns what awaits its answer.
func sendProduce(c *rawClient, topic string, partition int32, acks int16, records []byte) func() kmsg.ProduceResponseTopicPartition {
	c.t.Helper()
	req := produceRequest(11, topic, partition, records)
	req.Acks, req.TimeoutMillis = acks, 60_000
	corr := c.send(req)
	return func() kmsg.ProduceResponseTopicPartition {
		c.t.Helper()
		return answer[*kmsg.ProduceResponse](c, req, corr).Topics[0].Partitions[0]
	}
}

// checkLog compares the values of a partition's records with what was acknowledged, and the high watermark with their number.
func checkLog(t *testing.T, c *rawClient, topic string, partition int32, want ...string) {
	t.Helper()
	p := fetched(c, fetchRequest(12, topic, protocol.TopicID{}, partition, 0))
	if p.ErrorCode != 0 || p.HighWatermark != int64(len(want)) {
		t.Errorf("%s-%d: code %d, high watermark %d, want %d records", topic, partition, p.ErrorCode, p.HighWatermark, len(want))
	}
	rest := p.RecordBatches
	for _, value := range want {
		i := bytes.Index(rest, []byte(value))
		if i < 0 {
			t.Fatalf("%s-%d: no record %q in its place among %q", topic, partition, value, want)
		}
		rest = rest[i+len(value):]
	}
}

// latest is the end of a partition as consumers see it.
func latest(c *rawClient, topic string, partition int32) int64 {
	c.t.Helper()
	return listed(c, listRequest(topic, partition, latestOffset)).Offset
}

// TestPeerK1AckedDataLossOnOneFailedPut: a PUT that fails under the batches of two producers acknowledges neither. When it
// has been repeated both are acknowledged, and both are there after a crash.
func TestPeerK1AckedDataLossOnOneFailedPut(t *testing.T) {
	b, h := startHooked(t)
	c := dial(t, b.kafka)
	c.createTopic("t", 1)
	held := h.holdSlots(t)
	first := sendProduce(dial(t, b.kafka), "t", 0, -1, batchOf("first"))
	put := held.next() // the first batch goes at once, the next two share a slot or wait for one
	second := sendProduce(dial(t, b.kafka), "t", 0, -1, batchOf("second"))
	third := sendProduce(dial(t, b.kafka), "t", 0, -1, batchOf("third"))
	for range 3 {
		put.verdict <- objectstore.ErrAmbiguous
		for again := ""; again != put.key; {
			another := held.next()
			if again = another.key; again == put.key {
				put = another
			} else {
				another.verdict <- objectstore.ErrAmbiguous
			}
		}
	}
	if got := latest(c, "t", 0); got != 0 {
		t.Errorf("the end is %d while no PUT has succeeded", got)
	}
	held.release()
	offsets := map[int64]bool{}
	for _, await := range []func() kmsg.ProduceResponseTopicPartition{first, second, third} {
		p := await()
		wantCode(t, "produce", p.ErrorCode, protocol.CodeNone)
		offsets[p.BaseOffset] = true
	}
	if len(offsets) != 3 {
		t.Errorf("offsets %v, want three", offsets)
	}
	b.crash(h)
	b.start()
	p := fetched(dial(t, b.kafka), fetchRequest(12, "t", protocol.TopicID{}, 0, 0))
	for _, value := range []string{"first", "second", "third"} {
		if !bytes.Contains(p.RecordBatches, []byte(value)) || p.HighWatermark != 3 {
			t.Errorf("high watermark %d after the crash, %q is there: %v", p.HighWatermark, value, bytes.Contains(p.RecordBatches, []byte(value)))
		}
	}
}

// TestPeerK2PartitionBrickedByOneFailedIndexPut: a manifest that cannot be written, and good slots behind it, leave a
// partition that opens with all of its records.
func TestPeerK2PartitionBrickedByOneFailedIndexPut(t *testing.T) {
	b, h := startHooked(t)
	c := dial(t, b.kafka)
	c.createTopic("t", 1)
	refused := make(chan string, 1024)
	h.onPut(func(_ context.Context, key string, _ []byte, next func() error) error {
		if strings.HasPrefix(key, "manifest/") {
			refused <- key
			return objectstore.ErrAmbiguous
		}
		return next()
	})
	wantCode(t, "produce", c.produce("t", 0, batchOf("before")).ErrorCode, protocol.CodeNone)
	b.stop()
	b.stop = nil
	<-b.stopped // without a manifest it may say that the checkpoint failed
	if len(refused) == 0 {
		t.Error("no manifest was written at the stop: the test tests nothing")
	}
	h.put.Store(nil)
	for round := range 2 {
		b.start()
		c = dial(t, b.kafka)
		p := c.produce("t", 0, batchOf(fmt.Sprint("after-", round)))
		if p.ErrorCode != 0 || p.BaseOffset != int64(round+1) {
			t.Errorf("code %d, offset %d", p.ErrorCode, p.BaseOffset)
		}
		b.shutdown()
	}
	b.start()
	checkLog(t, dial(t, b.kafka), "t", 0, "before", "after-0", "after-1")
}

// TestPeerK3AckedOverwriteWithoutFencing: a broker that was taken over while its PUT was on the way gets no acknowledgement
// for it, and overwrites nothing that its successor acknowledged.
func TestPeerK3AckedOverwriteWithoutFencing(t *testing.T) {
	etcd := startEtcd(t)
	shared := []string{"--cluster", etcd.url(), "--bucket", "file://" + t.TempDir(), "--broker-id", "7", "--advertise", proctest.FreeAddress(t)}
	old, h := startHooked(t, shared...)
	c := dial(t, old.kafka)
	c.createTopic("t", 1)
	wantCode(t, "produce", c.produce("t", 0, batchOf("zero")).ErrorCode, protocol.CodeNone)
	held := h.holdSlots(t)
	req := produceRequest(11, "t", 0, batchOf("stale"))
	req.TimeoutMillis = 60_000
	c.send(req)
	held.next()
	next := startBroker(t, shared...)
	wantCode(t, "produce to the successor", dial(t, next.kafka).produce("t", 0, batchOf("one")).ErrorCode, protocol.CodeNone)
	held.release()
	if _, body, err := c.receive(); err == nil {
		resp := req.ResponseKind().(*kmsg.ProduceResponse)
		if err := resp.ReadFrom(body[1:]); err != nil || resp.Topics[0].Partitions[0].ErrorCode == 0 {
			t.Errorf("the old one acknowledges (%v) what it has no right to", err)
		}
	}
	select {
	case err := <-old.stopped:
		old.ended(err)
	case <-time.After(time.Minute):
		t.Fatal("the old one goes on beside its successor")
	}
	wantCode(t, "produce to the successor", dial(t, next.kafka).produce("t", 0, batchOf("two")).ErrorCode, protocol.CodeNone)
	next.shutdown()
	next.start()
	checkLog(t, dial(t, next.kafka), "t", 0, "zero", "one", "two")
}

// TestPeerK13N2HighWatermarkBeforeDurability: what no PUT has made durable is not read, listed or counted, also when a later
// slot lands before an earlier one.
func TestPeerK13N2HighWatermarkBeforeDurability(t *testing.T) {
	b, h := startHooked(t)
	c := dial(t, b.kafka)
	c.createTopic("t", 2)
	held := h.holdSlots(t)
	first := sendProduce(dial(t, b.kafka), "t", 0, -1, batchOf("first"))
	early := held.next()
	other := dial(t, b.kafka)
	second := sendProduce(other, "t", 0, -1, batchOf(strings.Repeat("second", 1000)))
	third := sendProduce(dial(t, b.kafka), "t", 1, -1, batchOf("third"))
	late := held.next()
	if late.key <= early.key {
		t.Fatalf("slot %s comes behind %s", late.key, early.key)
	}
	late.verdict <- nil
	<-late.done
	for partition := range int32(2) {
		req := fetchRequest(12, "t", protocol.TopicID{}, partition, 0)
		req.MaxWaitMillis, req.MinBytes = 300, 1 // what is wrong has time to show
		p := fetched(c, req)
		if p.ErrorCode != 0 || p.HighWatermark != 0 || len(p.RecordBatches) != 0 || latest(c, "t", partition) != 0 {
			t.Errorf("partition %d: code %d, high watermark %d, %d bytes, before the first slot landed", partition, p.ErrorCode, p.HighWatermark, len(p.RecordBatches))
		}
	}
	held.release()
	for i, await := range []func() kmsg.ProduceResponseTopicPartition{first, second, third} {
		if p := await(); p.ErrorCode != 0 || p.BaseOffset != []int64{0, 1, 0}[i] {
			t.Errorf("batch %d: code %d, offset %d", i, p.ErrorCode, p.BaseOffset)
		}
	}
	checkLog(t, c, "t", 0, "first", "second")
	checkLog(t, c, "t", 1, "third")
}

// TestPeerK17AcknowledgedFromMemory: acks=1 waits for the PUT as acks=all does.
func TestPeerK17AcknowledgedFromMemory(t *testing.T) {
	b, h := startHooked(t)
	c := dial(t, b.kafka)
	c.createTopic("t", 1)
	held := h.holdSlots(t)
	p := dial(t, b.kafka)
	req := produceRequest(11, "t", 0, batchOf("record"))
	req.Acks, req.TimeoutMillis = 1, 100
	corr := p.send(req)
	held.next()
	wantCode(t, "acks=1 while its PUT is on the way", answer[*kmsg.ProduceResponse](p, req, corr).Topics[0].Partitions[0].ErrorCode, protocol.CodeRequestTimedOut)
	await := sendProduce(p, "t", 0, 1, batchOf("another"))
	held.release()
	if got := await(); got.ErrorCode != 0 || got.BaseOffset != 1 {
		t.Errorf("code %d, offset %d", got.ErrorCode, got.BaseOffset)
	}
	b.crash(h)
	b.start()
	checkLog(t, dial(t, b.kafka), "t", 0, "record", "another")
}

// TestPeerN1SequenceBeforeData: the sequence of a batch that a crash took is not taken: sent again it is stored, not
// answered as a duplicate. One that did land is a duplicate.
func TestPeerN1SequenceBeforeData(t *testing.T) {
	for _, landed := range []bool{false, true} {
		t.Run(fmt.Sprintf("landed %v", landed), func(t *testing.T) {
			b, h := startHooked(t)
			c := dial(t, b.kafka)
			c.createTopic("t", 1)
			id := initProducer(c)
			batch := func() []byte { return withProducer(batchOf("once"), id, 0, 0) }
			h.onPut(func(_ context.Context, key string, _ []byte, next func() error) error {
				if landed && isSlot(key) {
					_ = next()
				}
				return objectstore.ErrAmbiguous
			})
			req := produceRequest(11, "t", 0, batch())
			req.TimeoutMillis = 500
			wantCode(t, "unknown outcome", ask[*kmsg.ProduceResponse](c, req).Topics[0].Partitions[0].ErrorCode, protocol.CodeRequestTimedOut)
			b.crash(h)
			b.start()
			c = dial(t, b.kafka)
			if got := latest(c, "t", 0); got != map[bool]int64{false: 0, true: 1}[landed] {
				t.Errorf("the end is %d after the crash", got)
			}
			for range 2 {
				if p := c.produce("t", 0, batch()); p.ErrorCode != 0 || p.BaseOffset != 0 {
					t.Errorf("again: code %d, offset %d", p.ErrorCode, p.BaseOffset)
				}
			}
			checkLog(t, c, "t", 0, "once")
		})
	}
}
