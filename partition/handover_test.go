package partition

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"testing/synctest"

	"github.com/tidemill/tidemill/metadata"
	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/wal"
)

// handOver starts to give a partition away and returns what waits for the end.
func (n *node) handOver(ctx context.Context, p int32, to wal.Life) (wait func() ([]protocol.PartitionID, error)) {
	type result struct {
		moved []protocol.PartitionID
		err   error
	}
	ended := make(chan result, 1)
	go func() {
		moved, err := n.set.HandOver(ctx, []Transfer{{pid(p), to}})
		ended <- result{moved, err}
	}()
	return func() ([]protocol.PartitionID, error) {
		r := <-ended
		return r.moved, r.err
	}
}

// moves waits until a log lets appends wait.
func (l *Log) moves(t *testing.T) {
	t.Helper()
	for {
		l.mu.Lock()
		moving := l.moving != nil
		l.mu.Unlock()
		if moving {
			return
		}
		runtime.Gosched()
	}
}

// TestHandOver: what was admitted is committed first, what comes meanwhile is sent to the new owner, who knows the producers, the epochs
// and every record; nothing was copied.
func TestHandOver(t *testing.T) {
	w := newWorld(t)
	a, b := w.start(), w.start()
	l := a.create(0)
	l.try(producerBatch(9, 0, 0, 2, 100))
	a.commit()
	admitted := l.try(producerBatch(9, 0, 2, 3, 200))
	wait := a.handOver(t.Context(), 0, b.life)
	l.moves(t)
	late := l.try(producerBatch(9, 0, 5, 1, 300))
	admitted.waits(t, "an append that was admitted")
	a.commit()
	if moved, err := wait(); err != nil || len(moved) != 1 {
		t.Fatal(moved, err)
	}
	admitted.want(t, "admitted", 2, nil)
	late.want(t, "an append that came meanwhile", -1, ErrNotLeader)
	l.try(plain(1, 0)).want(t, "an append to the log that moved", -1, ErrNotLeader)
	if _, err := l.Read(t.Context(), ReadInput{MaxBytes: 1000}); !errors.Is(err, ErrNotLeader) {
		t.Errorf("a read of the log that moved: %v", err)
	}
	if _, ok := a.set.Get(pid(0)); ok {
		t.Error("the old owner has the log still")
	}

	states, _ := w.meta.States(t.Context(), []protocol.PartitionID{pid(0)})
	if adopted, err := b.set.Adopt(t.Context(), states); err != nil || len(adopted) != 1 {
		t.Fatal(adopted, err)
	}
	if again, err := b.set.Adopt(t.Context(), states); err != nil || len(again) != 0 {
		t.Errorf("adopted again: %v, %v", again, err)
	}
	m := b.log(0)
	if st := m.State(); st.HighWatermark != 5 || st.EndOffset != 5 || st.LeaderEpoch != 1 {
		t.Fatalf("the new owner has %+v", st)
	}
	if epoch, end := m.EndOffsetForEpoch(0); epoch != 0 || end != 5 {
		t.Errorf("epoch 0 ends at %d of epoch %d, want 5", end, epoch)
	}
	if got := m.offsets(t, 0, 5); len(got) != 2 {
		t.Errorf("the new owner reads batches %v", got)
	}
	m.try(producerBatch(9, 0, 2, 3, 200)).want(t, "a repeated batch", 2, nil)
	next := m.try(producerBatch(9, 0, 5, 1, 300))
	b.commit()
	next.want(t, "the producer's next batch", 5, nil)
	if err := b.set.Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := a.set.takeBack(t.Context()); err != nil || len(a.set.lent.all()) != 0 {
		t.Errorf("slots are lent still: %v, %v", a.set.lent.all(), err)
	}
	if a.set.Create(pid(0), 0) != nil {
		t.Error("a partition that moved is new again")
	}
	if a.set.Delete(pid(0)); len(a.set.departed) != 0 {
		t.Errorf("partitions that do not exist are remembered: %v", a.set.departed)
	}
}

// TestAdoptWhatIsClaimed: the claim of a partition is accepted, its answer was lost, and somebody opens the partition because metadata says
// that it is ours. There is one log of it.
func TestAdoptWhatIsClaimed(t *testing.T) {
	w := newWorld(t)
	a := w.start()
	a.create(0).try(plain(1, 0))
	a.commit()
	recoveries := a.kill()
	b := w.start()
	states, _ := w.meta.Partitions(t.Context())
	claims, err := b.set.Open(t.Context(), states, recoveries)
	if err != nil {
		t.Fatal(err)
	}
	w.meta.claim(t, b.life, claims)
	states, _ = w.meta.Partitions(t.Context())
	if adopted, err := b.set.Adopt(t.Context(), states); err != nil || len(adopted) != 1 {
		t.Fatal(adopted, err)
	}
	l := b.log(0)
	l.try(plain(1, 0))
	if err := b.set.Claimed(t.Context()); err != nil {
		t.Fatal(err)
	}
	if b.log(0) != l {
		t.Fatal("another log took the place of the one that has appends")
	}
	b.commit()
	if err := b.set.Checkpoint(t.Context()); err != nil {
		t.Error(err)
	}
	if got := l.offsets(t, 0, 1000); len(got) != 2 {
		t.Errorf("batches %v", got)
	}
}

// TestClaimedAndGone: the claim of a partition is accepted, its answer was lost, somebody adopts the partition, and it moves on. Who then
// goes on with the claim, by what metadata said before the move, must not bring it back.
func TestClaimedAndGone(t *testing.T) {
	w := newWorld(t)
	a := w.start()
	a.create(0).try(plain(1, 0))
	a.commit()
	recoveries := a.kill()
	b, c := w.start(), w.start()
	states, _ := w.meta.Partitions(t.Context())
	claims, err := b.set.Open(t.Context(), states, recoveries)
	if err != nil {
		t.Fatal(err)
	}
	w.meta.claim(t, b.life, claims)
	before, _ := w.meta.Partitions(t.Context())
	if adopted, err := b.set.Adopt(t.Context(), before); err != nil || len(adopted) != 1 {
		t.Fatal(adopted, err)
	}
	b.goesOn(t, c)
	if _, err := b.set.Open(t.Context(), before, nil); err != nil {
		t.Fatal(err)
	}
	if _, open := b.set.Get(pid(0)); open {
		t.Error("the log of a partition that left is open again")
	}
	c.log(0).try(plain(1, 0))
	c.commit()
	c.goesOn(t, b) // at a later epoch it may come
	if got := b.log(0).offsets(t, 0, 1000); len(got) != 2 {
		t.Errorf("batches %v", got)
	}
}

// TestHandOverRefused: the target's log has ended, so the partition stays, and what came meanwhile goes on in order.
func TestHandOverRefused(t *testing.T) {
	w := newWorld(t)
	a, b := w.start(), w.start()
	l := a.create(0)
	first := l.try(producerBatch(9, 0, 0, 1, 100))
	b.kill()
	wait := a.handOver(t.Context(), 0, b.life)
	l.moves(t)
	second, third := l.try(producerBatch(9, 0, 1, 1, 100)), l.try(producerBatch(9, 0, 2, 1, 100))
	a.commit()
	if moved, err := wait(); !errors.Is(err, metadata.ErrStale) || len(moved) != 0 {
		t.Fatal(moved, err)
	}
	second.waits(t, "an append that came meanwhile")
	a.commit()
	first.want(t, "first", 0, nil)
	second.want(t, "second", 1, nil)
	third.want(t, "third", 2, nil)
	if err := a.set.Checkpoint(t.Context()); err != nil {
		t.Error(err)
	}

	for range 10 {
		if _, err := a.set.HandOver(t.Context(), []Transfer{{pid(0), b.life}}); !errors.Is(err, metadata.ErrStale) {
			t.Fatal(err)
		}
	}
	a.deleted(t)
	if left := w.keys(ManifestPrefix); len(left) != 1 {
		t.Errorf("manifests %v are left, of which etcd names one", left)
	}
}

// TestHandOverGivesUp: storage hangs, so that what was admitted does not become durable; the partition goes on when the time is over.
func TestHandOverGivesUp(t *testing.T) {
	w := newWorld(t)
	a, b := w.start(), w.start()
	l := a.create(0)
	admitted := l.try(plain(1, 0))
	ctx, cancel := context.WithCancel(t.Context())
	wait := a.handOver(ctx, 0, b.life)
	l.moves(t)
	late := l.try(plain(1, 0))
	cancel()
	if moved, err := wait(); !errors.Is(err, context.Canceled) || len(moved) != 0 {
		t.Fatal(moved, err)
	}
	a.commit()
	admitted.want(t, "admitted", 0, nil)
	late.want(t, "late", 1, nil)
}

// TestHandOverUnknown: nobody can say whether the partition has moved, so it is served neither as ours nor as another's.
func TestHandOverUnknown(t *testing.T) { synctest.Test(t, handOverUnknown) }

func handOverUnknown(t *testing.T) {
	w := newWorld(t)
	a, b := w.start(), w.start()
	l := a.create(0)
	l.try(plain(1, 0))
	a.commit()
	w.meta.before, w.meta.partitions = metadata.ErrUnknownOutcome, errMeta
	ctx, cancel := context.WithCancel(t.Context())
	wait := a.handOver(ctx, 0, b.life)
	l.moves(t)
	late := l.try(plain(1, 0))
	for {
		w.meta.mu.Lock()
		asked := w.meta.calls > 0
		w.meta.mu.Unlock()
		if asked {
			break
		}
		runtime.Gosched()
	}
	cancel()
	if moved, err := wait(); !errors.Is(err, metadata.ErrUnknownOutcome) || len(moved) != 0 {
		t.Fatal(moved, err)
	}
	late.want(t, "late", -1, ErrNotLeader)
	l.try(plain(1, 0)).want(t, "later", -1, ErrNotLeader)
	if l.Settled() {
		t.Error("the log is said to be certainly ours")
	}
	version := w.meta.states[pid(0)].Manifest
	w.meta.before, w.meta.partitions = nil, nil
	if _, _, err := a.set.SettleMoves(t.Context()); err != nil {
		t.Fatal(err)
	}
	if w.meta.states[pid(0)].Manifest == version {
		t.Error("the log goes on, and a move that is under way may be applied yet")
	}
	again := l.try(plain(1, 0))
	a.commit()
	again.want(t, "after the move was known not to be applied", 1, nil)
}

// TestMovedUnknown: the move was applied, which nobody could say; the log leaves when etcd answers, also if the partition is back by then.
func TestMovedUnknown(t *testing.T) {
	for _, back := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) { movedUnknown(t, back) })
	}
}

func movedUnknown(t *testing.T, back bool) {
	w := newWorld(t)
	a, b := w.start(), w.start()
	l := a.create(0)
	l.try(plain(1, 0))
	a.commit()
	w.meta.after, w.meta.partitions = metadata.ErrUnknownOutcome, errMeta
	w.meta.apply = 1 // behind the only one
	if moved, err := a.set.HandOver(t.Context(), []Transfer{{pid(0), b.life}}); !errors.Is(err, metadata.ErrUnknownOutcome) || len(moved) != 0 {
		t.Fatal(moved, err)
	}
	w.meta.after, w.meta.partitions = nil, nil
	states, _ := w.meta.Partitions(t.Context())
	if adopted, err := b.set.Adopt(t.Context(), states); err != nil || len(adopted) != 1 {
		t.Fatal(adopted, err)
	}
	if back {
		if moved, err := b.set.HandOver(t.Context(), []Transfer{{pid(0), a.life}}); err != nil || len(moved) != 1 {
			t.Fatal(moved, err)
		}
	}
	if _, _, err := a.set.SettleMoves(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, open := a.set.Get(pid(0)); open {
		t.Errorf("back %v: the log of before is served", back)
	}
	if a.set.Create(pid(0), 0) != nil {
		t.Errorf("back %v: the partition is new again", back)
	}
}

// TestHandOverFenced: the life ends while a partition is on its way; whoever waits is told.
func TestHandOverFenced(t *testing.T) {
	w := newWorld(t)
	a, b := w.start(), w.start()
	l := a.create(0)
	admitted := l.try(plain(1, 0))
	wait := a.handOver(t.Context(), 0, b.life)
	l.moves(t)
	late := l.try(plain(1, 0))
	a.set.Fenced(errors.New("sealed"))
	a.kill()
	if moved, err := wait(); err == nil || len(moved) != 0 {
		t.Fatal(moved, err)
	}
	admitted.want(t, "admitted", -1, ErrNotLeader)
	late.want(t, "late", -1, ErrNotLeader)
}
