package partition

import (
	"context"
	"errors"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/tidemill/tidemill/objectstore/faultstore"
)

// TestC2Rolls is where segments that users see begin, batch by batch.
func TestC2Rolls(t *testing.T) {
	type batch struct{ ts, size int64 }
	for _, tc := range []struct {
		name    string
		policy  Policy
		batches []batch // of one record each
		want    []int64 // bases
	}{
		{"by bytes: a batch that would exceed them begins a new one", Policy{SegmentBytes: 100, SegmentMs: 1 << 40},
			[]batch{{1, 50}, {1, 50}, {1, 1}, {1, 99}, {1, 1}}, []int64{0, 2, 4}},
		{"a batch larger than a segment has one of its own", Policy{SegmentBytes: 100, SegmentMs: 1 << 40},
			[]batch{{1, 500}, {1, 500}, {1, 10}, {1, 10}}, []int64{0, 1, 2}},
		{"by time: from the first batch's largest timestamp", Policy{SegmentBytes: 1 << 30, SegmentMs: 10},
			[]batch{{100, 1}, {110, 1}, {105, 1}, {111, 1}, {121, 1}, {122, 1}}, []int64{0, 3, 5}},
		{"time that goes back rolls nothing", Policy{SegmentBytes: 1 << 30, SegmentMs: 10}, []batch{{100, 1}, {5, 1}, {90, 1}}, []int64{0}},
		{"max.compaction.lag.ms bounds segment.ms of a compacted topic", Policy{Compact: true, SegmentBytes: 1 << 30, SegmentMs: 100, MaxCompactionLagMs: 10},
			[]batch{{100, 1}, {111, 1}}, []int64{0, 1}},
		{"and of no other", Policy{Delete: true, SegmentBytes: 1 << 30, SegmentMs: 100, MaxCompactionLagMs: 10}, []batch{{100, 1}, {111, 1}}, []int64{0}},
	} {
		var rolls []Roll
		for i, b := range tc.batches {
			rolls = appendRoll(rolls, &tc.policy, int64(i), int64(i), b.ts, b.size)
		}
		var got []int64
		for _, r := range rolls {
			got = append(got, r.Base)
		}
		if !slices.Equal(got, tc.want) {
			t.Errorf("%s: segments begin at %v, want %v", tc.name, got, tc.want)
		}
	}
	p := Policy{SegmentBytes: math.MaxInt64, SegmentMs: math.MaxInt64}
	rolls := appendRoll(nil, &p, 0, 0, 1, 1)
	if rolls = appendRoll(rolls, &p, 1, math.MaxInt32+1, 1, 1); len(rolls) != 2 {
		t.Error("a segment spans more offsets than Kafka's index holds")
	}
}

// TestC1Expiry is what retention lets go, by age and by size.
func TestC1Expiry(t *testing.T) {
	rolls := []Roll{
		{Base: 0, MaxTimestamp: 100, Bytes: 100}, {Base: 10, MaxTimestamp: 200, Bytes: 100}, {Base: 20, MaxTimestamp: 150, Bytes: 100},
		{Base: 30, MaxTimestamp: 300, Bytes: 50},
	}
	const end = 35
	for _, tc := range []struct {
		name      string
		policy    Policy
		now, want int64
	}{
		{"nothing is old or large", Policy{Delete: true, RetentionMs: 1000, RetentionBytes: 1000}, 500, 0},
		{"age is that of the largest timestamp, and more than the limit", Policy{Delete: true, RetentionMs: 100, RetentionBytes: -1}, 200, 0},
		{"one millisecond later", Policy{Delete: true, RetentionMs: 100, RetentionBytes: -1}, 201, 10},
		{"the first that is young keeps older ones behind it", Policy{Delete: true, RetentionMs: 100, RetentionBytes: -1}, 290, 10},
		{"the active one goes too", Policy{Delete: true, RetentionMs: 100, RetentionBytes: -1}, 401, end},
		{"a timestamp in the future blocks", Policy{Delete: true, RetentionMs: 0, RetentionBytes: -1}, 100, 0},
		{"retention.ms 0", Policy{Delete: true, RetentionMs: 0, RetentionBytes: -1}, 301, end},
		{"retention.ms -1 is for ever", Policy{Delete: true, RetentionMs: -1, RetentionBytes: -1}, math.MaxInt64, 0},
		{"the largest retention.ms does not overflow", Policy{Delete: true, RetentionMs: math.MaxInt64, RetentionBytes: -1}, math.MaxInt64, 0},
		{"size: whole segments while what is over covers them", Policy{Delete: true, RetentionMs: -1, RetentionBytes: 250}, 0, 10},
		{"one byte less over", Policy{Delete: true, RetentionMs: -1, RetentionBytes: 251}, 0, 0},
		{"down to the active one", Policy{Delete: true, RetentionMs: -1, RetentionBytes: 50}, 0, 30},
		{"which goes only for a limit of nothing", Policy{Delete: true, RetentionMs: -1, RetentionBytes: 0}, 0, end},
		{"size and age", Policy{Delete: true, RetentionMs: 100, RetentionBytes: 150}, 201, 20},
		{"compact alone ignores both", Policy{Compact: true, RetentionMs: 0, RetentionBytes: 0}, 1000, 0},
		{"compact,delete does not", Policy{Compact: true, Delete: true, RetentionMs: 100, RetentionBytes: -1}, 201, 10},
		{"no policy keeps all", Policy{RetentionMs: 0, RetentionBytes: 0}, 1000, 0},
	} {
		if got := tc.policy.expired(rolls, end, tc.now); got != tc.want {
			t.Errorf("%s: log start %d, want %d", tc.name, got, tc.want)
		}
	}
	p := Policy{Delete: true, RetentionMs: 5, RetentionBytes: -1}
	if got := p.expired([]Roll{{MaxTimestamp: math.MinInt64, Bytes: 1}, {Base: 1, MaxTimestamp: 10, Bytes: 1}}, 2, 10); got != 1 {
		t.Errorf("the smallest timestamp: log start %d, want 1", got)
	}
	if got := p.expired([]Roll{{Base: 7, MaxTimestamp: -1}}, 7, 1000); got != 7 {
		t.Errorf("an empty segment: log start %d, want 7", got)
	}
}

// filled makes a log with four closed rolls of three batches and an active one of one.
func filled(n *node, p *Policy) *Log {
	l := n.create(0)
	size := int64(len(plain(1, 0)))
	p.SegmentBytes = 3 * size
	l.SetPolicy(p)
	for i := range 13 {
		l.try(plain(1, n.now.UnixMilli()+int64(i)))
		n.commit()
	}
	return l
}

func TestRetentionMovesTheLogStartAndFreesObjects(t *testing.T) {
	w := newWorld(t)
	n := w.start()
	p := DefaultPolicy()
	p.RetentionBytes = 7 * int64(len(plain(1, 0)))
	l := filled(n, &p)
	l.try(plain(1, 0)) // not committed: no part of the log yet
	n.checkpointed(t)
	if err := n.set.Retain(context.Background()); err != nil {
		t.Fatal(err)
	}
	if st := l.State(); st.LogStart != 6 || st.HighWatermark != 13 {
		t.Errorf("log from %d to %d, want 6 to 13", st.LogStart, st.HighWatermark)
	}
	calls := w.meta.calls
	if err := n.set.Retain(context.Background()); err != nil || w.meta.calls != calls {
		t.Errorf("nothing more to do: %v, %d writes to metadata", err, w.meta.calls-calls)
	}
	n.commit()
	if got := w.reopen(n.kill()).log(0); got.State().LogStart != 6 || len(got.offsets(t, 6, 1000)) != 8 {
		t.Errorf("after kill -9: %+v", got.State())
	}
}

func TestRetentionOfEverythingKeepsOffsets(t *testing.T) {
	w := newWorld(t)
	n := w.start()
	p := DefaultPolicy()
	p.RetentionMs = 1000
	l := filled(n, &p)
	n.checkpointed(t)
	w.now = w.now.Add(time.Hour)
	if err := n.set.Retain(context.Background()); err != nil {
		t.Fatal(err)
	}
	if st := l.State(); st.LogStart != 13 || st.HighWatermark != 13 || l.SizeBytes() != 0 {
		t.Errorf("state %+v, %d bytes", st, l.SizeBytes())
	}
	n.deleted(t)
	if keys := append(w.keys(SegmentPrefix), w.keys("wal/")...); len(keys) != 0 {
		t.Errorf("left: %v", keys)
	}
	n = w.reopen(n.kill())
	l = n.log(0)
	o := l.try(plain(1, w.now.UnixMilli()))
	n.commit()
	o.want(t, "the next append", 13, nil)
	if err := n.set.Retain(context.Background()); err != nil || l.State().LogStart != 13 {
		t.Errorf("young data: %v, log start %d", err, l.State().LogStart)
	}
}

func TestRetentionFaults(t *testing.T) {
	for name, fault := range map[string]func(*world){
		"commit not applied":    func(w *world) { w.meta.before = errMeta },
		"commit applied, error": func(w *world) { w.meta.after, w.meta.apply = errMeta, 9 },
		"put not applied": func(w *world) {
			w.store.SetRules(faultstore.Rule{Op: faultstore.Put, Match: isManifest, Fault: faultstore.Lost})
		},
	} {
		w := newWorld(t)
		n := w.start()
		p := DefaultPolicy()
		p.RetentionBytes = 0
		l := filled(n, &p)
		fault(w)
		if err := n.set.Retain(context.Background()); err == nil || l.State().LogStart != 0 {
			t.Errorf("%s: %v, log start %d", name, err, l.State().LogStart)
		}
		w.meta.before, w.meta.after = nil, nil
		w.store.SetRules()
		if got := l.offsets(t, 0, 1000); len(got) != 13 {
			t.Errorf("%s: %d batches are served", name, len(got))
		}
		for range 2 { // the first finds out what became of the one before
			if err := n.set.Retain(context.Background()); err != nil || l.State().LogStart != 13 {
				t.Errorf("after %s: %v, log start %d", name, err, l.State().LogStart)
			}
		}
	}
}

// TestTidyWaitsForReaders: a read that began with what was there before a rewrite finds it, and one that comes later than any read may
// is planned anew.
func TestTidyWaitsForReaders(t *testing.T) {
	w := newWorld(t)
	n := w.start(func(o *Options) { o.TailBytes = 1 })
	l := n.create(0)
	small(t, n, l, 10)
	before := w.keys(SegmentPrefix)
	if err := n.set.Merge(context.Background()); err != nil {
		t.Fatal(err)
	}
	n.checkpointed(t)
	if err := n.set.deleteDue(context.Background()); err != nil {
		t.Fatal(err)
	}
	for _, key := range before {
		if _, err := w.mem.Get(context.Background(), key); err != nil {
			t.Errorf("%s: %v", key, err)
		}
	}
	n.deleted(t)
	if left := w.keys(SegmentPrefix); len(left) != 1 {
		t.Errorf("left: %v of %v", left, before)
	}
}

func TestDeletionsThatFailAreTriedAgain(t *testing.T) {
	w := newWorld(t)
	n := w.start()
	l := n.create(0)
	small(t, n, l, 3)
	w.store.SetRules(faultstore.Rule{Op: faultstore.Delete, Fault: faultstore.Lost})
	w.now = w.now.Add(n.set.opts.DeleteDelay)
	if err := n.set.deleteDue(context.Background()); !errors.Is(err, ErrStorage) {
		t.Errorf("delete: %v", err)
	}
	if len(w.keys("wal/")) != 3 {
		t.Error("slots are gone")
	}
	w.store.SetRules()
	n.deleted(t)
	if left := w.keys("wal/"); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}
