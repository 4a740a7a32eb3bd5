package broker

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/objectstore"
	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/protocol/record"
	"github.com/tidemill/tidemill/server"
)

// initProducer asks for a producer id.
func initProducer(c *rawClient) int64 {
	c.t.Helper()
	req := kmsg.NewPtrInitProducerIDRequest()
	req.Version, req.ProducerID, req.ProducerEpoch = 4, -1, -1
	resp := ask[*kmsg.InitProducerIDResponse](c, req)
	wantCode(c.t, "init producer id", resp.ErrorCode, protocol.CodeNone)
	return resp.ProducerID
}

// TestP2P7AfterRestart: the five batches of a producer are known after a restart, the one before them is not, and the next
// sequence follows the last.
func TestP2P7AfterRestart(t *testing.T) {
	b := startBroker(t)
	c := dial(t, b.kafka)
	c.createTopic("t", 1)
	id := initProducer(c)
	send := func(sequence int32) kmsg.ProduceResponseTopicPartition {
		return c.produce("t", 0, withProducer(batchOf(fmt.Sprint(sequence)), id, 0, sequence))
	}
	for sequence := range int32(6) {
		wantCode(t, "first time", send(sequence).ErrorCode, protocol.CodeNone)
	}
	b.restart(t)
	c = dial(t, b.kafka)
	wantCode(t, "older than the five", send(0).ErrorCode, protocol.CodeOutOfOrderSequenceNumber)
	for sequence := int32(1); sequence < 6; sequence++ {
		if again := send(sequence); again.ErrorCode != 0 || again.BaseOffset != int64(sequence) {
			t.Errorf("duplicate of %d: code %d, offset %d", sequence, again.ErrorCode, again.BaseOffset)
		}
	}
	wantCode(t, "a gap", send(7).ErrorCode, protocol.CodeOutOfOrderSequenceNumber)
	if next := send(6); next.ErrorCode != 0 || next.BaseOffset != 6 {
		t.Errorf("the next: code %d, offset %d", next.ErrorCode, next.BaseOffset)
	}
}

// TestP10BeyondABlock: producer ids are given out in blocks; none is given twice, across blocks and restarts.
func TestP10BeyondABlock(t *testing.T) {
	b := startBroker(t)
	c := dial(t, b.kafka)
	seen := map[int64]bool{}
	take := func(n int) {
		for range n {
			id := initProducer(c)
			if seen[id] {
				t.Fatalf("id %d is given twice", id)
			}
			seen[id] = true
		}
	}
	take(1200)
	b.restart(t)
	c = dial(t, b.kafka)
	take(3)
}

// TestT2TransactionalIDsAreRefused: there are no transactions, and nothing says that there are (3.2 rules 1 and 5).
func TestT2TransactionalIDsAreRefused(t *testing.T) {
	b := startBroker(t)
	c := dial(t, b.kafka)
	c.createTopic("t", 1)
	init := kmsg.NewPtrInitProducerIDRequest()
	init.Version, init.TransactionalID, init.ProducerID, init.ProducerEpoch = 4, kmsg.StringPtr("tx"), -1, -1
	resp := ask[*kmsg.InitProducerIDResponse](c, init)
	wantCode(t, "init", resp.ErrorCode, protocol.CodeUnsupportedVersion)
	if resp.ProducerID != -1 {
		t.Errorf("producer id %d", resp.ProducerID)
	}
	produce := produceRequest(9, "t", 0, transactional(batchOf("a")))
	produce.TransactionID = init.TransactionalID
	wantCode(t, "produce", ask[*kmsg.ProduceResponse](c, produce).Topics[0].Partitions[0].ErrorCode, protocol.CodeInvalidTxnState)
	find := kmsg.NewPtrFindCoordinatorRequest()
	find.Version, find.CoordinatorType, find.CoordinatorKeys = 4, 1, []string{"tx"}
	wantCode(t, "find coordinator", ask[*kmsg.FindCoordinatorResponse](c, find).Coordinators[0].ErrorCode, protocol.CodeUnsupportedVersion)
}

// transactional makes a batch one of a transaction.
func transactional(b record.Batch) record.Batch {
	b[22] |= byte(record.AttrTransactional)
	return resealed(b)
}

// TestRepackedBatchIsRead: a topic's compression packs no batch so well that the broker, which bounds what a byte may unpack to, would not
// read it again.
func TestRepackedBatchIsRead(t *testing.T) {
	b := startBroker(t)
	c := dial(t, b.kafka)
	c.createTopic("t", 1, "compression.type", "zstd")
	line := []byte(`{"level":"INFO","service":"checkout","region":"eu-west-1","message":"request handled","status":200}`)
	var build record.Builder
	for range 450 {
		build.Append(1_700_000_000_000, []byte("key"), bytes.Repeat(line, 166)) // 7 MiB in all
	}
	produced, err := record.Recompress(build.Build(), record.Gzip, 1, record.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	wantCode(t, "produce", c.produce("t", 0, produced).ErrorCode, protocol.CodeNone)
	got := listed(c, listRequest("t", 0, 1000))
	if got.ErrorCode != 0 || got.Offset != 0 {
		t.Errorf("lookup by time: code %d, offset %d", got.ErrorCode, got.Offset)
	}
	p := fetched(c, fetchRequest(12, "t", protocol.TopicID{}, 0, 0))
	if _, err := record.CheckRecords(p.RecordBatches, record.Limits{}); err != nil {
		t.Errorf("who fetches: %v", err)
	}
}

// TestA8TimeoutIsForAllAcks: while storage is slow only a produce with acks=-1 ends with its timeout. One with acks=1 is answered when it is
// stored, and acks=0 does not lose its connection.
func TestA8TimeoutIsForAllAcks(t *testing.T) {
	t.Parallel()
	var g *gate
	b := startBrokerOn(t, func(below objectstore.Store) objectstore.Store { g = newGate(below); return g })
	c := dial(t, b.kafka)
	c.createTopic("t", 1)
	wantCode(t, "before", c.produce("t", 0, batchOf("a")).ErrorCode, protocol.CodeNone)
	reopen := g.shut()
	defer reopen()
	request := func(acks int16, timeout int32) *kmsg.ProduceRequest {
		req := produceRequest(11, "t", 0, batchOf("b"))
		req.Acks, req.TimeoutMillis = acks, timeout
		return req
	}
	none, one := dial(t, b.kafka), dial(t, b.kafka)
	none.send(request(0, 1))
	metadata := metadataRequest(12, "t")
	behind := none.send(metadata)
	stored := one.send(request(1, 1))
	all := ask[*kmsg.ProduceResponse](c, request(-1, 200))
	wantCode(t, "acks=-1", all.Topics[0].Partitions[0].ErrorCode, protocol.CodeRequestTimedOut)
	reopen()
	p := answer[*kmsg.ProduceResponse](one, request(1, 1), stored).Topics[0].Partitions[0]
	if p.ErrorCode != 0 || p.BaseOffset < 1 {
		t.Errorf("acks=1: code %d, offset %d", p.ErrorCode, p.BaseOffset)
	}
	wantCode(t, "behind acks=0", answer[*kmsg.MetadataResponse](none, metadata, behind).Topics[0].ErrorCode, protocol.CodeNone)
}

// TestA8ExpiryIsNoFailure: what is not stored after the longest wait is no reason to close a connection with acks=0; what was refused is.
func TestA8ExpiryIsNoFailure(t *testing.T) {
	for _, refused := range []bool{false, true} {
		var got []server.Response
		p := &produceCall{c: &call{done: func(r server.Response) { got = append(got, r) }}}
		waiting := kmsg.ProduceResponseTopic{Partitions: []kmsg.ProduceResponseTopicPartition{{BaseOffset: -1}}}
		p.mu.resp, p.mu.failed = &kmsg.ProduceResponse{Topics: []kmsg.ProduceResponseTopic{waiting}}, refused
		p.expire()
		if len(got) != 1 || !got[0].Silent || got[0].Close != refused {
			t.Errorf("refused: %v: answered %+v", refused, got)
		}
	}
}
