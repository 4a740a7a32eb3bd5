package conformance

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
	c, n := begin(t)
	c.CreateTopic(n("t"), 1)
	c.CreateTopic(n("compacted"), 1, "cleanup.policy", "compact")
	c.CreateTopic(n("appendtime"), 1, "message.timestamp.type", "LogAppendTime")
	c.CreateTopic(n("small"), 1, "max.message.bytes", "200")
	c.CreateTopic(n("past"), 1, "message.timestamp.before.max.ms", "1000")
	c.CreateTopic(n("gzip"), 1, "compression.type", "gzip")

	changed := func(change func(record.Batch)) record.Batch {
		batch := BatchOf("a", "b")
		change(batch)
		return Resealed(batch)
	}
	for _, tc := range []struct {
		name  string
		topic string
		batch []byte
		want  protocol.ErrorCode
	}{
		{"rule 3 unknown topic", n("nope"), BatchOf("a"), protocol.CodeUnknownTopicOrPartition},
		{"rule 4 no batch", n("t"), []byte{}, protocol.CodeInvalidRecord},
		{"rule 4 shorter than its length", n("t"), BatchOf("a")[:60], protocol.CodeInvalidRecord},
		{"rule 4 two batches", n("t"), append(BatchOf("a"), BatchOf("b")...), protocol.CodeInvalidRecord},
		{"rule 4 magic 1", n("t"), changed(func(b record.Batch) { b[16] = 1 }), protocol.CodeInvalidRecord},
		{"rule 4 magic 3", n("t"), changed(func(b record.Batch) { b[16] = 3 }), protocol.CodeCorruptMessage},
		{"rule 4 negative length", n("t"), changed(func(b record.Batch) { binary.BigEndian.PutUint32(b[8:], 1<<31) }), protocol.CodeCorruptMessage},
		{"rule 4 codec 7", n("t"), changed(func(b record.Batch) { b[22] |= 7 }), protocol.CodeUnknownServerError},
		{"rule 7 base offset", n("t"), changed(func(b record.Batch) { b.SetBaseOffset(7) }), protocol.CodeInvalidRecord},
		{"rule 7 too large", n("small"), BatchOf(string(make([]byte, 300))), protocol.CodeMessageTooLarge},
		{"rule 7 checksum", n("t"), func() []byte { b := BatchOf("a"); b[len(b)-1] ^= 1; return b }(), protocol.CodeCorruptMessage},
		{"rule 8 record count", n("t"), changed(func(b record.Batch) { binary.BigEndian.PutUint32(b[57:], 3) }), protocol.CodeInvalidRecord},
		{"rule 8 no records", n("t"), changed(func(b record.Batch) { binary.BigEndian.PutUint32(b[57:], 0) }), protocol.CodeInvalidRecord},
		{"rule 8 control batch", n("t"), changed(func(b record.Batch) { b[22] |= 32 }), protocol.CodeInvalidRecord},
		{"rule 8 producer without sequence", n("t"), WithProducer(BatchOf("a"), 5, 0, -1), protocol.CodeInvalidRecord},
		{"rule 9 null key on a compacted topic", n("compacted"), BatchOf("a"), protocol.CodeInvalidRecord},
		{"rule 9 too far in the future", n("t"), stampedAt(time.Now().Add(2 * time.Hour)), protocol.CodeInvalidTimestamp},
		{"rule 9 too far in the past", n("past"), stampedAt(time.Now().Add(-time.Hour)), protocol.CodeInvalidTimestamp},
		{"rule 9 no timestamp", n("past"), stampedAt(time.UnixMilli(-1)), protocol.CodeNone},
		{"rule 9 log append time set by the producer", n("appendtime"), changed(func(b record.Batch) { b[22] |= 8 }), protocol.CodeInvalidTimestamp},
		{"3.13 log append time bit on a create time topic", n("t"), changed(func(b record.Batch) { b[22] |= 8 }), protocol.CodeNone},
		{"3.13 a cut short second batch is dropped", n("t"), append(BatchOf("a"), BatchOf("b")[:11]...), protocol.CodeNone},
		{"rule 11 compressed by the topic's wish", n("gzip"), BatchOf("a", "b", "c"), protocol.CodeNone},
		{"rule 1 transactional without an id", n("t"), changed(func(b record.Batch) { b[22] |= 16 }), protocol.CodeTransactionalIDAuthorizationFailed},
		{"good", n("t"), BatchOf("a", "b"), protocol.CodeNone},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := c.Produce(tc.topic, 0, tc.batch)
			WantCode(t, "produce", p.ErrorCode, tc.want)
			if tc.want != protocol.CodeNone && p.BaseOffset != -1 {
				t.Errorf("base offset %d with an error, want -1", p.BaseOffset)
			}
		})
	}
	t.Run("rule 1 is about the whole request, and before rule 2", func(t *testing.T) {
		req := ProduceRequest(9, n("t"), 0, BatchOf("a"))
		req.Acks = 2
		req.Topics = append(req.Topics, ProduceRequest(9, n("small"), 0, changed(func(b record.Batch) { b[22] |= 16 })).Topics...)
		for _, topic := range Ask[*kmsg.ProduceResponse](c, req).Topics {
			WantCode(t, topic.Topic, topic.Partitions[0].ErrorCode, protocol.CodeTransactionalIDAuthorizationFailed)
		}
	})
	t.Run("rule 2 acks", func(t *testing.T) {
		req := ProduceRequest(9, n("t"), 0, BatchOf("a"))
		req.Acks = 2
		WantCode(t, "acks=2", Ask[*kmsg.ProduceResponse](c, req).Topics[0].Partitions[0].ErrorCode, protocol.CodeInvalidRequiredAcks)
	})
	t.Run("rule 4 zstd before version 7", func(t *testing.T) {
		packed, err := record.Recompress(BatchOf("a"), record.Zstd, 3, record.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		WantCode(t, "v6", Ask[*kmsg.ProduceResponse](c, ProduceRequest(6, n("t"), 0, packed)).Topics[0].Partitions[0].ErrorCode, protocol.CodeUnsupportedCompressionType)
		WantCode(t, "v7", Ask[*kmsg.ProduceResponse](c, ProduceRequest(7, n("t"), 0, packed)).Topics[0].Partitions[0].ErrorCode, protocol.CodeNone)
	})
	t.Run("rule 10 larger than a segment", func(t *testing.T) {
		c.CreateTopic(n("segments"), 1, "segment.bytes", "1048576", "max.message.bytes", "4000000")
		WantCode(t, "produce", c.Produce(n("segments"), 0, BatchOf(string(make([]byte, 2<<20)))).ErrorCode, protocol.CodeRecordListTooLarge)
	})
	t.Run("rule 11 the stored batch has the topic's compression", func(t *testing.T) {
		p := c.Produce(n("gzip"), 0, BatchOf("a", "b", "c"))
		WantCode(t, "produce", p.ErrorCode, protocol.CodeNone)
		got := Ask[*kmsg.FetchResponse](c, FetchRequest(11, n("gzip"), protocol.TopicID{}, 0, p.BaseOffset)).Topics[0].Partitions[0]
		batch, _, err := record.Next(got.RecordBatches)
		if err != nil || batch == nil || batch.Codec() != record.Gzip || batch.NumRecords() != 3 {
			t.Fatalf("stored batch %v, %v, want 3 records in gzip", batch, err)
		}
	})
	t.Run("rule 6 internal topic", func(t *testing.T) {
		Committed(c, n("g"), n("t"), 0) // makes the topic
		WantCode(t, "produce", c.Produce(OffsetsTopic, 0, BatchOf("a")).ErrorCode, protocol.CodeInvalidTopicException)
	})
	t.Run("rule 9 lists the bad records", func(t *testing.T) {
		p := c.Produce(n("compacted"), 0, BatchOf("a", "b"))
		if len(p.ErrorRecords) != 2 || p.ErrorRecords[1].RelativeOffset != 1 || p.ErrorMessage == nil {
			t.Errorf("got %d error records and message %v, want both records named", len(p.ErrorRecords), p.ErrorMessage)
		}
		if p.LogStartOffset != 0 {
			t.Errorf("log start %d, want 0: the log itself refused the batch", p.LogStartOffset)
		}
	})
	t.Run("rule 12 log append time", func(t *testing.T) {
		before := time.Now().UnixMilli()
		p := c.Produce(n("appendtime"), 0, stampedAt(time.UnixMilli(5)))
		if p.ErrorCode != 0 || p.LogAppendTime < before {
			t.Fatalf("code %d, log append time %d, want one from %d on", p.ErrorCode, p.LogAppendTime, before)
		}
		if p := c.Produce(n("t"), 0, BatchOf("a")); p.LogAppendTime != -1 {
			t.Errorf("log append time %d on a create time topic, want -1", p.LogAppendTime)
		}
	})
	t.Run("rule 12 the same partition twice is one append", func(t *testing.T) {
		req := ProduceRequest(9, n("t"), 0, BatchOf("first"))
		req.Topics[0].Partitions = append(req.Topics[0].Partitions, ProduceRequest(9, n("t"), 0, BatchOf("second")).Topics[0].Partitions...)
		before := c.Produce(n("t"), 0, BatchOf("x")).BaseOffset
		resp := Ask[*kmsg.ProduceResponse](c, req)
		if got := len(resp.Topics[0].Partitions); got != 1 {
			t.Fatalf("%d answers, want 1", got)
		}
		if after := c.Produce(n("t"), 0, BatchOf("y")).BaseOffset; after != before+2 {
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

// TestA8: a produce with acks=0 has no answer, and an error closes its connection.
func TestA8(t *testing.T) {
	c, n := begin(t)
	c.CreateTopic(n("t"), 1)
	req := ProduceRequest(9, n("t"), 0, BatchOf("a"))
	req.Acks = 0
	c.Send(req)
	versions := kmsg.NewPtrApiVersionsRequest()
	Ask[*kmsg.ApiVersionsResponse](c, versions) // the next answer is this one's: the produce has none

	bad := ProduceRequest(9, n("nope"), 0, BatchOf("a"))
	bad.Acks = 0
	c.Send(bad)
	c.CheckClosed()
}
