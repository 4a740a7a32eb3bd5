package compact

import (
	"bytes"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/protocol/record"
)

func TestCleanErrors(t *testing.T) {
	good := plain(kv(0, "a", "1"), kv(1, "b", "2"), kv(2, "a", "3"))
	edit := func(x testBatch, f func(b record.Batch, d *record.Derivation)) record.Batch {
		b := x.build(t)
		d := record.Derivation{Attributes: b.Attributes(), BaseTimestamp: b.BaseTimestamp(), MaxTimestamp: b.MaxTimestamp(), NumRecords: b.NumRecords()}
		f(b, &d)
		record.Derive(b, bytes.Clone(b), d)
		return b
	}
	count := func(n int32) record.Batch {
		return edit(good, func(_ record.Batch, d *record.Derivation) { d.NumRecords = n })
	}
	shortKey := marker(0, 5, markerCommit)
	shortKey.records[0].key = "abc"
	bomb := plain(kv(0, "a", strings.Repeat("0", 6<<20))).with(int16(record.Zstd))
	disorder := plain(kv(0, "a", "1"), kv(1, "b", "1"))
	disorder.records[1].offset = 0
	for _, tc := range []struct {
		name    string
		b       record.Batch
		want    error
		control bool
	}{
		{"too many records claimed", count(4), record.ErrInvalid, false},
		{"very many records claimed", count(math.MaxInt32), record.ErrInvalid, false},
		{"too few records claimed", count(2), record.ErrInvalid, false},
		{"no records claimed", count(0), record.ErrInvalid, false},
		{"less than no records", count(-1), record.ErrInvalid, false},
		{"offsets do not rise", disorder.build(t), record.ErrInvalid, false},
		{"offset behind the batch", edit(good, func(b record.Batch, _ *record.Derivation) { b[26] = 1 }), record.ErrInvalid, false},
		{"last offset before the base", edit(good, func(b record.Batch, _ *record.Derivation) { b[23] = 0xff }), record.ErrInvalid, false},
		{"negative base offset", edit(good, func(b record.Batch, _ *record.Derivation) { b.SetBaseOffset(-1) }), record.ErrInvalid, false},
		{"key longer than its record", edit(good, func(b record.Batch, _ *record.Derivation) { b[record.HeaderSize+5] = 0x7e }), record.ErrInvalid, false},
		{"record longer than the batch", edit(good, func(b record.Batch, _ *record.Derivation) { b[record.HeaderSize] = 0x7e }), record.ErrInvalid, false},
		{"unknown codec", edit(good, func(_ record.Batch, d *record.Derivation) { d.Attributes |= 7 }), record.ErrCodec, false},
		{"does not unpack", edit(good, func(_ record.Batch, d *record.Derivation) { d.Attributes |= int16(record.LZ4) }), record.ErrCorrupt, false},
		{"bomb", bomb.build(t), record.ErrBomb, false},
		{"control record without a type", shortKey.build(t), record.ErrInvalid, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			limits := record.Limits{Ratio: 3}
			if _, err := NewKeyMap(1<<10).AddBatch(tc.b, 0, limits); !errors.Is(err, tc.want) && !tc.control {
				t.Errorf("AddBatch: %v, want %v", err, tc.want)
			}
			r := Round{Keys: mapOf(t, buildAll(t, plain(kv(9, "z", "2"))), 0), Now: now, Limits: limits}
			if out, _, err := r.Clean(tc.b); !errors.Is(err, tc.want) || out != nil {
				t.Errorf("Clean: %d bytes, %v, want %v", len(out), err, tc.want)
			}
		})
	}
}

// TestDamageIsNotHidden: a batch with a wrong checksum gets no right one.
func TestDamageIsNotHidden(t *testing.T) {
	log := buildAll(t, plain(kv(0, "a", "1"), kv(1, "b", "2")), plain(kv(2, "a", "1")), plain(kv(3, "a", "1")))
	for upper, b := range map[int64]record.Batch{0: log[0], 3: log[1]} {
		b[17] ^= 1
		r := Round{Keys: mapOf(t, log, 0), Now: now, UpperBound: upper}
		if out, what, err := r.Clean(b); !errors.Is(err, record.ErrCorrupt) {
			t.Errorf("outcome %d, %d bytes, %v", what, len(out), err)
		}
	}
}
