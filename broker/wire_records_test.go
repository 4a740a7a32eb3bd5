package broker

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/tidemill/tidemill/conformance"
	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/protocol/record"
)

// TestC9C10AfterRestart: what was produced is what is fetched, bit by bit, also from the object store by another life.
func TestC9C10AfterRestart(t *testing.T) {
	b := startBroker(t)
	c := dial(t, b.kafka)
	c.createTopic("t", 1)
	var want []record.Batch
	next := int64(0)
	for name, batch := range conformance.OddBatches(t) {
		if p := c.produce("t", 0, bytes.Clone(batch)); p.ErrorCode != 0 || p.BaseOffset != next {
			t.Fatalf("%s: code %d, offset %d, want offset %d", name, p.ErrorCode, p.BaseOffset, next)
		}
		want = append(want, conformance.AsStored(batch, next, 0))
		next += int64(binary.BigEndian.Uint32(batch[57:]))
	}
	b.restart(t)
	req := fetchRequest(12, "t", protocol.TopicID{}, 0, 0)
	req.Topics[0].Partitions[0].PartitionMaxBytes = 10 << 20
	got := batchesOf(t, fetched(dial(t, b.kafka), req).RecordBatches)
	if len(got) != len(want) {
		t.Fatalf("%d batches, want %d", len(got), len(want))
	}
	for i, batch := range got {
		if !bytes.Equal(batch, want[i]) {
			t.Errorf("batch %d changed\n% .90x\n% .90x", i, []byte(batch), []byte(want[i]))
		}
	}
}

// TestC7AcrossRestarts: offsets go on after a restart and after everything was deleted; none is given twice.
func TestC7AcrossRestarts(t *testing.T) {
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

// TestM7AfterRestart: the log starts where DeleteRecords left it, within a batch too, and where everything was deleted.
func TestM7AfterRestart(t *testing.T) {
	b := startBroker(t)
	c := dial(t, b.kafka)
	c.createTopic("t", 1)
	for range 3 {
		c.produce("t", 0, batchOf("a", "b", "c"))
	}
	for _, tc := range []struct{ offset, start int64 }{{4, 4}, {-1, 9}} {
		if got := deletedRecords(c, "t", 0, tc.offset); got.ErrorCode != 0 || got.LowWatermark != tc.start {
			t.Errorf("code %d, low watermark %d, want %d", got.ErrorCode, got.LowWatermark, tc.start)
		}
		b.restart(t)
		c = dial(t, b.kafka)
		if got := listed(c, listRequest("t", 0, earliestOffset)).Offset; got != tc.start {
			t.Errorf("earliest offset %d after a restart, want %d", got, tc.start)
		}
		wantCode(t, "fetch below", fetched(c, fetchRequest(12, "t", protocol.TopicID{}, 0, tc.start-1)).ErrorCode, protocol.CodeOffsetOutOfRange)
		p := fetched(c, fetchRequest(12, "t", protocol.TopicID{}, 0, tc.start))
		if p.ErrorCode != 0 || p.LogStartOffset != tc.start {
			t.Errorf("fetch at the start: code %d, log start %d", p.ErrorCode, p.LogStartOffset)
		}
	}
	if off := c.produce("t", 0, batchOf("e")).BaseOffset; off != 9 {
		t.Errorf("C7: the next record is at %d, want 9", off)
	}
}
