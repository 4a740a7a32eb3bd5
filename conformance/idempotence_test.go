package conformance

import (
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/protocol"
)

// A producer writes idempotent batches to partition 0 of a topic.
type producer struct {
	c     *Client
	topic string
	id    int64
}

// newProducer has a producer id of its own and no history.
func newProducer(c *Client, topic string) *producer {
	c.T.Helper()
	req := kmsg.NewPtrInitProducerIDRequest()
	req.Version, req.ProducerID, req.ProducerEpoch = 4, -1, -1
	p := &producer{c: c, topic: topic}
	WaitFor(c.T, "a producer id", func() bool {
		resp := Ask[*kmsg.InitProducerIDResponse](c, req)
		p.id = resp.ProducerID
		return resp.ErrorCode == 0
	})
	return p
}

// send writes a batch of n records from a sequence on.
func (p *producer) send(epoch int16, sequence int32, n int) kmsg.ProduceResponseTopicPartition {
	p.c.T.Helper()
	values := make([]string, n)
	for i := range values {
		values[i] = fmt.Sprint(int(sequence) + i)
	}
	return p.c.Produce(p.topic, 0, WithProducer(BatchOf(values...), p.id, epoch, sequence))
}

// check sends a batch that has to be answered with a code, and with an offset when that is none.
func (p *producer) check(what string, epoch int16, sequence int32, n int, want protocol.ErrorCode, offset int64) {
	p.c.T.Helper()
	got := p.send(epoch, sequence, n)
	WantCode(p.c.T, what, got.ErrorCode, want)
	if want != protocol.CodeNone {
		offset = -1
	}
	if got.BaseOffset != offset {
		p.c.T.Errorf("%s: offset %d, want %d", what, got.BaseOffset, offset)
	}
}

// TestP1P2P7: the last five batches are known, and nothing older.
func TestP1P2P7(t *testing.T) {
	c, n := begin(t)
	c.CreateTopic(n("t"), 1)
	p := newProducer(c, n("t"))
	for i := range int32(6) {
		p.check("first time", 0, 2*i, 2, protocol.CodeNone, int64(2*i))
	}
	for i := range int32(5) {
		p.check("P2 duplicate", 0, 2+2*i, 2, protocol.CodeNone, int64(2+2*i))
	}
	p.check("P7 older than the five", 0, 0, 2, protocol.CodeOutOfOrderSequenceNumber, -1)
	p.check("P2 the same beginning, another end", 0, 10, 1, protocol.CodeOutOfOrderSequenceNumber, -1)
	p.check("P2 two of the batches as one", 0, 8, 4, protocol.CodeOutOfOrderSequenceNumber, -1)
	p.check("the next", 0, 12, 1, protocol.CodeNone, 12)
	if got := Listed(c, ListRequest(n("t"), 0, LatestOffset)).Offset; got != 13 {
		t.Errorf("%d records are stored, want 13", got)
	}
}

// TestP3P5P6: where a producer may begin, and which epochs are old.
func TestP3P5P6(t *testing.T) {
	c, n := begin(t)
	c.CreateTopic(n("t"), 1)
	p := newProducer(c, n("t"))
	p.check("P3 P6 an unknown producer may begin anywhere", 3, 41, 2, protocol.CodeNone, 0)
	p.check("P3 the next", 3, 43, 1, protocol.CodeNone, 2)
	p.check("P3 a gap", 3, 45, 1, protocol.CodeOutOfOrderSequenceNumber, -1)
	p.check("P3 a new epoch begins at 0, not at 44", 4, 44, 1, protocol.CodeOutOfOrderSequenceNumber, -1)
	p.check("P3 a new epoch begins at 0, not at 1", 4, 1, 1, protocol.CodeOutOfOrderSequenceNumber, -1)
	p.check("P3 a new epoch", 4, 0, 1, protocol.CodeNone, 3)
	p.check("P5 an old epoch", 3, 44, 1, protocol.CodeInvalidProducerEpoch, -1)
	p.check("P5 what was a duplicate of the old epoch", 3, 43, 1, protocol.CodeInvalidProducerEpoch, -1)
	p.check("P3 the largest epoch", 32767, 0, 1, protocol.CodeNone, 4)
	p.check("3.13 epoch -2", -2, 0, 1, protocol.CodeInvalidProducerEpoch, -1)
}

// TestP4: sequences wrap, also within a batch.
func TestP4(t *testing.T) {
	const largest = 1<<31 - 1
	c, n := begin(t)
	c.CreateTopic(n("t"), 1)
	p := newProducer(c, n("t"))
	p.check("up to the largest", 0, largest-1, 2, protocol.CodeNone, 0)
	p.check("0 follows", 0, 0, 2, protocol.CodeNone, 2)
	p.check("the batch before is a duplicate", 0, largest-1, 2, protocol.CodeNone, 0)
	p = newProducer(c, n("t"))
	p.check("across", 0, largest, 3, protocol.CodeNone, 4)
	p.check("the duplicate of that", 0, largest, 3, protocol.CodeNone, 4)
	p.check("2 follows", 0, 2, 1, protocol.CodeNone, 7)
	p.check("not 4", 0, 4, 1, protocol.CodeOutOfOrderSequenceNumber, -1)
}

// TestP11: of batches that were sent at once, what comes behind a refused one is refused too.
func TestP11(t *testing.T) {
	c, n := begin(t)
	c.CreateTopic(n("t"), 1, "max.message.bytes", "2000")
	p := newProducer(c, n("t"))
	small, large := "s", string(make([]byte, 4000))
	var due []int32
	req := ProduceRequest(11, n("t"), 0, nil)
	for i, value := range []string{small, small, large, small, small} {
		one := ProduceRequest(11, n("t"), 0, WithProducer(BatchOf(value), p.id, 0, int32(i)))
		due = append(due, c.Send(one))
	}
	for i, want := range []protocol.ErrorCode{
		0, 0, protocol.CodeMessageTooLarge, protocol.CodeOutOfOrderSequenceNumber, protocol.CodeOutOfOrderSequenceNumber,
	} {
		got := Answer[*kmsg.ProduceResponse](c, req, due[i]).Topics[0].Partitions[0]
		WantCode(t, fmt.Sprintf("batch %d", i), got.ErrorCode, want)
	}
	p.check("the refused one, smaller", 0, 2, 1, protocol.CodeNone, 2)
	p.check("and those behind it", 0, 3, 1, protocol.CodeNone, 3)
}

// TestP2Timestamp: a duplicate is answered with the largest timestamp of the stored batch (3.13).
func TestP2Timestamp(t *testing.T) {
	c, n := begin(t)
	c.CreateTopic(n("t"), 1)
	p := newProducer(c, n("t"))
	batch := WithProducer(BatchAt(1000, 3000, 2000), p.id, 0, 0)
	if first := c.Produce(n("t"), 0, batch); first.ErrorCode != 0 || first.LogAppendTime != -1 {
		t.Errorf("code %d, log append time %d", first.ErrorCode, first.LogAppendTime)
	}
	batch = WithProducer(BatchAt(time.Now().UnixMilli(), 5, 6), p.id, 0, 0)
	if again := c.Produce(n("t"), 0, batch); again.ErrorCode != 0 || again.BaseOffset != 0 || again.LogAppendTime != 3000 {
		t.Errorf("duplicate: code %d, offset %d, log append time %d, want that of the stored batch", again.ErrorCode, again.BaseOffset, again.LogAppendTime)
	}
	stored := BatchesOf(t, Fetched(c, FetchRequest(12, n("t"), protocol.TopicID{}, 0, 0)).RecordBatches)
	if len(stored) != 1 || int64(binary.BigEndian.Uint64(stored[0][43:])) != p.id {
		t.Errorf("%d batches are stored, want one, of producer %d", len(stored), p.id)
	}
}
