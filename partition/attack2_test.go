package partition

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/tidemill/tidemill/metadata"
	"github.com/tidemill/tidemill/objectstore"
	"github.com/tidemill/tidemill/objectstore/faultstore"
	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/wal"
)

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

// N1: a commit of unknown outcome is applied after the head was read, and etcd takes no other for a while.
func TestAttack2LateCommit(t *testing.T) {
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

// N5: a claim of unknown outcome, then an Open that fails, then the claim is applied.
func TestAttack2OpenFailsBetween(t *testing.T) {
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
	w.meta.claim(t, b.life, first)
	states, _ = w.meta.Partitions(ctx)
	if _, err := b.set.Open(ctx, states, nil); err != nil {
		t.Fatal(err)
	}
	if _, ok := b.set.Get(pid(0)); !ok {
		t.Error("the partition is ours and nobody serves it until the next restart")
	}
}

// N8: one manifest is damaged, or one partition was left with its old owner: does anything of earlier lives still go?
func TestAttack2DamageStopsAllDeletions(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t)
	n := w.start()
	a, b := n.create(0), n.create(1)
	for range 5 {
		a.try(plain(1, 0))
		n.commit()
		n.checkpointed(t)
	}
	b.try(plain(1, 0))
	n.commit()
	n.checkpointed(t)
	r := n.kill()
	// the manifest of partition 1 is damaged
	p := w.meta.states[pid(1)].Manifest
	body, _ := w.mem.Get(ctx, p.Key)
	body = slices.Clone(body)
	body[p.Pos+50]++
	_ = w.mem.Delete(ctx, p.Key)
	_ = w.mem.Put(ctx, p.Key, body)
	x := w.start()
	states, _ := w.meta.Partitions(ctx)
	claims, err := x.set.Open(ctx, states, r)
	if !errors.Is(err, ErrCorrupt) || len(claims) != 1 {
		t.Fatal(len(claims), err)
	}
	w.meta.claim(t, x.life, claims)
	x.checkpointed(t)
	if _, err := x.log(0).DeleteRecords(ctx, -1); err != nil { // as retention does
		t.Fatal(err)
	}
	before := len(w.keys(SegmentPrefix))
	err = x.set.Sweep(ctx)
	x.deleted(t)
	if after := len(w.keys(SegmentPrefix)); after >= before {
		t.Errorf("sweep: %v; %d segments of partition 0 before its data was deleted, %d after", err, before, after)
	}
}

// N7: the store refuses all deletions.
func TestAttack2DeletionsDuringAnOutage(t *testing.T) {
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

// N26: the topic is deleted while DeleteRecords waits.
func TestAttack2DeleteRecordsOfADeletedTopic(t *testing.T) {
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

// N2: an object of an earlier life cannot be read once.
func TestAttack2OnePassingFaultLeavesDataInOldSlots(t *testing.T) {
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

// N2b: what one lost object of an earlier life costs: nothing of this life's log is ever deleted.
func TestAttack2OneLostObjectKeepsAllSlots(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t)
	n := w.start()
	n.create(0).try(plain(1, 0))
	n.commit()
	b := w.reopen(n.kill())
	_ = w.mem.Delete(ctx, wal.SlotKey(n.life, 0))
	other := b.create(1)
	for range 50 {
		b.log(0).try(plain(1, 0))
		other.try(plain(1, 0))
		b.commit()
		_ = b.set.Checkpoint(ctx)
		w.now = w.now.Add(b.set.opts.DeleteDelay)
		_ = b.set.deleteDue(ctx)
	}
	if left := len(w.keys("wal/")); left > 5 {
		t.Errorf("%d slots are left, %d extents in the manifest of the partition, %d parts", left, len(b.log(0).recent), len(b.log(0).parts))
	}
}

var _ = objectstore.ErrDenied

// What Close leaves in slots survives stops without a checkpoint, sweeps and deletions in between.
func TestAttack2CloseChain(t *testing.T) {
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
func TestAttack2TwoSweeps(t *testing.T) {
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

// N38: retention, or DeleteRecords, is applied and answered with an error; another broker sweeps; the log start goes back.
func TestAttack2LogStartGoesBackBesideASweep(t *testing.T) {
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
