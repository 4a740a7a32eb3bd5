package partition

import (
	"context"
	"errors"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tidemill/tidemill/metadata"
	"github.com/tidemill/tidemill/objectstore"
	"github.com/tidemill/tidemill/objectstore/faultstore"
	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/wal"
)

// hookMeta runs a function after a commit was applied, before it is answered.
type hookMeta struct {
	*fakeMeta
	after func()
}

func (m *hookMeta) CommitManifests(ctx context.Context, life wal.Life, u []metadata.ManifestUpdate) error {
	err := m.fakeMeta.CommitManifests(ctx, life, u)
	if f := m.after; f != nil {
		m.after = nil
		f()
	}
	return err
}

// TestDeleteDuringCommit: a topic is deleted between the commit of its manifest and its answer.
func TestDeleteDuringCommit(t *testing.T) {
	w := newWorld(t)
	m := &hookMeta{fakeMeta: w.meta}
	n := w.start(func(o *Options) { o.Manifests = m })
	l := n.create(0)
	small(t, n, l, 10)
	if err := n.set.Merge(context.Background()); err != nil {
		t.Fatal(err)
	}
	m.after = func() {
		delete(w.meta.states, pid(0))
		n.set.Delete(pid(0))
	}
	defer func() {
		if r := recover(); r != nil {
			t.Errorf("the broker dies: %v", r)
		}
	}()
	if err := n.set.Checkpoint(context.Background()); err != nil {
		t.Logf("checkpoint: %v", err)
	}
}

// TestSecondOpen: the claims of the first Open failed, those of the second are accepted.
func TestSecondOpen(t *testing.T) {
	w := newWorld(t)
	n := w.start()
	n.create(0).try(plain(1, 0))
	n.commit()
	recoveries := n.kill()
	b := w.start()
	ctx := context.Background()
	states, _ := w.meta.Partitions(ctx)
	if _, err := b.set.Open(ctx, states, recoveries); err != nil {
		t.Fatal(err)
	} // the claims are lost: etcd was away
	claims, err := b.set.Open(ctx, states, recoveries)
	if err != nil {
		t.Fatal(err)
	}
	b.claim(claims)
	for i := range 3 {
		b.log(0).try(plain(1, 0))
		b.commit()
		if err := b.set.Checkpoint(ctx); err != nil {
			t.Errorf("checkpoint %d: %v", i, err)
		}
	}
}

// TestLateClaim: the first claim was of unknown outcome and is applied late; what it made the partition's manifest is deleted.
func TestLateClaim(t *testing.T) {
	w := newWorld(t)
	n := w.start()
	n.create(0).try(plain(1, 0))
	n.commit()
	recoveries := n.kill()
	b := w.start()
	ctx := context.Background()
	states, _ := w.meta.Partitions(ctx)
	first, err := b.set.Open(ctx, states, recoveries)
	if err != nil {
		t.Fatal(err)
	}
	// Claim was answered with an error. The next attempt lists and opens again, then the first claim is applied after all.
	if _, err := b.set.Open(ctx, states, recoveries); err != nil {
		t.Fatal(err)
	}
	w.meta.claim(t, b.life, first)
	// The second claim is stale. The third attempt lists: the partition is ours.
	states, _ = w.meta.Partitions(ctx)
	if claims, err := b.set.Open(ctx, states, nil); err != nil || len(claims) != 0 {
		t.Fatal(claims, err)
	}
	b.deleted(t)
	p := w.meta.states[pid(0)].Manifest
	if _, err := w.mem.Get(ctx, p.Key); err != nil {
		t.Errorf("metadata names %s, which was deleted: %v", p.Key, err)
	}
	c := w.start()
	states, _ = w.meta.Partitions(ctx)
	if _, err := c.set.Open(ctx, states, b.kill()); err != nil {
		t.Errorf("the next start: %v", err)
	}
}

// TestClaimLostToAnother: another broker was quicker to claim one of the partitions.
func TestClaimLostToAnother(t *testing.T) {
	w := newWorld(t)
	n := w.start()
	n.create(0).try(plain(1, 0))
	n.create(1).try(plain(1, 0))
	n.commit()
	recoveries := n.kill()
	b, c := w.start(), w.start()
	ctx := context.Background()
	states, _ := w.meta.Partitions(ctx)
	if _, err := b.set.Open(ctx, states, recoveries); err != nil {
		t.Fatal(err)
	}
	// c claims partition 1 meanwhile
	one := slices.DeleteFunc(slices.Clone(states), func(s metadata.PartitionState) bool { return s.ID != pid(1) })
	claims, err := c.set.Open(ctx, one, recoveries)
	if err != nil {
		t.Fatal(err)
	}
	c.claim(claims)
	// b's claim is stale; it lists again and finds only partition 0 with a sealed owner
	states, _ = w.meta.Partitions(ctx)
	zero := slices.DeleteFunc(slices.Clone(states), func(s metadata.PartitionState) bool { return s.ID != pid(0) })
	claims, err = b.set.Open(ctx, zero, recoveries)
	if err != nil {
		t.Fatal(err)
	}
	b.claim(claims)
	if l, ok := b.set.Get(pid(1)); ok {
		o := l.try(plain(1, 0))
		b.commit()
		t.Errorf("b still serves partition 1, which is c's: an append got offset %d, error %v in %d calls", o.res.BaseOffset, o.err, o.calls)
	}
	for i := range 3 {
		if err := b.set.Checkpoint(ctx); err != nil {
			t.Errorf("checkpoint %d: %v", i, err)
		}
	}
}

// TestDeleteDuringRewrite: a topic is deleted while a checkpoint rewrites.
func TestDeleteDuringRewrite(t *testing.T) {
	w := newWorld(t)
	hs := &hookStore{Store: w.mem}
	n := w.start(func(o *Options) { o.Store = hs })
	n.create(0).try(plain(1, 0))
	n.create(1).try(plain(1, 0))
	n.commit()
	hs.beforePut = func(key string) {
		if strings.HasPrefix(key, SegmentPrefix) {
			delete(w.meta.states, pid(1))
			n.set.Delete(pid(1))
		}
	}
	if err := n.set.Checkpoint(context.Background()); err != nil {
		t.Errorf("checkpoint: %v", err)
	}
}

// hookList runs a function at the first List.
type hookList struct {
	objectstore.Store
	first func()
}

func (s *hookList) List(ctx context.Context, prefix, after string) iter.Seq2[objectstore.Info, error] {
	if f := s.first; f != nil {
		s.first = nil
		f()
	}
	return s.Store.List(ctx, prefix, after)
}

// TestSweepBesideALifeThatBeginsAndEnds: while one broker sweeps, another is restarted twice.
func TestSweepBesideALifeThatBeginsAndEnds(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	hl := &hookList{Store: w.mem}
	sweeping := w.start(func(o *Options) { o.Store = hl })
	l0 := w.start() // the other broker
	small(t, l0, l0.create(1), 1)
	var last *node
	hl.first = func() {
		l1 := w.reopen(l0.kill()) // restarted
		small(t, l1, l1.log(1), 2)
		last = w.reopen(l1.kill()) // and again
	}
	if err := sweeping.set.Sweep(ctx); err != nil {
		t.Fatal(err)
	}
	sweeping.deleted(t)
	for i := range last.log(1).parts {
		p := &last.log(1).parts[i]
		key := last.set.keyOf(p.object())
		if _, err := w.mem.Get(ctx, key); err != nil {
			t.Errorf("offsets %d-%d of the other broker's partition are lost: %v", p.Base, p.Last, err)
		}
	}
	if _, err := w.mem.Get(ctx, w.meta.states[pid(1)].Manifest.Key); err != nil {
		t.Errorf("its manifest is lost: %v", err)
	}
}

// TestObjectsSharedByTwoOwners: the partitions of a life that ended went to two brokers; they share its objects, and each counts only its own references.
func TestObjectsSharedByTwoOwners(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t)
	l0 := w.start()
	a, b := l0.create(0), l0.create(1)
	for range 3 {
		a.try(plain(1, 0))
		b.try(plain(1, 0))
		l0.commit()
		l0.checkpointed(t)
	}
	r := l0.kill()
	states, _ := w.meta.Partitions(ctx)
	take := func(p int32) *node {
		n := w.start()
		mine := slices.DeleteFunc(slices.Clone(states), func(s metadata.PartitionState) bool { return s.ID != pid(p) })
		claims, err := n.set.Open(ctx, mine, r)
		if err != nil {
			t.Fatal(err)
		}
		n.claim(claims)
		return n
	}
	x, y := take(0), take(1)
	if _, err := x.log(0).DeleteRecords(ctx, -1); err != nil { // or retention, a merge, a compaction, the topic's deletion
		t.Fatal(err)
	}
	x.deleted(t)
	if _, err := y.log(1).Read(ctx, ReadInput{MaxBytes: 1000, AtLeastOne: true}); err != nil {
		t.Errorf("partition 1 of the other broker: %v", err)
	}
	z := w.start()
	states, _ = w.meta.Partitions(ctx)
	if _, err := z.set.Open(ctx, states, nil); err != nil {
		t.Errorf("the next start: %v", err)
	}
}

// TestSecondOpenFindsDamage: the first Open put the partition in the set, its claim failed, the second finds it damaged.
func TestSecondOpenFindsDamage(t *testing.T) {
	w := newWorld(t)
	n := w.start()
	n.create(0).try(plain(1, 0))
	n.commit()
	r := n.kill()
	b := w.start()
	ctx := context.Background()
	states, _ := w.meta.Partitions(ctx)
	if _, err := b.set.Open(ctx, states, r); err != nil {
		t.Fatal(err)
	}
	w.store.SetRules(faultstore.Rule{Op: faultstore.ReadAt, Fault: faultstore.Flip})
	claims, err := b.set.Open(ctx, states, r)
	if !errors.Is(err, ErrCorrupt) || len(claims) != 0 {
		t.Fatal(claims, err)
	}
	if _, ok := b.set.Get(pid(0)); ok {
		t.Error("a partition that this life does not own is served")
	}
}

// lateMeta answers a commit with an error and applies it when it is told to.
type lateMeta struct {
	*fakeMeta
	lose bool
	late func() error
}

func (m *lateMeta) CommitManifests(ctx context.Context, life wal.Life, u []metadata.ManifestUpdate) error {
	if !m.lose {
		return m.fakeMeta.CommitManifests(ctx, life, u)
	}
	if m.late == nil {
		u = slices.Clone(u)
		m.late = func() error { return m.fakeMeta.CommitManifests(ctx, life, u) }
	}
	return errMeta
}

// TestLateCommit: a commit of unknown outcome is applied after the head was read, and etcd takes no other for a while.
func TestLateCommit(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t)
	m := &lateMeta{fakeMeta: w.meta}
	n := w.start(func(o *Options) { o.Manifests = m })
	l := n.create(0)
	small(t, n, l, 1)
	l.try(plain(1, 0))
	n.commit()
	m.lose = true
	if err := n.set.Checkpoint(ctx); err == nil { // the first attempt; its outcome is not known
		t.Fatal("no error")
	}
	w.now = w.now.Add(2 * time.Second)
	_ = n.set.Checkpoint(ctx) // reads the head: version 1; what it writes is refused
	if err := m.late(); err != nil {
		t.Fatal(err) // the first attempt's transaction is applied after all
	}
	for range 5 {
		w.now = w.now.Add(time.Minute)
		_ = n.set.Checkpoint(ctx)
		_ = n.set.deleteDue(ctx)
	}
	p := w.meta.states[pid(0)].Manifest
	if _, err := w.mem.Get(ctx, p.Key); err != nil {
		t.Errorf("metadata names %s: %v", p.Key, err)
	}
	states, _ := w.meta.Partitions(ctx)
	if _, err := w.start().set.Open(ctx, states, n.kill()); err != nil {
		t.Errorf("the next start: %v", err)
	}
}

// TestOpenFailsBetween: a claim of unknown outcome, then an Open that fails, then the claim is applied.
func TestOpenFailsBetween(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t)
	n := w.start()
	n.create(0).try(plain(1, 0))
	n.commit()
	n.checkpointed(t)
	r := n.kill()
	b := w.start()
	states, _ := w.meta.Partitions(ctx)
	first, err := b.set.Open(ctx, states, r)
	if err != nil {
		t.Fatal(err)
	}
	w.store.SetRules(faultstore.Rule{Op: faultstore.ReadAt, Fault: faultstore.Lost})
	if _, err := b.set.Open(ctx, states, r); !errors.Is(err, ErrStorage) {
		t.Fatal(err)
	}
	w.store.SetRules()
	b.claim(first)
	states, _ = w.meta.Partitions(ctx)
	if _, err := b.set.Open(ctx, states, nil); err != nil {
		t.Fatal(err)
	}
	if _, ok := b.set.Get(pid(0)); !ok {
		t.Error("the partition is ours and nobody serves it until the next restart")
	}
}

// TestDeletionsDuringAnOutage: the store refuses all deletions.
func TestDeletionsDuringAnOutage(t *testing.T) {
	w := newWorld(t)
	hs := &hookStore{Store: w.mem, denied: func(string) bool { return true }}
	n := w.start(func(o *Options) { o.Store = hs })
	for i := range 5000 {
		n.set.objects.begin(objectID{KindSegment, n.set.life, int64(i)})
		n.set.objects.abandon(objectID{KindSegment, n.set.life, int64(i)}, w.now)
	}
	w.now = w.now.Add(n.set.opts.DeleteDelay)
	_ = n.set.deleteDue(context.Background())
	if got := hs.deletedRequests.Load(); got > 100 {
		t.Errorf("%d requests, one after the other, to a store that answers none", got)
	}
}

// TestDeleteRecordsOfADeletedTopic: the topic is deleted while DeleteRecords waits.
func TestDeleteRecordsOfADeletedTopic(t *testing.T) {
	w := newWorld(t)
	var n *node
	n = w.start(func(o *Options) {
		o.Coordinator = func(id protocol.PartitionID) (int64, []byte, bool) {
			n.set.Delete(id)
			return 0, nil, false
		}
	})
	l := n.create(0)
	l.try(plain(1, 0))
	n.commit()
	start, err := l.DeleteRecords(context.Background(), 1)
	if err == nil {
		t.Errorf("log start %d, no error", start)
	}
}

// TestOnePassingFaultLeavesNothingInOldSlots: an object of an earlier life cannot be read once.
func TestOnePassingFaultLeavesNothingInOldSlots(t *testing.T) {
	w := newWorld(t)
	n := w.start()
	n.create(0).try(plain(1, 0))
	n.commit()
	b := w.reopen(n.kill())
	w.store.SetRules(faultstore.Rule{Op: faultstore.ReadAt, Fault: faultstore.Lost, Limit: 1})
	for i := range 3 {
		t.Logf("checkpoint %d: %v", i, b.set.Checkpoint(context.Background()))
	}
	if len(b.log(0).parts) == 0 {
		t.Error("after one fault that passed, the data is never moved")
	}
}

// What Close leaves in slots survives stops without a checkpoint, sweeps and deletions in between.
func TestCloseAfterClose(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t)
	n := w.start()
	other := w.start() // another broker that sweeps
	a, b := n.create(0), n.create(1)
	want := 0
	for round := range 4 {
		for i := range 3 {
			a.try(plain(1, int64(i)))
			n.commit()
			want++
			if round == 1 && i == 1 {
				n.checkpointed(t)
			}
		}
		b.try(plain(1, 0))
		n.commit()
		if err := n.set.Close(ctx); err != nil {
			t.Fatal(err)
		}
		r := n.kill()
		for life, x := range r {
			if len(x.Chunks) != 0 {
				t.Errorf("round %d: a tail of %d chunks after a stop", round, len(x.Chunks))
			}
			_ = life
		}
		n.deleted(t) // the old process lives on for a while
		n = w.reopen(r)
		for _, s := range []*node{n, other} {
			if err := s.set.Sweep(ctx); err != nil {
				t.Fatal(err)
			}
			s.deleted(t)
		}
		a, b = n.log(0), n.log(1)
		if got := len(a.allRecords(t, 0)); got != want {
			t.Errorf("round %d: %d records, want %d", round, got, want)
		}
	}
	n.checkpointed(t)
	for _, s := range []*node{n, other, n} {
		if err := s.set.Sweep(ctx); err != nil {
			t.Fatal(err)
		}
		s.deleted(t)
	}
	if got := len(a.allRecords(t, 0)); got != want || len(b.allRecords(t, 0)) != 4 {
		t.Errorf("%d records, want %d", got, want)
	}
	if left := w.keys("wal/"); len(left) > 4 {
		t.Errorf("left: %v", left)
	}
}

// Two sweeps at the same time, or a claim that trims beside one.
func TestTwoSweeps(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t)
	n := w.start()
	small(t, n, n.create(0), 2)
	n.log(0).try(plain(1, 0))
	n.commit()
	b := w.reopen(n.kill())
	m := &staleTrim{fakeMeta: w.meta}
	c := w.start(func(o *Options) { o.Manifests = m })
	if err := c.set.Sweep(ctx); err != nil {
		t.Errorf("the whole sweep fails for another's trim: %v", err)
	}
	_ = b
}

type staleTrim struct{ *fakeMeta }

func (m *staleTrim) Trim(context.Context, wal.Life, int64, int64) error { return wal.ErrStale }

// TestLogStartStaysBesideASweep: retention, or DeleteRecords, is applied and answered with an error; another broker sweeps; the log start goes back.
func TestLogStartStaysBesideASweep(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t)
	dead := w.start()
	small(t, dead, dead.create(0), 3)
	y := w.reopen(dead.kill())
	z := w.start()
	l := y.log(0)
	w.meta.after, w.meta.apply = errMeta, 9
	if _, err := l.DeleteRecords(ctx, 4); !errors.Is(err, ErrStorage) {
		t.Fatal(err)
	}
	w.meta.after = nil
	if err := z.set.Sweep(ctx); err != nil {
		t.Fatal(err)
	}
	l.try(plain(1, 0))
	y.commit()
	y.checkpointed(t)
	z.deleted(t)
	st := l.State()
	if _, err := l.Read(ctx, ReadInput{Offset: st.LogStart, MaxBytes: 1000, AtLeastOne: true}); err != nil {
		t.Errorf("the log begins at %d, and there: %v", st.LogStart, err)
	}
	if again := w.reopen(y.kill()).log(0).State().LogStart; again < 4 {
		t.Errorf("the stored log start went back from 4 to %d", again)
	}
}
