package partition

import (
	"context"
	"errors"
	"math"
	"sync"
	"testing"
	"time"

	"github.com/tidemill/tidemill/protocol/record"
	"github.com/tidemill/tidemill/wal"
)

func TestAppendIsAnsweredWhenCommitted(t *testing.T) {
	n := newWorld(t).start()
	l := n.create(0)
	a, b := l.try(plain(3, 10)), l.try(plain(2, 20))
	a.waits(t, "first")
	if st := l.State(); st.HighWatermark != 0 || st.EndOffset != 5 {
		t.Errorf("before the commit: %+v", st)
	}
	n.commit()
	a.want(t, "first", 0, nil)
	b.want(t, "second", 3, nil)
	if st := l.State(); st.HighWatermark != 5 || st.LastStable != 5 || st.EndOffset != 5 {
		t.Errorf("after the commit: %+v", st)
	}
	if a.res.LogAppendTime != -1 {
		t.Errorf("log append time %d on a create time topic", a.res.LogAppendTime)
	}
}

func TestAppendStampsOffsetAndEpoch(t *testing.T) {
	n := newWorld(t).start()
	l := n.set.Create(pid(0), 9)
	l.try(plain(4, 1))
	l.try(plain(1, 1))
	b := record.Batch(n.open[1].Data)
	if b.BaseOffset() != 4 || b.PartitionLeaderEpoch() != 9 || record.Check(b) != nil {
		t.Errorf("base offset %d, epoch %d, check %v", b.BaseOffset(), b.PartitionLeaderEpoch(), record.Check(b))
	}
}

func TestP1FiveBatchesAreRemembered(t *testing.T) {
	n := newWorld(t).start()
	l := n.create(0)
	for i := range 6 {
		l.try(producerBatch(1, 0, int32(i), 1, int64(i)))
		if i%2 == 0 {
			n.commit()
		}
	}
	n.commit()
	for i := 1; i < 6; i++ {
		o := l.try(producerBatch(1, 0, int32(i), 1, int64(i)))
		o.want(t, "one of the last five", int64(i), nil)
	}
	l.try(producerBatch(1, 0, 0, 1, 0)).want(t, "P7 the sixth last", -1, ErrOutOfOrderSequence)
}

func TestP1WindowCountsUncommittedBatches(t *testing.T) {
	n := newWorld(t).start()
	l := n.create(0)
	for i := range 3 {
		l.try(producerBatch(1, 0, int32(i), 1, 0))
	}
	n.commit()
	for i := 3; i < 6; i++ {
		l.try(producerBatch(1, 0, int32(i), 1, 0))
	}
	l.try(producerBatch(1, 0, 1, 1, 0)).want(t, "committed, fifth last", 1, nil)
	l.try(producerBatch(1, 0, 0, 1, 0)).want(t, "committed, sixth last", -1, ErrOutOfOrderSequence)
}

func TestP2Duplicate(t *testing.T) {
	n := newWorld(t).start()
	l := n.create(0)
	l.try(plain(5, 1))
	l.try(producerBatch(1, 0, 0, 3, 77))
	n.commit()
	o := l.try(producerBatch(1, 0, 0, 3, 77))
	o.want(t, "committed original", 5, nil)
	if !o.res.Duplicate || o.res.LogAppendTime != 79 {
		t.Errorf("duplicate is answered %+v, want the stored batch's max timestamp 79", o.res)
	}
	l.try(producerBatch(1, 0, 0, 2, 77)).want(t, "same first, other last", -1, ErrOutOfOrderSequence)
	if st := l.State(); st.EndOffset != 8 {
		t.Errorf("duplicates were appended: end %d", st.EndOffset)
	}
}

func TestP2DuplicateOfUncommittedWaitsForIt(t *testing.T) {
	n := newWorld(t).start()
	l := n.create(0)
	l.try(producerBatch(1, 0, 0, 1, 5))
	first := n.cut()
	l.try(producerBatch(1, 0, 1, 1, 6))
	dup0, dup1 := l.try(producerBatch(1, 0, 0, 1, 5)), l.try(producerBatch(1, 0, 1, 1, 6))
	dup0.waits(t, "W5 duplicate of 0")
	n.set.Committed(first)
	dup0.want(t, "duplicate of 0", 0, nil)
	dup1.waits(t, "W5 duplicate of 1")
	n.commit()
	dup1.want(t, "duplicate of 1", 1, nil)
}

func TestP3Sequence(t *testing.T) {
	type step struct {
		epoch int16
		seq   int32
		want  error
	}
	for _, tc := range []struct {
		name  string
		steps []step
	}{
		{"unknown producer begins anywhere", []step{{0, 42, nil}, {0, 43, nil}}},
		{"gap", []step{{0, 0, nil}, {0, 2, ErrOutOfOrderSequence}, {0, 1, nil}, {0, 2, nil}}},
		{"new epoch begins at 0", []step{{0, 0, nil}, {1, 1, ErrOutOfOrderSequence}, {1, 0, nil}, {1, 1, nil}}},
		{"P5 stale epoch", []step{{3, 0, nil}, {2, 1, ErrInvalidProducerEpoch}, {3, 1, nil}}},
		{"P5 stale epoch that looks like a duplicate", []step{{2, 0, nil}, {3, 0, nil}, {2, 0, ErrInvalidProducerEpoch}}},
		{"epoch -1 passes", []step{{-1, 0, nil}, {-1, 9, nil}, {0, 5, nil}, {-1, 0, ErrInvalidProducerEpoch}}},
		{"epoch -2 is invalid", []step{{-2, 0, ErrInvalidProducerEpoch}}},
		{"epoch 32767 passes", []step{{32767, 0, nil}, {32767, 1, nil}}},
		{"P4 wrap", []step{{0, math.MaxInt32, nil}, {0, 0, nil}, {0, 1, nil}}},
		{"P4 no wrap to 1", []step{{0, math.MaxInt32, nil}, {0, 1, ErrOutOfOrderSequence}}},
		{"P11 after a refused batch all later ones are refused", []step{{0, 0, nil}, {0, 2, ErrOutOfOrderSequence}, {0, 3, ErrOutOfOrderSequence}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			n := newWorld(t).start()
			l := n.create(0)
			for i, s := range tc.steps {
				o := l.try(producerBatch(1, s.epoch, s.seq, 1, 0))
				n.commit()
				if o.calls != 1 || !errors.Is(o.err, s.want) {
					t.Errorf("step %d epoch %d sequence %d: %v, want %v", i, s.epoch, s.seq, o.err, s.want)
				}
			}
		})
	}
}

func TestP4BatchStraddlesTheWrap(t *testing.T) {
	n := newWorld(t).start()
	l := n.create(0)
	l.try(producerBatch(1, 0, math.MaxInt32-1, 4, 0))
	n.commit()
	l.try(producerBatch(1, 0, math.MaxInt32-1, 4, 0)).want(t, "duplicate", 0, nil)
	o := l.try(producerBatch(1, 0, 2, 1, 0))
	n.commit()
	o.want(t, "next", 4, nil)
}

func TestP7WindowSurvivesRestart(t *testing.T) {
	w := newWorld(t)
	n := w.start()
	l := n.create(0)
	for i := range 4 {
		l.try(producerBatch(1, 2, int32(i), 1, 0))
	}
	n.commit()
	if err := n.set.Checkpoint(context.Background()); err != nil {
		t.Fatal(err)
	}
	for i := 4; i < 7; i++ {
		l.try(producerBatch(1, 2, int32(i), 1, 0))
	}
	n.commit()
	l.try(producerBatch(1, 2, 7, 1, 0)) // never cut: lost, and never acknowledged
	n2 := w.reopen(n.kill())
	l2 := n2.log(0)
	for i := 2; i < 7; i++ {
		l2.try(producerBatch(1, 2, int32(i), 1, 0)).want(t, "one of the last five", int64(i), nil)
	}
	l2.try(producerBatch(1, 2, 1, 1, 0)).want(t, "the sixth last", -1, ErrOutOfOrderSequence)
	o := l2.try(producerBatch(1, 2, 7, 1, 0))
	n2.commit()
	o.want(t, "what was lost is not a duplicate", 7, nil)
}

func TestManifestHoldsNoUncommittedProducerState(t *testing.T) {
	w := newWorld(t)
	n := w.start()
	l := n.create(0)
	l.try(producerBatch(1, 0, 0, 1, 0))
	n.commit()
	for i := 1; i < 6; i++ {
		l.try(producerBatch(1, 0, int32(i), 1, 0))
	}
	if err := n.set.Checkpoint(context.Background()); err != nil {
		t.Fatal(err)
	}
	n2 := w.reopen(n.kill())
	n2.log(0).try(producerBatch(1, 0, 0, 1, 0)).want(t, "committed", 0, nil)
	o := n2.log(0).try(producerBatch(1, 0, 1, 1, 0))
	n2.commit()
	o.want(t, "lost", 1, nil)
	if o.res.Duplicate {
		t.Error("a batch that was never durable is taken for a duplicate")
	}
}

func TestP2AnOlderEpochsBatchIsNoDuplicate(t *testing.T) {
	w := newWorld(t)
	n := w.start()
	l := n.create(0)
	for i := range 3 {
		l.try(producerBatch(1, 0, int32(i), 1, 0))
	}
	n.commit()
	l.try(producerBatch(1, 1, 0, 1, 0)) // not committed
	l.try(producerBatch(1, 1, 2, 1, 0)).want(t, "sequence 2 of epoch 1", -1, ErrOutOfOrderSequence)
	if err := n.set.Checkpoint(context.Background()); err != nil {
		t.Fatal(err)
	}
	l = w.reopen(n.kill()).log(0)
	l.try(producerBatch(1, 0, 2, 1, 0)).want(t, "epoch 1 was lost, so epoch 0 goes on", 2, nil)
}

func TestP8Expiry(t *testing.T) {
	w := newWorld(t)
	n := w.start()
	l := n.create(0)
	l.try(producerBatch(1, 0, 0, 1, 0))
	n.commit()
	w.now = w.now.Add(24*time.Hour - time.Millisecond)
	l.try(producerBatch(1, 0, 5, 1, 0)).want(t, "just before", -1, ErrOutOfOrderSequence)
	w.now = w.now.Add(time.Millisecond)
	o := l.try(producerBatch(1, 0, 5, 1, 0))
	w.now = w.now.Add(48 * time.Hour)
	n.set.expireProducers()
	n.commit()
	o.want(t, "expired: any sequence", 1, nil)
	n.set.expireProducers()
	if l.producers != nil {
		t.Error("the sweep keeps expired producers")
	}
}

func TestCoordinatorAppendsSkipSequences(t *testing.T) {
	n := newWorld(t).start()
	l := n.create(0)
	for _, seq := range []int32{4, 9} {
		var got error = errors.New("not called")
		l.Append(AppendInput{Batch: producerBatch(1, 0, seq, 1, 0), Origin: OriginCoordinator, LogAppendTime: -1}, func(_ AppendResult, err error) { got = err })
		n.commit()
		if got != nil {
			t.Errorf("sequence %d: %v", seq, got)
		}
	}
}

func TestW6Fenced(t *testing.T) {
	n := newWorld(t).start()
	l := n.create(0)
	l.try(producerBatch(1, 0, 0, 2, 0))
	n.commit()
	a, dup := l.try(producerBatch(1, 0, 2, 1, 0)), l.try(producerBatch(1, 0, 2, 1, 0))
	waiter := NewWaiter(1)
	defer waiter.Close()
	l.Watch(waiter, 2)
	n.set.Fenced(wal.ErrFenced)
	a.want(t, "pending", -1, ErrNotLeader)
	dup.want(t, "pending duplicate", -1, ErrNotLeader)
	l.try(plain(1, 0)).want(t, "later append", -1, ErrNotLeader)
	n.set.Create(pid(5), 0).try(plain(1, 0)).want(t, "log created later", -1, ErrNotLeader)
	if got := l.offsets(t, 0, 1000); len(got) != 1 {
		t.Errorf("committed batches after the fence: %v", got)
	}
	select {
	case <-waiter.C():
	default:
		t.Error("the long poll sleeps on")
	}
	if err := n.set.Checkpoint(context.Background()); !errors.Is(err, ErrNotLeader) {
		t.Errorf("checkpoint of a fenced life: %v", err)
	}
}

func TestWriterRefuses(t *testing.T) {
	n := newWorld(t).start()
	l := n.create(0)
	n.err = wal.ErrClosed
	l.try(producerBatch(1, 0, 0, 1, 0)).want(t, "closed", -1, ErrNotLeader)
	n.err = errors.New("too large")
	l.try(producerBatch(1, 0, 0, 1, 0)).want(t, "other", -1, ErrStorage)
	n.err = nil
	o := l.try(producerBatch(1, 0, 7, 1, 0))
	n.commit()
	o.want(t, "a refused batch leaves no trace", 0, nil)
}

func TestDelete(t *testing.T) {
	n := newWorld(t).start()
	l := n.create(0)
	a := l.try(plain(1, 0))
	waiter := NewWaiter(1)
	defer waiter.Close()
	l.Watch(waiter, 0)
	n.set.Delete(pid(0))
	a.waits(t, "pending") // the write-ahead log still reads its bytes
	l.try(plain(1, 0)).want(t, "append", -1, ErrUnknownPartition)
	if _, err := l.Read(context.Background(), ReadInput{}); !errors.Is(err, ErrUnknownPartition) {
		t.Errorf("read: %v", err)
	}
	select {
	case <-waiter.C():
	default:
		t.Error("the long poll sleeps on")
	}
	n.commit()
	a.want(t, "pending", -1, ErrUnknownPartition)
	if len(n.set.leaving) > 0 {
		t.Error("the deleted log is kept")
	}
}

func TestDeleteThenFence(t *testing.T) {
	n := newWorld(t).start()
	a := n.create(0).try(plain(1, 0))
	n.set.Delete(pid(0))
	n.set.Fenced(wal.ErrFenced)
	a.want(t, "pending", -1, ErrUnknownPartition)
}

func TestForeignChunkStopsThePartitionAndTrim(t *testing.T) {
	n := newWorld(t).start()
	l := n.create(0)
	l.try(plain(1, 0))
	n.cut() // never committed
	a := l.try(plain(1, 0))
	n.commit()
	a.want(t, "hole", -1, ErrCorrupt)
	if err := n.set.Checkpoint(context.Background()); !errors.Is(err, ErrCorrupt) {
		t.Errorf("checkpoint: %v", err)
	}
	if trim := n.meta.trims[n.life]; trim != 0 {
		t.Errorf("G1: trimmed to %d over a chunk that is in no manifest", trim)
	}
}

func TestConcurrentAppendsKeepOrder(t *testing.T) {
	n := newWorld(t).start()
	l := n.create(0)
	const workers, each = 8, 50
	var wg sync.WaitGroup
	var done sync.WaitGroup
	done.Add(workers * each)
	for p := range workers {
		wg.Go(func() {
			for i := range each {
				l.Append(AppendInput{Batch: producerBatch(int64(p), 0, int32(i), 1, 0)}, func(_ AppendResult, err error) {
					if err != nil {
						t.Error(err)
					}
					done.Done()
				})
			}
		})
	}
	stop := make(chan struct{})
	go func() { wg.Wait(); close(stop) }()
	for open := true; open; {
		select {
		case <-stop:
			open = false
		default:
		}
		n.commit()
	}
	done.Wait()
	if got := l.offsets(t, 0, 1<<20); len(got) != workers*each {
		t.Errorf("%d batches, want %d", len(got), workers*each)
	}
}
