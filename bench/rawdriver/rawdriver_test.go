package rawdriver

import (
	"bytes"
	"testing"

	"github.com/tidemill/tidemill/protocol/record"
)

// TestKeyedPlaces checks that the batches of a window have keys of their own, and that one frame's length serves all.
func TestKeyedPlaces(t *testing.T) {
	p := Produce{Topic: "state", Partitions: 2, Conns: 2, Depth: 3, PartsPerRequest: 1, BatchBytes: 4 << 10, RecordBytes: 1000, Keyed: true}
	seen := map[string]bool{}
	for conn := range p.Conns {
		pr := newProducer(p, conn, nil, KeyedBatch(p.BatchBytes, p.RecordBytes, 0))
		if len(pr.frames) != p.Depth*pr.size {
			t.Fatalf("%d bytes of frames of %d bytes", len(pr.frames), pr.size)
		}
		for place := range p.Depth {
			first := (conn*p.Depth + place) * int(pr.count)
			if !bytes.Contains(pr.frames[place*pr.size:(place+1)*pr.size], KeyedBatch(p.BatchBytes, p.RecordBytes, first)[record.HeaderSize:]) {
				t.Errorf("connection %d, place %d: not the batch of keys from %d on", conn, place, first)
			}
			for i := range int(pr.count) {
				key := KeyedBatch(200, 10, first+i).RecordBytes()
				if seen[string(key)] {
					t.Errorf("key %d comes twice", first+i)
				}
				seen[string(key)] = true
			}
		}
	}
}

// TestBatchFits checks that a batch is about as large as it was asked to be, with keys or without.
func TestBatchFits(t *testing.T) {
	for _, b := range []record.Batch{Batch(64<<10, 1000), KeyedBatch(64<<10, 1000, 0), KeyedBatch(64<<10, 100, 1<<30)} {
		if n := len(b); n > 64<<10 || n < 62<<10 {
			t.Errorf("%d bytes with %d records", n, b.NumRecords())
		}
	}
	if b := Batch(200, 100); b.NumRecords() != 1 {
		t.Errorf("%d records in a batch of 200 bytes", b.NumRecords())
	}
}
