package partition

import (
	"context"
	"errors"
	"iter"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemill/tidemill/metadata"
	"github.com/tidemill/tidemill/objectstore"
	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/wal"
)

// rvLateMeta: the first Move has an unknown outcome, and is applied after the owner was asked for, before the second attempt.
type rvLateMeta struct {
	*fakeMeta
	calls int
	late  func()
}

func (m *rvLateMeta) Move(ctx context.Context, from wal.Life, moves []metadata.Move) []error {
	m.calls++
	if m.calls == 1 {
		m.late = func() { m.fakeMeta.Move(ctx, from, moves) }
		return []error{metadata.ErrUnknownOutcome}
	}
	if m.late != nil {
		m.late()
		m.late = nil
	}
	return m.fakeMeta.Move(ctx, from, moves)
}

// TestClaimOfAPartitionThatLeft: a claim was accepted, Claimed was not called, the partition was adopted, left and came back.
func TestClaimOfAPartitionThatLeft(t *testing.T) {
	w := newWorld(t)
	z := w.start()
	z.create(0).try(plain(1, 0))
	z.commit()
	recoveries := z.kill()
	a, b := w.start(), w.start()
	ids := []protocol.PartitionID{pid(0)}
	states, _ := w.meta.Partitions(t.Context())
	claims, err := a.set.Open(t.Context(), states, recoveries)
	if err != nil {
		t.Fatal(err)
	}
	w.meta.claim(t, a.life, claims) // and the claim of another partition failed, so Claimed is not called
	states, _ = w.meta.States(t.Context(), ids)
	if ad, err := a.set.Adopt(t.Context(), states); err != nil || len(ad) != 1 {
		t.Fatal(ad, err)
	}
	a.log(0).try(plain(5, 0)).waits(t, "")
	a.commit()
	if mv, err := a.set.HandOver(t.Context(), []Transfer{{pid(0), b.life}}); err != nil || len(mv) != 1 {
		t.Fatal(mv, err)
	}
	states, _ = w.meta.States(t.Context(), ids)
	if ad, err := b.set.Adopt(t.Context(), states); err != nil || len(ad) != 1 {
		t.Fatal(ad, err)
	}
	x := b.log(0).try(plain(5, 0))
	b.commit()
	x.want(t, "acknowledged by b", 6, nil)
	if mv, err := b.set.HandOver(t.Context(), []Transfer{{pid(0), a.life}}); err != nil || len(mv) != 1 {
		t.Fatal(mv, err)
	}
	// claimAssigned has something else to do and gets the lock before adoptGiven; the partition is among what Unclaimed returned.
	states, _ = w.meta.States(t.Context(), ids)
	if _, err := a.set.Open(t.Context(), states, nil); err != nil {
		t.Fatal(err)
	}
	if l, ok := a.set.Get(pid(0)); ok {
		st := l.State()
		y := l.try(plain(1, 0))
		a.commit()
		t.Errorf("stale log: %+v in epoch %d of metadata starting at %d; appended: %+v %v", st, states[0].LeaderEpoch, states[0].Start, y.res, y.err)
	}
}

// TestReviewUnknownForEver: etcd answers again: the move was not made. Nobody ever serves the partition.
// rvMeta calls a function before the listing, or in it.
type rvStore struct {
	objectstore.Store
	mu   sync.Mutex
	read func(key string)
}

func (h *rvStore) ReadAt(ctx context.Context, key string, p []byte, off int64) error {
	h.mu.Lock()
	f := h.read
	h.read = nil
	h.mu.Unlock()
	if f != nil {
		f(key)
	}
	return h.Store.ReadAt(ctx, key, p, off)
}

// hookMeta2 runs a function when a sweep asks for the partitions, before they are listed.
type rvMeta struct {
	*fakeMeta
	list func()
}

func (m *rvMeta) Partitions(ctx context.Context) ([]metadata.PartitionState, error) {
	if f := m.list; f != nil {
		m.list = nil
		f()
	}
	return m.fakeMeta.Partitions(ctx)
}

// TestSweepBesideMoves: a partition leaves between the sweep's look at who is ours and its verdict.
func TestSweepBesideMoves(t *testing.T) {
	w := newWorld(t)
	h := &rvStore{Store: w.store}
	a, b := w.start(func(o *Options) { o.Store = h }), w.start()
	l := a.create(0)
	_ = l
	b.create(1).try(plain(1, 0)) // something foreign, whose manifest the sweep reads
	b.commit()
	if err := b.set.Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
	ids := []protocol.PartitionID{pid(0)}
	// The partition's data is in a segment of a's; it has moved to b.
	l.try(plain(5, 0))
	a.commit()
	if err := a.set.Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
	if mv, err := a.set.HandOver(t.Context(), []Transfer{{pid(0), b.life}}); err != nil || len(mv) != 1 {
		t.Fatal(mv, err)
	}
	states, _ := w.meta.States(t.Context(), ids)
	if _, err := b.set.Adopt(t.Context(), states); err != nil {
		t.Fatal(err)
	}
	m := &rvMeta{fakeMeta: w.meta}
	a.set.opts.Manifests = m
	m.list = func() { // during the listing of the bucket the partition comes back to a ...
		if mv, err := b.set.HandOver(t.Context(), []Transfer{{pid(0), a.life}}); err != nil || len(mv) != 1 {
			t.Error(mv, err)
		}
		states, _ := w.meta.States(t.Context(), ids)
		if _, err := a.set.Adopt(t.Context(), states); err != nil {
			t.Error(err)
		}
	}
	h.read = func(string) {}
	// ... and leaves while the manifests of others are read.
	h.read = nil
	leave := func(string) {
		if mv, err := a.set.HandOver(t.Context(), []Transfer{{pid(0), b.life}}); err != nil || len(mv) != 1 {
			t.Error(mv, err)
		}
	}
	list := m.list
	m.list = func() { list(); h.mu.Lock(); h.read = leave; h.mu.Unlock() }
	if err := a.set.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.now = w.now.Add(10 * 60e9)
	if err := a.set.deleteDue(t.Context()); err != nil {
		t.Fatal(err)
	}
	states, _ = w.meta.States(t.Context(), ids)
	_, err := b.set.Adopt(t.Context(), states)
	if err != nil {
		t.Fatal("adopt by b:", err)
	}
	r, err := b.log(0).Read(t.Context(), ReadInput{Offset: 0, MaxBytes: 1000, AtLeastOne: true})
	if err != nil {
		t.Error("LOST:", err, r.Bytes)
	}
}

// TestSweepBesideOneMove: a segment is written while the bucket is listed, then its partition leaves while the verdict is found.
func TestSweepBesideOneMove(t *testing.T) {
	w := newWorld(t)
	h := &rvList{rvStore: rvStore{Store: w.store}}
	a, b := w.start(func(o *Options) { o.Store = h }), w.start()
	l := a.create(0)
	b.create(1).try(plain(1, 0))
	b.commit()
	if err := b.set.Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.try(plain(5, 0))
	a.commit()
	h.list = func() { // the listing has begun
		if err := a.set.Checkpoint(t.Context()); err != nil {
			t.Error(err)
		}
	}
	m := &rvMeta{fakeMeta: w.meta}
	a.set.opts.Manifests = m
	m.list = func() {
		h.mu.Lock()
		h.read = func(string) {
			if mv, err := a.set.HandOver(t.Context(), []Transfer{{pid(0), b.life}}); err != nil || len(mv) != 1 {
				t.Error(mv, err)
			}
		}
		h.mu.Unlock()
	}
	if err := a.set.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	states := a.statesLater(t)
	if _, err := b.set.Adopt(t.Context(), states); err != nil {
		t.Fatal("adopt by b:", err)
	}
	if r, err := b.log(0).Read(t.Context(), ReadInput{Offset: 0, MaxBytes: 1000, AtLeastOne: true}); err != nil {
		t.Error("LOST:", err, r.Bytes)
	}
}

type rvList struct {
	rvStore
	list func()
}

func (h *rvList) List(ctx context.Context, prefix, after string) iter.Seq2[objectstore.Info, error] {
	if f := h.list; f != nil {
		h.list = nil
		f()
	}
	return h.Store.List(ctx, prefix, after)
}

// TestLoanOfUnknownMove: slots are lent to a move of unknown outcome; takeBack looks before it is applied.
func TestLoanOfUnknownMove(t *testing.T) {
	w := newWorld(t)
	m := &rvLateMeta{fakeMeta: w.meta}
	a, b := w.start(func(o *Options) { o.Manifests = m }), w.start()
	l := a.create(0)
	l.try(plain(1, 0))
	a.commit()
	if err := a.set.Checkpoint(t.Context()); err != nil { // v1 names no slot
		t.Fatal(err)
	}
	l.try(plain(5, 0))
	a.commit()
	w.meta.partitions = errMeta
	_, err := a.set.HandOver(t.Context(), []Transfer{{pid(0), b.life}})
	t.Log(err, "lent:", a.set.lent.all())
	w.meta.partitions = nil
	if err := a.set.takeBack(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Log("lent after takeBack:", a.set.lent.all())
	m.late() // now etcd applies it
	if _, _, err := a.set.SettleMoves(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := a.set.Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
	states := a.statesLater(t)
	if _, err := b.set.Adopt(t.Context(), states); err != nil {
		t.Fatal(err)
	}
	if r, err := b.log(0).Read(t.Context(), ReadInput{Offset: 1, MaxBytes: 1000, AtLeastOne: true}); err != nil {
		t.Error("LOST:", err, r.Bytes)
	}
}

// TestReviewEndedLog: what giveAway is told about a log that has ended.

// statesLater returns what metadata says of partition 0 once what nobody needs is deleted.
func (n *node) statesLater(t *testing.T) []metadata.PartitionState {
	t.Helper()
	n.world.now = n.world.now.Add(10 * time.Minute)
	if err := n.set.deleteDue(t.Context()); err != nil {
		t.Fatal(err)
	}
	states, _ := n.meta.States(t.Context(), []protocol.PartitionID{pid(0)})
	return states
}

// TestSweepOfPartitionThatLeft: a partition is in the set of a life that does not own it any more, as its move had an unknown outcome that is
// not settled yet, or the life was ended and does not know. It went on to an owner who wrote a segment and stopped, and from there to another, or
// back. A sweep of the first life leaves that the segment.
func TestSweepOfPartitionThatLeft(t *testing.T) {
	for _, how := range []string{"unknown move", "ended", "back again"} {
		t.Run(how, func(t *testing.T) { synctest.Test(t, func(t *testing.T) { sweepOfPartitionThatLeft(t, how) }) })
	}
}

func sweepOfPartitionThatLeft(t *testing.T, how string) {
	w := newWorld(t)
	a, b, last := w.start(), w.start(), w.start()
	if how == "back again" {
		last = a
	}
	ids := []protocol.PartitionID{pid(0)}
	a.create(0).try(plain(1, 0))
	a.commit()
	adopt := func(n *node) {
		t.Helper()
		states, _ := w.meta.States(t.Context(), ids)
		if adopted, err := n.set.Adopt(t.Context(), states); err != nil || len(adopted) != 1 {
			t.Fatal(adopted, err)
		}
	}
	if how == "ended" {
		r := a.kill()
		states, _ := w.meta.States(t.Context(), ids)
		claims, err := b.set.Open(t.Context(), states, r)
		if err != nil {
			t.Fatal(err)
		}
		b.claim(claims)
	} else {
		w.meta.after, w.meta.partitions, w.meta.apply = metadata.ErrUnknownOutcome, errMeta, 1
		if _, err := a.set.HandOver(t.Context(), []Transfer{{pid(0), b.life}}); !errors.Is(err, metadata.ErrUnknownOutcome) {
			t.Fatal(err)
		}
		w.meta.after, w.meta.partitions = nil, nil
		adopt(b)
	}
	x := b.log(0).try(plain(5, 0))
	b.commit()
	x.want(t, "acknowledged by the second owner", 1, nil)
	b.checkpointed(t)
	if moved, err := b.set.HandOver(t.Context(), []Transfer{{pid(0), last.life}}); err != nil || len(moved) != 1 {
		t.Fatal(moved, err)
	}
	b.kill() // it owns nothing
	if last != a {
		adopt(last)
	}
	if err := a.set.Sweep(t.Context()); err != nil { // SettleMoves waits, as for a checkpoint whose PUT hangs
		t.Fatal(err)
	}
	if last == a {
		if left, _, err := a.set.SettleMoves(t.Context()); err != nil || len(left) != 1 {
			t.Fatal(left, err)
		}
		adopt(a)
	}
	a.deleted(t)
	if _, err := last.log(0).Read(t.Context(), ReadInput{Offset: 1, MaxBytes: 1000, AtLeastOne: true}); err != nil {
		t.Errorf("the last owner reads: %v", err)
	}
}

// TestLeavesWhileItsSegmentIsWritten: of two partitions that share a segment the first refers to it and leaves before the second does. When that drops
// the segment, it is the new owner's still.
func TestLeavesWhileItsSegmentIsWritten(t *testing.T) {
	w := newWorld(t)
	hs := &hookStore{Store: w.mem}
	a, b := w.start(func(o *Options) { o.Store = hs }), w.start()
	first, second := a.create(0), a.create(1)
	x := first.try(plain(3, 0))
	second.try(plain(3, 0))
	a.commit()
	x.want(t, "acknowledged", 0, nil)
	held := false
	hs.beforePut = func(key string) {
		if !held && strings.HasPrefix(key, SegmentPrefix) {
			held = true
			second.mu.Lock() // the checkpoint stands still between the two
		}
	}
	done := make(chan error, 1)
	go func() { done <- a.set.Checkpoint(context.Background()) }()
	for extended := false; !extended; runtime.Gosched() {
		first.mu.Lock()
		extended = len(first.parts) > 0
		first.mu.Unlock()
	}
	if moved, err := a.set.HandOver(t.Context(), []Transfer{{pid(0), b.life}}); err != nil || len(moved) != 1 {
		t.Fatal(moved, err)
	}
	second.mu.Unlock()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	states, _ := w.meta.States(t.Context(), []protocol.PartitionID{pid(0)})
	if adopted, err := b.set.Adopt(t.Context(), states); err != nil || len(adopted) != 1 {
		t.Fatal(adopted, err)
	}
	if _, err := second.DeleteRecords(t.Context(), -1); err != nil {
		t.Fatal(err)
	}
	a.deleted(t)
	if _, err := b.log(0).Read(t.Context(), ReadInput{Offset: 0, MaxBytes: 1000, AtLeastOne: true}); err != nil {
		t.Errorf("the new owner reads: %v", err)
	}
}
