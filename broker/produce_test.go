package broker

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/protocol/record"
)

// TestProduceRules pins the order and codes of 3.2 on the wire, one subtest a rule.
func TestProduceRules(t *testing.T) {
	b := startBroker(t)
	c := dial(t, b.kafka)
	c.createTopic("t", 1)
	c.createTopic("compacted", 1, "cleanup.policy", "compact")
	c.createTopic("appendtime", 1, "message.timestamp.type", "LogAppendTime")
	c.createTopic("small", 1, "max.message.bytes", "200")
	c.createTopic("past", 1, "message.timestamp.before.max.ms", "1000")
	c.createTopic("gzip", 1, "compression.type", "gzip")

	changed := func(change func(record.Batch)) record.Batch {
		batch := batchOf("a", "b")
		change(batch)
		return resealed(batch)
	}
	for _, tc := range []struct {
		name  string
		topic string
		batch []byte
		want  protocol.ErrorCode
	}{
		{"rule 3 unknown topic", "nope", batchOf("a"), protocol.CodeUnknownTopicOrPartition},
		{"rule 4 no batch", "t", []byte{}, protocol.CodeInvalidRecord},
		{"rule 4 shorter than its length", "t", batchOf("a")[:60], protocol.CodeInvalidRecord},
		{"rule 4 two batches", "t", append(batchOf("a"), batchOf("b")...), protocol.CodeInvalidRecord},
		{"rule 4 magic 1", "t", changed(func(b record.Batch) { b[16] = 1 }), protocol.CodeInvalidRecord},
		{"rule 4 magic 3", "t", changed(func(b record.Batch) { b[16] = 3 }), protocol.CodeCorruptMessage},
		{"rule 4 negative length", "t", changed(func(b record.Batch) { binary.BigEndian.PutUint32(b[8:], 1<<31) }), protocol.CodeCorruptMessage},
		{"rule 4 codec 7", "t", changed(func(b record.Batch) { b[22] |= 7 }), protocol.CodeUnknownServerError},
		{"rule 7 base offset", "t", changed(func(b record.Batch) { b.SetBaseOffset(7) }), protocol.CodeInvalidRecord},
		{"rule 7 too large", "small", batchOf(string(make([]byte, 300))), protocol.CodeMessageTooLarge},
		{"rule 7 checksum", "t", func() []byte { b := batchOf("a"); b[len(b)-1] ^= 1; return b }(), protocol.CodeCorruptMessage},
		{"rule 8 record count", "t", changed(func(b record.Batch) { binary.BigEndian.PutUint32(b[57:], 3) }), protocol.CodeInvalidRecord},
		{"rule 8 no records", "t", changed(func(b record.Batch) { binary.BigEndian.PutUint32(b[57:], 0) }), protocol.CodeInvalidRecord},
		{"rule 8 control batch", "t", changed(func(b record.Batch) { b[22] |= 32 }), protocol.CodeInvalidRecord},
		{"rule 8 producer without sequence", "t", withProducer(batchOf("a"), 5, 0, -1), protocol.CodeInvalidRecord},
		{"rule 9 null key on a compacted topic", "compacted", batchOf("a"), protocol.CodeInvalidRecord},
		{"rule 9 too far in the future", "t", stampedAt(time.Now().Add(2 * time.Hour)), protocol.CodeInvalidTimestamp},
		{"rule 9 too far in the past", "past", stampedAt(time.Now().Add(-time.Hour)), protocol.CodeInvalidTimestamp},
		{"rule 9 no timestamp", "past", stampedAt(time.UnixMilli(-1)), protocol.CodeNone},
		{"rule 9 log append time set by the producer", "appendtime", changed(func(b record.Batch) { b[22] |= 8 }), protocol.CodeInvalidTimestamp},
		{"3.13 log append time bit on a create time topic", "t", changed(func(b record.Batch) { b[22] |= 8 }), protocol.CodeNone},
		{"3.13 a cut short second batch is dropped", "t", append(batchOf("a"), batchOf("b")[:11]...), protocol.CodeNone},
		{"rule 11 compressed by the topic's wish", "gzip", batchOf("a", "b", "c"), protocol.CodeNone},
		{"transactional without a transaction", "t", changed(func(b record.Batch) { b[22] |= 16 }), protocol.CodeInvalidTxnState},
		{"good", "t", batchOf("a", "b"), protocol.CodeNone},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := c.produce(tc.topic, 0, tc.batch)
			wantCode(t, "produce", p.ErrorCode, tc.want)
			if tc.want != protocol.CodeNone && p.BaseOffset != -1 {
				t.Errorf("base offset %d with an error, want -1", p.BaseOffset)
			}
		})
	}
	t.Run("rule 2 acks", func(t *testing.T) {
		req := produceRequest(9, "t", 0, batchOf("a"))
		req.Acks = 2
		wantCode(t, "acks=2", ask[*kmsg.ProduceResponse](c, req).Topics[0].Partitions[0].ErrorCode, protocol.CodeInvalidRequiredAcks)
	})
	t.Run("rule 4 zstd before version 7", func(t *testing.T) {
		packed, err := record.Recompress(batchOf("a"), record.Zstd, 3, record.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		wantCode(t, "v6", ask[*kmsg.ProduceResponse](c, produceRequest(6, "t", 0, packed)).Topics[0].Partitions[0].ErrorCode, protocol.CodeUnsupportedCompressionType)
		wantCode(t, "v7", ask[*kmsg.ProduceResponse](c, produceRequest(7, "t", 0, packed)).Topics[0].Partitions[0].ErrorCode, protocol.CodeNone)
	})
	t.Run("rules 1 and 5 transactional producers are refused while there are no transactions", func(t *testing.T) {
		req := produceRequest(9, "t", 0, changed(func(b record.Batch) { b[22] |= 16 }))
		req.TransactionID = kmsg.StringPtr("tx")
		wantCode(t, "produce", ask[*kmsg.ProduceResponse](c, req).Topics[0].Partitions[0].ErrorCode, protocol.CodeInvalidTxnState)
	})
	t.Run("rule 10 larger than a segment", func(t *testing.T) {
		c.createTopic("segments", 1, "segment.bytes", "1048576", "max.message.bytes", "4000000")
		wantCode(t, "produce", c.produce("segments", 0, batchOf(string(make([]byte, 2<<20)))).ErrorCode, protocol.CodeRecordListTooLarge)
	})
	t.Run("rule 11 the stored batch has the topic's compression", func(t *testing.T) {
		p := c.produce("gzip", 0, batchOf("a", "b", "c"))
		wantCode(t, "produce", p.ErrorCode, protocol.CodeNone)
		got := ask[*kmsg.FetchResponse](c, fetchRequest(11, "gzip", protocol.TopicID{}, 0, p.BaseOffset)).Topics[0].Partitions[0]
		batch, _, err := record.Next(got.RecordBatches)
		if err != nil || batch == nil || batch.Codec() != record.Gzip || batch.NumRecords() != 3 {
			t.Fatalf("stored batch %v, %v, want 3 records in gzip", batch, err)
		}
	})
	t.Run("rule 6 internal topic", func(t *testing.T) {
		find := kmsg.NewPtrFindCoordinatorRequest()
		find.Version, find.CoordinatorKeys = 4, []string{"g"}
		ask[*kmsg.FindCoordinatorResponse](c, find)
		wantCode(t, "produce", c.produce(offsetsTopic, 0, batchOf("a")).ErrorCode, protocol.CodeInvalidTopicException)
	})
	t.Run("rule 9 lists the bad records", func(t *testing.T) {
		p := c.produce("compacted", 0, batchOf("a", "b"))
		if len(p.ErrorRecords) != 2 || p.ErrorRecords[1].RelativeOffset != 1 || p.ErrorMessage == nil {
			t.Errorf("got %d error records and message %v, want both records named", len(p.ErrorRecords), p.ErrorMessage)
		}
		if p.LogStartOffset != 0 {
			t.Errorf("log start %d, want 0: the log itself refused the batch", p.LogStartOffset)
		}
	})
	t.Run("rule 12 log append time", func(t *testing.T) {
		before := time.Now().UnixMilli()
		p := c.produce("appendtime", 0, stampedAt(time.UnixMilli(5)))
		if p.ErrorCode != 0 || p.LogAppendTime < before {
			t.Fatalf("code %d, log append time %d, want one from %d on", p.ErrorCode, p.LogAppendTime, before)
		}
		if p := c.produce("t", 0, batchOf("a")); p.LogAppendTime != -1 {
			t.Errorf("log append time %d on a create time topic, want -1", p.LogAppendTime)
		}
	})
	t.Run("rule 12 the same partition twice is one append", func(t *testing.T) {
		req := produceRequest(9, "t", 0, batchOf("first"))
		req.Topics[0].Partitions = append(req.Topics[0].Partitions, produceRequest(9, "t", 0, batchOf("second")).Topics[0].Partitions...)
		before := c.produce("t", 0, batchOf("x")).BaseOffset
		resp := ask[*kmsg.ProduceResponse](c, req)
		if n := len(resp.Topics[0].Partitions); n != 1 {
			t.Fatalf("%d answers, want 1", n)
		}
		if after := c.produce("t", 0, batchOf("y")).BaseOffset; after != before+2 {
			t.Errorf("offset went from %d to %d, want one batch between", before, after)
		}
	})
}

// stampedAt makes a batch of one record with a timestamp.
func stampedAt(at time.Time) record.Batch {
	var b record.Builder
	b.Append(at.UnixMilli(), []byte("k"), []byte("v"))
	return b.Build()
}

func TestA8SilentProduce(t *testing.T) {
	b := startBroker(t)
	c := dial(t, b.kafka)
	c.createTopic("t", 1)
	req := produceRequest(9, "t", 0, batchOf("a"))
	req.Acks = 0
	c.send(req)
	versions := kmsg.NewPtrApiVersionsRequest()
	ask[*kmsg.ApiVersionsResponse](c, versions) // the next answer is this one's: the produce has none

	bad := produceRequest(9, "nope", 0, batchOf("a"))
	bad.Acks = 0
	c.send(bad)
	c.checkClosed()
}

func TestP2DuplicateAnswersOriginalOffset(t *testing.T) {
	b := startBroker(t)
	c := dial(t, b.kafka)
	c.createTopic("t", 1)
	init := kmsg.NewPtrInitProducerIDRequest()
	init.Version, init.ProducerID, init.ProducerEpoch = 4, -1, -1
	id := ask[*kmsg.InitProducerIDResponse](c, init).ProducerID
	first := c.produce("t", 0, withProducer(batchOf("a", "b"), id, 0, 0))
	second := c.produce("t", 0, withProducer(batchOf("c"), id, 0, 2))
	again := c.produce("t", 0, withProducer(batchOf("a", "b"), id, 0, 0))
	wantCode(t, "duplicate", again.ErrorCode, protocol.CodeNone)
	if first.BaseOffset != 0 || second.BaseOffset != 2 || again.BaseOffset != 0 {
		t.Errorf("offsets %d, %d, %d, want 0, 2, 0", first.BaseOffset, second.BaseOffset, again.BaseOffset)
	}
	wantCode(t, "gap", c.produce("t", 0, withProducer(batchOf("x"), id, 0, 9)).ErrorCode, protocol.CodeOutOfOrderSequenceNumber)

	b.shutdown()
	b.start()
	c = dial(t, b.kafka)
	after := c.produce("t", 0, withProducer(batchOf("c"), id, 0, 2))
	if after.ErrorCode != 0 || after.BaseOffset != 2 {
		t.Errorf("duplicate after a restart: code %d offset %d, want 0 and 2", after.ErrorCode, after.BaseOffset)
	}
}
