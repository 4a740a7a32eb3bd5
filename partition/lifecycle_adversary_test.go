package partition

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemill/tidemill/metadata"
	"github.com/tidemill/tidemill/objectstore"
	"github.com/tidemill/tidemill/wal"
)

// beforeCommit is metadata in which something happens before each commit of manifests, which it may refuse.
type beforeCommit struct {
	*fakeMeta
	do func() error
}

func (m *beforeCommit) CommitManifests(ctx context.Context, life wal.Life, updates []metadata.ManifestUpdate) error {
	if err := m.do(); err != nil {
		return err
	}
	return m.fakeMeta.CommitManifests(ctx, life, updates)
}

// goesOn hands partition 0 over and lets the other life adopt it.
func (n *node) goesOn(t *testing.T, to *node) {
	t.Helper()
	if moved, err := n.set.HandOver(t.Context(), []Transfer{{pid(0), to.life}}); err != nil || len(moved) != 1 {
		t.Fatal(moved, err)
	}
	states, _ := n.world.meta.Partitions(t.Context())
	if got, err := to.set.Adopt(t.Context(), states); err != nil || len(got) != 1 {
		t.Fatal(got, err)
	}
}

// TestAdoptedAfterARewrite: a manifest is taken that names slots which a checkpoint has rewritten since, and the checkpoint's own is not.
// The slot of another life, which has ended, must stay: after a crash it is all there is.
func TestAdoptedAfterARewrite(t *testing.T) {
	w := newWorld(t)
	meta := &beforeCommit{fakeMeta: w.meta, do: func() error { return nil }}
	a, b := w.start(func(o *Options) { o.Manifests, o.TailBytes = meta, 100<<10 }), w.start()
	other := a.create(1)
	a.create(0).try(plain(2, 0))
	a.commit()
	a.goesOn(t, b)
	b.log(0).try(plain(2, 0))
	b.commit()
	b.goesOn(t, a)
	b.kill()
	l, checkpointed, calls := a.log(0), make(chan error, 1), 0
	meta.do = func() error {
		if calls++; calls > 1 {
			return errMeta
		}
		go func() { checkpointed <- a.set.Checkpoint(context.Background()) }()
		for rewritten := false; !rewritten; runtime.Gosched() {
			l.mu.Lock()
			rewritten = len(l.parts) > 0
			l.mu.Unlock()
		}
		for range 2 { // the tail lets go of what came before
			other.try(sized(90<<10, 1))
			a.commit()
		}
		return nil
	}
	if start, err := l.DeleteRecords(t.Context(), 1); err != nil || start != 1 {
		t.Fatal(start, err)
	}
	if err := <-checkpointed; err == nil {
		t.Fatal("the checkpoint's manifest was taken")
	}
	if err := a.set.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	a.deleted(t)
	c := w.reopen(a.kill())
	if got := c.log(0).offsets(t, 2, 1000); !slices.Equal(got, []int64{2}) {
		t.Errorf("batches at %v after a crash, want one at 2", got)
	}
}

// TestDeletedRecordsAreSettled: DeleteRecords was applied and answered with an error, and nothing is written any more. The log start
// follows before another broker sweeps what it let go.
func TestDeletedRecordsAreSettled(t *testing.T) {
	w := newWorld(t)
	first := w.start()
	l := first.create(0)
	for range 2 {
		l.try(plain(5, 0))
		first.commit()
		first.checkpointed(t)
	}
	a, b := w.reopen(first.kill()), w.start()
	l = a.log(0)
	a.checkpointed(t)
	w.meta.after, w.meta.apply = errMeta, 1
	if _, err := l.DeleteRecords(t.Context(), 7); err == nil {
		t.Fatal("no error")
	}
	w.meta.after = nil
	a.checkpointed(t)
	if err := b.set.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.deleted(t)
	if st := l.State(); st.LogStart != 7 {
		t.Errorf("the log starts at %d, metadata says 7", st.LogStart)
	}
	if got := l.offsets(t, 7, 1000); !slices.Equal(got, []int64{5}) {
		t.Errorf("batches at %v", got)
	}
}

// TestLostSlotOfATail: a slot is gone, or cut short, after its log was ended. Partitions that have nothing in it are opened.
func TestLostSlotOfATail(t *testing.T) {
	for name, lose := range map[string]func(w *world, key string){
		"gone": func(w *world, key string) {
			if err := w.mem.Delete(context.Background(), key); err != nil {
				t.Error(err)
			}
		},
		"cut short": func(w *world, key string) {
			if err := errors.Join(w.mem.Delete(context.Background(), key), w.mem.Put(context.Background(), key, []byte("short"))); err != nil {
				t.Error(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			n := w.start()
			a, b := n.create(0), n.create(1)
			a.try(plain(1, 0))
			n.commit()
			b.try(plain(1, 0))
			n.commit()
			recoveries := n.kill()
			lose(w, wal.SlotKey(n.life, 0))
			states, _ := w.meta.Partitions(t.Context())
			claims, err := w.start().set.Open(t.Context(), states, recoveries)
			if !errors.Is(err, ErrCorrupt) || len(claims) != 1 || claims[0].ID != pid(1) {
				t.Errorf("claims %v, %v; want that of the partition which lost nothing", claims, err)
			}
		})
	}
}

// heldSegments is a store that keeps writers of segments waiting until the test has ended, once it is told to.
type heldSegments struct {
	objectstore.Store
	hold atomic.Bool
	end  context.Context
}

func (s *heldSegments) Put(ctx context.Context, key string, body []byte) error {
	if s.hold.Load() && strings.HasPrefix(key, SegmentPrefix) {
		<-s.end.Done()
		return s.end.Err()
	}
	return s.Store.Put(ctx, key, body)
}

// TestDeletionsDoNotWaitForMerges: while data comes in faster than it is merged, merging has no end.
func TestDeletionsDoNotWaitForMerges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		w := newWorld(t)
		store := &heldSegments{Store: w.mem, end: ctx}
		n := w.start(func(o *Options) { o.Store, o.Now = store, time.Now })
		small(t, n, n.create(0), 40)
		if len(w.keys("wal/")) == 0 {
			t.Fatal("there is nothing to delete")
		}
		store.hold.Store(true)
		kept := make(chan error)
		go func() { kept <- n.set.Keep(ctx) }()
		if err := pause(ctx, n.set.opts.DeleteDelay+3*n.set.opts.TidyInterval); err != nil {
			t.Fatal(err)
		}
		if left := w.keys("wal/"); len(left) > 0 {
			t.Errorf("%d slots are there still", len(left))
		}
		cancel()
		<-kept
	})
}

// hazy is a store from which data of segments comes out wrong while it is told so. What it holds is sound.
type hazy struct {
	objectstore.Store
	on atomic.Bool
}

func (s *hazy) ReadAt(ctx context.Context, key string, p []byte, off int64) error {
	err := s.Store.ReadAt(ctx, key, p, off)
	if err == nil && s.on.Load() && off == SegmentHeaderLen {
		p[len(p)-1] ^= 1
	}
	return err
}

// TestPassingDamageIsNotMerged: what is read wrong for a while is not written down so.
func TestPassingDamageIsNotMerged(t *testing.T) {
	w := newWorld(t)
	store := &hazy{Store: w.mem}
	n := w.start(func(o *Options) { o.Store, o.TailBytes, o.CacheBytes = store, 1, 1 })
	l := n.create(0)
	small(t, n, l, 10)
	want := l.offsets(t, 0, 1000)
	store.on.Store(true)
	if err := n.set.Merge(t.Context()); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a merge of what is read wrong: %v", err)
	}
	store.on.Store(false)
	n.checkpointed(t)
	n.deleted(t)
	if got := w.reopen(n.kill()).log(0).offsets(t, 0, 1000); !slices.Equal(got, want) {
		t.Errorf("batches %v, want %v", got, want)
	}
}
