package partition

import (
	"context"
	"slices"
	"testing"
)

// TestPeerAutoMQ1OffsetDeltaOverflow: extents, runs of them and partitions may span more offsets than an int32 counts; none
// gets lost or moved where the index is written, read and searched.
func TestPeerAutoMQ1OffsetDeltaOverflow(t *testing.T) {
	const span = int64(1) << 40
	w := newWorld(t)
	n := w.start()
	l := n.create(0)
	for i := range int64(2000) { // their slots are not needed
		l.recent = append(l.recent, Extent{Base: i * span, Last: (i+1)*span - 1, MaxTimestamp: i, Seq: i, Life: n.set.life, Pos: 512, Len: 70})
	}
	l.end, l.hw, l.rolls = 2000*span, 2000*span, []Roll{{Bytes: 1}}
	snap := l.snapshot(0)
	o := n.set.newManifestObject()
	if err := o.add(snap); err != nil {
		t.Fatal(err)
	}
	key, body := o.finish()
	if err := w.mem.Put(context.Background(), key, body); err != nil {
		t.Fatal(err)
	}
	w.meta.states[pid(0)].Manifest = &snap.pointer
	n = w.reopen(n.kill())
	l = n.log(0)
	for i := range int64(3) {
		l.try(plain(2, 5000+10*i))
		n.commit()
	}
	want := []int64{2000 * span, 2000*span + 2, 2000*span + 4}
	start := int64(0)
	for range 2 {
		n = w.reopen(n.kill())
		l = n.log(0)
		if got := l.offsets(t, want[0], 1<<20); !slices.Equal(got, want) {
			t.Fatalf("batches at %d, want %d", got, want)
		}
		if ts, offset, err := l.OffsetsForTime(context.Background(), 5010); ts != 5010 || offset != want[1] || err != nil {
			t.Errorf("time lookup: (%d, %d), %v, want offset %d", ts, offset, err, want[1])
		}
		if s := l.State(); s.HighWatermark != want[2]+2 || s.LogStart != start {
			t.Errorf("the log is from %d to %d, want %d to %d", s.LogStart, s.HighWatermark, start, want[2]+2)
		}
		start = 1999*span + 7
		if low, err := l.DeleteRecords(context.Background(), start); low != start || err != nil {
			t.Errorf("delete records: log start %d, %v", low, err)
		}
	}
}

// TestPeerAutoMQ15WatchMissesTheAcknowledgement: what is committed between a read that found nothing and the watch that it
// begins counts for the watch.
func TestPeerAutoMQ15WatchMissesTheAcknowledgement(t *testing.T) {
	n := newWorld(t).start()
	l := n.create(0)
	l.try(plain(1, 0))
	if r, err := l.Read(context.Background(), ReadInput{Offset: 0, MaxBytes: 1 << 20}); err != nil || r.Bytes != 0 || r.HighWatermark != 0 {
		t.Fatalf("read before the commit: %d bytes, high watermark %d, %v", r.Bytes, r.HighWatermark, err)
	}
	n.commit()
	w := NewWaiter(1)
	defer w.Close()
	l.Watch(w, 0)
	select {
	case <-w.C():
	default:
		t.Error("the watch waits for a record that is there")
	}
}
