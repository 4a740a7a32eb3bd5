package partition

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/tidemill/tidemill/protocol/record"
)

func timed(ts ...int64) record.Batch {
	var rb record.Builder
	for _, x := range ts {
		rb.Append(x, nil, []byte("v"))
	}
	return rb.Build()
}

// timeline has unordered times in three chunks: offsets 0-2, 3-5, 6-8.
func timeline(n *node, l *Log) {
	l.try(timed(10, 30, 20))
	n.commit()
	l.try(timed(5, 30))
	l.try(timed(40))
	n.commit()
	l.try(timed(15, 50, 50))
	n.commit()
}

func TestL2FirstRecordAtOrAfter(t *testing.T) {
	for _, where := range []string{"tail", "store"} {
		n := newWorld(t).start()
		l := n.create(0)
		timeline(n, l)
		if where == "store" {
			l = n.world.reopen(n.kill()).log(0)
		}
		l.try(timed(99)) // not committed
		for _, tc := range []struct{ ts, wantTS, wantOffset int64 }{
			{0, 10, 0}, {10, 10, 0}, {11, 30, 1}, {30, 30, 1}, {31, 40, 5}, {41, 50, 7}, {50, 50, 7}, {51, -1, -1}, {99, -1, -1},
		} {
			ts, offset, err := l.OffsetsForTime(context.Background(), tc.ts)
			if err != nil || ts != tc.wantTS || offset != tc.wantOffset {
				t.Errorf("%s: time %d: (%d, %d), %v, want (%d, %d)", where, tc.ts, ts, offset, err, tc.wantTS, tc.wantOffset)
			}
		}
	}
}

func TestL2SkipsWhatIsBelowTheLogStart(t *testing.T) {
	n := newWorld(t).start()
	l := n.create(0)
	timeline(n, l)
	if _, err := l.DeleteRecords(context.Background(), 2); err != nil {
		t.Fatal(err)
	}
	if ts, offset, err := l.OffsetsForTime(context.Background(), 21); err != nil || ts != 30 || offset != 4 {
		t.Errorf("(%d, %d), %v, want (30, 4)", ts, offset, err)
	}
}

func TestL1MaxTimestamp(t *testing.T) {
	n := newWorld(t).start()
	l := n.create(0)
	check := func(name string, wantTS, wantOffset int64) {
		t.Helper()
		if ts, offset, err := l.MaxTimestamp(context.Background()); err != nil || ts != wantTS || offset != wantOffset {
			t.Errorf("%s: (%d, %d), %v, want (%d, %d)", name, ts, offset, err, wantTS, wantOffset)
		}
	}
	check("empty", -1, -1)
	l.try(timed(70, 80, 60))
	n.commit()
	timeline(n, l)
	check("first of several", 80, 1)
	if _, err := l.DeleteRecords(context.Background(), 2); err != nil {
		t.Fatal(err)
	}
	check("largest is below the log start, in its batch", 60, 2)
	if _, err := l.DeleteRecords(context.Background(), 3); err != nil {
		t.Fatal(err)
	}
	check("behind", 50, 10)
	if _, err := l.DeleteRecords(context.Background(), -1); err != nil {
		t.Fatal(err)
	}
	check("all deleted", -1, -1)
}

func TestC9LogAppendTime(t *testing.T) {
	n := newWorld(t).start()
	l := n.create(0)
	b := timed(10, 30, 20)
	b.SetLogAppendTime(500)
	var got AppendResult
	l.Append(AppendInput{Batch: b, LogAppendTime: 500}, func(r AppendResult, _ error) { got = r })
	n.commit()
	if got.LogAppendTime != 500 {
		t.Errorf("answer: %+v", got)
	}
	if ts, offset, err := l.OffsetsForTime(context.Background(), 100); err != nil || ts != 500 || offset != 0 {
		t.Errorf("(%d, %d), %v, want (500, 0)", ts, offset, err)
	}
}

func TestE2EndOffsetForEpoch(t *testing.T) {
	n := newWorld(t).start()
	l := n.create(0)
	l.epoch, l.hw, l.end = 9, 100, 100
	l.epochs = []Epoch{{Epoch: 3, Start: 10}, {Epoch: 5, Start: 20}, {Epoch: 9, Start: 60}}
	for _, tc := range []struct {
		name            string
		epoch           int32
		wantEpoch       int32
		wantEnd, wantAt int64
	}{
		{"current", 9, 9, 100, 0},
		{"known", 5, 5, 60, 0},
		{"between", 7, 5, 60, 0},
		{"oldest", 3, 3, 20, 0},
		{"below all", 1, 1, 10, 0},
		{"above all", 10, -1, -1, 0},
		{"none", -1, -1, -1, 0},
	} {
		if e, end := l.EndOffsetForEpoch(tc.epoch); e != tc.wantEpoch || end != tc.wantEnd {
			t.Errorf("%s: (%d, %d), want (%d, %d)", tc.name, e, end, tc.wantEpoch, tc.wantEnd)
		}
	}
	for offset, want := range map[int64]int32{9: -1, 10: 3, 19: 3, 20: 5, 60: 9, 100: 9} {
		if got := l.EpochAt(offset); got != want {
			t.Errorf("epoch at %d is %d, want %d", offset, got, want)
		}
	}
}

func TestE1EpochsGrowAndEmptyOnesCollapse(t *testing.T) {
	w := newWorld(t)
	n := w.start()
	n.create(0).try(plain(3, 0))
	n.commit()
	n = w.reopen(n.kill()) // epoch 1 from 3, empty
	n = w.reopen(n.kill()) // epoch 2 from 3
	l := n.log(0)
	l.try(plain(1, 0))
	n.commit()
	n = w.reopen(n.kill())
	l = n.log(0)
	if st := l.State(); st.LeaderEpoch != 3 || st.HighWatermark != 4 {
		t.Errorf("state %+v", st)
	}
	for _, tc := range []struct {
		epoch, want int32
		end         int64
	}{{0, 0, 3}, {1, 0, 3}, {2, 2, 4}, {3, 3, 4}, {4, -1, -1}} {
		if e, end := l.EndOffsetForEpoch(tc.epoch); e != tc.want || end != tc.end {
			t.Errorf("epoch %d: (%d, %d), want (%d, %d)", tc.epoch, e, end, tc.want, tc.end)
		}
	}
}

// A lookup lets go of the slots that it read: their memory is used again once the tail has dropped them.
func TestLookupReleasesSlots(t *testing.T) {
	n := newWorld(t).start()
	l := n.create(0)
	l.try(timed(10, 30, 20))
	s := n.cut()
	n.set.Committed(s)
	s.Object.Release()
	if _, offset, err := l.OffsetsForTime(context.Background(), 20); err != nil || offset != 1 {
		t.Fatalf("offset %d, %v", offset, err)
	}
	if _, offset, err := l.MaxTimestamp(context.Background()); err != nil || offset != 1 {
		t.Fatalf("offset %d, %v", offset, err)
	}
	s.Object.Release() // the tail's
	if size := s.Object.Size(); size != 0 {
		t.Errorf("a slot of %d bytes is held by nobody", size)
	}
}

// TestLookupsUnpackInTurn: a lookup unpacks a compressed batch only when there is room among those that are unpacked at a time, waits for
// that no longer than its client does, and gives the room back.
func TestLookupsUnpackInTurn(t *testing.T) {
	n := newWorld(t).start(func(o *Options) { o.Unpacking = make(chan struct{}, 1) })
	packed, err := record.Recompress(timed(10, 30, 20), record.Zstd, 3, record.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	plain, zipped := n.create(0), n.create(1)
	plain.try(timed(10, 30, 20))
	zipped.try(packed)
	n.commit()
	lookups := map[string]func(context.Context, *Log) (int64, int64, error){
		"by time": func(ctx context.Context, l *Log) (int64, int64, error) { return l.OffsetsForTime(ctx, 20) },
		"largest": func(ctx context.Context, l *Log) (int64, int64, error) { return l.MaxTimestamp(ctx) },
	}
	unpacking := n.set.opts.Unpacking
	for name, lookup := range lookups {
		impatient, cancel := context.WithCancel(context.Background())
		cancel()
		unpacking <- struct{}{}
		if _, _, err := lookup(impatient, zipped); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: no room to unpack: %v", name, err)
		}
		if _, offset, err := lookup(impatient, plain); offset != 1 || err != nil {
			t.Errorf("%s: nothing to unpack: offset %d, %v", name, offset, err)
		}
		<-unpacking
		var lookers sync.WaitGroup
		for range 3 { // one after the other
			lookers.Go(func() {
				if _, offset, err := lookup(context.Background(), zipped); offset != 1 || err != nil {
					t.Errorf("%s: offset %d, %v", name, offset, err)
				}
			})
		}
		lookers.Wait()
		if len(unpacking) != 0 {
			t.Errorf("%s: the room is not given back", name)
		}
	}
}

// TestTightlyPackedBatchIsRead: what is stored is read, however well it was packed: looked up by time, compacted, and looked up again.
func TestTightlyPackedBatchIsRead(t *testing.T) {
	n := newWorld(t).start()
	l := n.create(0)
	p := DefaultPolicy()
	p.Delete, p.Compact, p.MinCleanableRatio, p.SegmentBytes = false, true, 0.01, 100
	l.SetPolicy(&p)
	var rb record.Builder
	rb.Append(1000, []byte("a"), []byte("old"))
	rb.Append(1000, []byte("b"), make([]byte, 6<<20))
	packed, err := record.Recompress(rb.Build(), record.Zstd, 3, record.StoredLimits)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := record.CheckRecords(packed, record.Limits{}); !errors.Is(err, record.ErrBomb) {
		t.Fatalf("a batch of %d bytes: %v", len(packed), err)
	}
	l.try(packed)
	l.try(keyed(2000, "a"))
	l.try(keyed(3000, "c"))
	n.commit()
	for want := range int64(2) { // compaction takes offset 0
		if _, offset, err := l.OffsetsForTime(context.Background(), 500); err != nil || offset != want {
			t.Errorf("time 500 is at offset %d, want %d, %v", offset, want, err)
		}
		n.checkpointed(t)
		if _, err := n.set.Compact(context.Background()); err != nil || l.uncleanable {
			t.Fatalf("compaction: %v; given up: %v", err, l.uncleanable)
		}
	}
}
