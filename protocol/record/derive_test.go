package record

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDerive(t *testing.T) {
	from := buildBatch(3)
	from.SetBaseOffset(70)
	from.SetPartitionLeaderEpoch(5)
	var one Builder
	one.Append(1234, []byte("k"), []byte("v"))
	records := one.Build().RecordBytes()
	out := append(make(Batch, HeaderSize), records...)
	d := Derivation{Attributes: AttrDeleteHorizon | AttrTransactional, BaseTimestamp: 9999, MaxTimestamp: 1234, NumRecords: 1}
	Derive(out, from, d)
	if err := CheckCRC(out); err != nil {
		t.Fatal(err)
	}
	again, rest, err := Next(out)
	if err != nil || len(again) != len(out) || len(rest) != 0 {
		t.Fatalf("Next gives %d bytes and %d more, %v; want %d", len(again), len(rest), err, len(out))
	}
	got := Derivation{Attributes: out.Attributes(), BaseTimestamp: out.BaseTimestamp(), MaxTimestamp: out.MaxTimestamp(), NumRecords: out.NumRecords()}
	if diff := cmp.Diff(d, got); diff != "" {
		t.Errorf("derivation (-want +got):\n%s", diff)
	}
	if out.BaseOffset() != 70 || out.LastOffset() != from.LastOffset() || out.PartitionLeaderEpoch() != 5 ||
		out.ProducerID() != from.ProducerID() || out.ProducerEpoch() != from.ProducerEpoch() || out.BaseSequence() != from.BaseSequence() {
		t.Errorf("header is %x, made of %x", out[:HeaderSize], from[:HeaderSize])
	}
	if ms, ok := out.DeleteHorizon(); !ok || ms != 9999 {
		t.Errorf("delete horizon is %d, %v, want 9999", ms, ok)
	}
	if _, ok := from.DeleteHorizon(); ok {
		t.Error("a batch without the bit has a delete horizon")
	}
}

func TestLimits(t *testing.T) {
	for _, tc := range []struct {
		name             string
		limits           Limits
		packed, unpacked int
		want             bool
	}{
		{"free part", Limits{}, 0, ratioFree, true},
		{"past the free part", Limits{}, 0, ratioFree + 1, false},
		{"ratio", Limits{Ratio: 2}, 1000, ratioFree + 2000, true},
		{"past the ratio", Limits{Ratio: 2}, 1000, ratioFree + 2001, false},
		{"no ratio", StoredLimits, 0, defaultBytesMax, true},
		{"no ratio, past bytes", StoredLimits, 0, defaultBytesMax + 1, false},
		{"bytes", Limits{Bytes: 100}, 100, 100, true},
		{"past bytes", Limits{Bytes: 100}, 100, 101, false},
	} {
		if got := tc.unpacked <= tc.limits.bytesMax(tc.packed); got != tc.want {
			t.Errorf("%s: %d bytes may unpack to %d: %v", tc.name, tc.packed, tc.unpacked, got)
		}
	}
}
