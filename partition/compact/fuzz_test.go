package compact

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/tidemill/tidemill/protocol/record"
)

var fuzzLimits = record.Limits{Bytes: 1 << 20}

// fuzzBatch makes a batch of any bytes: its length and checksum are right, and with keepCount less than 0x80 so is the count of
// records, if there is a right one.
func fuzzBatch(data []byte, keepCount byte) record.Batch {
	if len(data) < record.HeaderSize {
		return nil
	}
	b := record.Batch(bytes.Clone(data))
	b[16] = 2
	d := record.Derivation{Attributes: b.Attributes(), BaseTimestamp: b.BaseTimestamp(), MaxTimestamp: b.MaxTimestamp(), NumRecords: b.NumRecords()}
	if unpacked, err := record.Decompress(b, fuzzLimits); keepCount < 0x80 && err == nil {
		d.NumRecords = 0
		for at := 0; at < len(unpacked); d.NumRecords++ {
			n, size := binary.Varint(unpacked[at:])
			if size <= 0 || n < 0 || n > int64(len(unpacked)-at-size) {
				break
			}
			at += size + int(n)
		}
	}
	record.Derive(b, bytes.Clone(b), d)
	return b
}

func fuzzSeeds(f *testing.F) {
	for codec := range int16(5) {
		x := plain(
			kv(0, "a", "1"), kv(1, null, "2"), kv(2, "b", null), kv(3, "a", ""),
			testRecord{offset: 7, time: -1, key: "", value: "x", headers: []record.Header{{Key: "h"}, {Key: "", Value: []byte("v")}}},
		).by(5).with(codec)
		f.Add([]byte(x.build(f)), []byte(x.with(txnBits|record.AttrDeleteHorizon).build(f)), byte(0))
	}
	f.Add([]byte(marker(3, 5, markerAbort).build(f)), []byte(marker(9, 5, markerCommit).build(f)), byte(0xff))
}

// FuzzAddBatch: the map sees what record.Records sees, or there is an error.
func FuzzAddBatch(f *testing.F) {
	fuzzSeeds(f)
	f.Fuzz(func(t *testing.T, data, _ []byte, keepCount byte) {
		b := fuzzBatch(data, keepCount)
		if b == nil {
			return
		}
		m := NewKeyMap(1 << 16)
		full, err := m.AddBatch(b, 0, fuzzLimits)
		if err != nil || full || b.IsControl() {
			return
		}
		records, err := readRecords(b, fuzzLimits)
		if err != nil {
			t.Fatalf("noted a batch that cannot be read: %v", err)
		}
		newest := map[string]int64{}
		for _, r := range records {
			if r.key != null {
				newest[r.key] = r.offset
			}
		}
		if m.Len() != len(newest) || m.End() != b.LastOffset()+1 {
			t.Fatalf("%d keys to %d, want %d to %d", m.Len(), m.End(), len(newest), b.LastOffset()+1)
		}
		for key, offset := range newest {
			if h := hashOf([]byte(key)); m.superseded(h, offset) || !m.superseded(h, offset-1) {
				t.Fatalf("key %q: newest is not %d", key, offset)
			}
		}
	})
}

// FuzzClean: what comes out is a batch that can be read, of some records of the one that went in.
func FuzzClean(f *testing.F) {
	fuzzSeeds(f)
	f.Fuzz(func(t *testing.T, data, newer []byte, keepCount byte) {
		b := fuzzBatch(data, keepCount)
		if b == nil {
			return
		}
		m := NewKeyMap(1 << 16)
		for _, x := range []record.Batch{b, fuzzBatch(newer, keepCount)} {
			if x != nil {
				_, _ = m.AddBatch(x, 0, fuzzLimits)
			}
		}
		r := Round{Keys: m, Now: now, DeleteRetentionMs: retention, UpperBound: b.LastOffset() + 1, Limits: fuzzLimits}
		c, what, err := r.Clean(b)
		if err != nil {
			return
		}
		if what == Dropped {
			t.Fatal("C5: the last batch is dropped")
		}
		was, err := readRecords(b, fuzzLimits)
		if err != nil {
			t.Fatalf("cleaned a batch that cannot be read: %v", err)
		}
		sameRest(t, b, c)
		is := read(t, c)
		if what == Kept && len(is) != len(was) || what == Emptied && len(is) != 0 {
			t.Fatalf("%s, %d of %d records", outcomes[what], len(is), len(was))
		}
		for _, x := range is {
			for len(was) > 0 && was[0].offset < x.offset {
				was = was[1:]
			}
			if len(was) == 0 || was[0].time != x.time || was[0].key != x.key || was[0].value != x.value || len(was[0].headers) != len(x.headers) {
				t.Fatalf("record %d at %d, %d bytes of key and %d of value, is another one", x.offset, x.time, len(x.key), len(x.value))
			}
		}
	})
}
