package broker

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/protocol/record"
)

// asStored is what Kafka makes of a batch: it sets the base offset and the leader epoch, both outside the checksum.
func asStored(b record.Batch, offset int64, epoch int32) record.Batch {
	out := bytes.Clone(b)
	binary.BigEndian.PutUint64(out, uint64(offset))
	binary.BigEndian.PutUint32(out[12:], uint32(epoch))
	return out
}

// oddBatches are batches whose every byte must survive (C9, C10).
func oddBatches(t *testing.T) map[string]record.Batch {
	t.Helper()
	now := time.Now().UnixMilli()
	build := func(fill func(*record.Builder)) record.Batch {
		var b record.Builder
		fill(&b)
		return b.Build()
	}
	out := map[string]record.Batch{
		"null key and value":  build(func(b *record.Builder) { b.Append(now, nil, nil) }),
		"empty key and value": build(func(b *record.Builder) { b.Append(now, []byte{}, []byte{}) }),
		"null and empty mixed": build(func(b *record.Builder) {
			b.Append(now, nil, []byte{})
			b.Append(now, []byte{}, nil)
		}),
		"headers": build(func(b *record.Builder) {
			b.Append(now, []byte("k"), []byte("v"), record.Header{Key: "a", Value: []byte("1")}, record.Header{Key: "a", Value: nil},
				record.Header{Key: "", Value: []byte{}}, record.Header{Key: "é\x00", Value: bytes.Repeat([]byte{0xff}, 300)})
		}),
		"timestamps out of order": build(func(b *record.Builder) {
			for _, ts := range []int64{now, now - 1e9, 0, 1, now + 1000} {
				b.Append(ts, nil, []byte("x"))
			}
		}),
		"no timestamp": build(func(b *record.Builder) { b.Append(-1, nil, []byte("x")) }),
		"long varints": build(func(b *record.Builder) {
			b.Append(now, bytes.Repeat([]byte("k"), 70_000), bytes.Repeat([]byte("v"), 300_000))
			b.Append(0, nil, bytes.Repeat([]byte("w"), 20_000))
		}),
		"many records": build(func(b *record.Builder) {
			for i := range 1000 {
				b.Append(now+int64(i), []byte(fmt.Sprint(i)), nil)
			}
		}),
		"reserved attribute bits": func() record.Batch {
			b := batchOf("a")
			b[21], b[22] = 0x55, b[22]|0xc0
			return resealed(b)
		}(),
	}
	for codec, name := range map[record.Codec]string{record.Gzip: "gzip", record.Snappy: "snappy", record.LZ4: "lz4", record.Zstd: "zstd"} {
		packed, err := record.Recompress(batchOf(strings.Repeat("squeeze me ", 200), "", "x"), codec, 1, record.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		out[name] = packed
	}
	return out
}

// TestC9C10Rules: what was produced is what is fetched, bit by bit, also after a restart; C7: offsets have no holes here
// and every batch begins where the one before ended.
func TestC9C10Rules(t *testing.T) {
	b := serve(t)
	c := dial(t, b.kafka)
	c.createTopic("t", 1)
	type stored struct {
		name  string
		batch record.Batch
	}
	var want []stored
	next := int64(0)
	for name, batch := range oddBatches(t) {
		sent := bytes.Clone(batch)
		p := c.produce("t", 0, sent)
		if p.ErrorCode != 0 || p.BaseOffset != next {
			t.Fatalf("%s: code %d, offset %d, want offset %d", name, p.ErrorCode, p.BaseOffset, next)
		}
		want = append(want, stored{name, asStored(batch, next, 0)})
		next += int64(binary.BigEndian.Uint32(batch[57:]))
	}
	check := func(t *testing.T, c *rawClient) {
		t.Helper()
		req := fetchRequest(12, "t", protocol.TopicID{}, 0, 0)
		req.Topics[0].Partitions[0].PartitionMaxBytes = 10 << 20
		p := fetched(c, req)
		got := batchesOf(t, p.RecordBatches)
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
	t.Run("at once", func(t *testing.T) { check(t, c) })
	t.Run("after a restart", func(t *testing.T) {
		b.restart(t)
		check(t, dial(t, b.kafka))
	})
}

// TestC7Rules: offsets go on after a restart and after everything was deleted; none is given twice.
func TestC7Rules(t *testing.T) {
	skipOracle(t, "it restarts the broker")
	b := startBroker(t)
	dial(t, b.kafka).createTopic("t", 1)
	next := int64(0)
	for round := range 3 {
		c := dial(t, b.kafka)
		for range 2 {
			if p := c.produce("t", 0, batchOf("a", "b", "c")); p.BaseOffset != next {
				t.Fatalf("round %d: offset %d, want %d", round, p.BaseOffset, next)
			}
			next += 3
		}
		if round == 1 {
			deletedRecords(c, "t", 0, -1)
		}
		b.restart(t)
	}
	p := fetched(dial(t, b.kafka), fetchRequest(12, "t", protocol.TopicID{}, 0, 12))
	if p.LogStartOffset != 12 || p.HighWatermark != 18 || len(batchesOf(t, p.RecordBatches)) != 2 {
		t.Errorf("log from %d to %d with %d bytes", p.LogStartOffset, p.HighWatermark, len(p.RecordBatches))
	}
}

// TestC9LogAppendTime: the broker's time goes to the batch's maximum and the attribute bit; deltas are left alone.
func TestC9LogAppendTimeRules(t *testing.T) {
	b := serve(t)
	c := dial(t, b.kafka)
	c.createTopic("t", 1, "message.timestamp.type", "LogAppendTime")
	sent := batchAt(1000, 2000, 1500)
	stamp := c.produce("t", 0, bytes.Clone(sent)).LogAppendTime
	want := asStored(sent, 0, 0)
	want[22] |= 8
	binary.BigEndian.PutUint64(want[35:], uint64(stamp))
	got := batchesOf(t, fetched(c, fetchRequest(12, "t", protocol.TopicID{}, 0, 0)).RecordBatches)
	if len(got) != 1 || !bytes.Equal(got[0], resealed(want)) {
		t.Errorf("got\n% x\nwant\n% x", got, []byte(want))
	}
}

// TestP10Rules: producer ids.
func TestP10Rules(t *testing.T) {
	b := serve(t)
	c := dial(t, b.kafka)
	seen := map[int64]bool{}
	ask1 := func(version int16, id int64, epoch int16) {
		t.Helper()
		req := kmsg.NewPtrInitProducerIDRequest()
		req.Version, req.ProducerID, req.ProducerEpoch, req.TransactionTimeoutMillis = version, id, epoch, 60_000
		resp := ask[*kmsg.InitProducerIDResponse](c, req)
		if resp.ErrorCode != 0 || resp.ProducerEpoch != 0 || resp.ProducerID < 0 || seen[resp.ProducerID] {
			t.Errorf("v%d: code %d, id %d (given before: %v), epoch %d", version, resp.ErrorCode, resp.ProducerID, seen[resp.ProducerID], resp.ProducerEpoch)
		}
		seen[resp.ProducerID] = true
	}
	for version := int16(0); version <= 5; version++ {
		ask1(version, -1, -1)
	}
	for id := range seen {
		ask1(4, id, 3) // an id of its own is ignored
	}
	t.Run("P10 beyond a block, and after a restart", func(t *testing.T) {
		skipOracle(t, "Kafka asks to try again when a block is used up")
		for range 1200 {
			ask1(4, -1, -1)
		}
		b.restart(t)
		c = dial(b.t, b.kafka)
		for range 3 {
			ask1(4, -1, -1)
		}
	})
	t.Run("P10 transactional ids are refused", func(t *testing.T) {
		skipOracle(t, "it has transactions")
		for id, want := range map[string]protocol.ErrorCode{"tx": protocol.CodeUnsupportedVersion, "": protocol.CodeInvalidRequest} {
			req := kmsg.NewPtrInitProducerIDRequest()
			req.Version, req.TransactionalID, req.ProducerID, req.ProducerEpoch = 4, &id, -1, -1
			resp := ask[*kmsg.InitProducerIDResponse](c, req)
			wantCode(t, "init "+id, resp.ErrorCode, want)
			if resp.ProducerID != -1 {
				t.Errorf("producer id %d", resp.ProducerID)
			}
		}
	})
}
