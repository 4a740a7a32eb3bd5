package partition

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/metadata"
	"github.com/tidemill/tidemill/objectstore/faultstore"
	"github.com/tidemill/tidemill/wal"
)

// stray puts an object that nothing refers to.
func (w *world) stray(keys ...string) {
	w.t.Helper()
	for _, key := range keys {
		if err := w.mem.Put(context.Background(), key, []byte("stray")); err != nil {
			w.t.Fatal(err)
		}
	}
}

func TestSweepTakesOnlyWhatNobodyCanNeed(t *testing.T) {
	w := newWorld(t)
	dead := w.start()
	l := dead.create(0)
	small(t, dead, l, 2)
	l.try(plain(1, 0))
	dead.commit() // in a slot only when the life ends
	other := wal.Life{Broker: 9, Epoch: 3}
	open := wal.Life{Broker: 8, Epoch: 1}
	unknown := wal.Life{Broker: 5, Epoch: 5}
	w.meta.ended[other], w.meta.trims[other] = 7, 7

	recovery := dead.kill()
	n := w.reopen(recovery)
	garbage := []string{
		SegmentKey(dead.life, 90), ManifestKey(dead.life, 91), wal.SlotKey(dead.life, 99), // of a life that ended: never committed, orphans
		SegmentKey(other, 1), wal.SlotKey(other, 3), wal.SlotKey(other, 8),
		SegmentKey(n.life, 92), ManifestKey(n.life, 93), // of this life: late requests of what was given up
	}
	kept := []string{
		wal.SlotKey(dead.life, dead.seq), wal.SlotKey(other, 7), // ends of logs (G3)
		SegmentKey(open, 0), wal.SlotKey(open, 0), ManifestKey(open, 0), // of a life that may commit still
		SegmentKey(unknown, 0), "segment/what is this", "wal/nothing", // nobody's to judge
		wal.SlotKey(n.life, 50), // slots of this life go by trim
	}
	w.stray(garbage...)
	w.stray(kept...)
	w.meta.unknown = unknown
	before := l.offsets(t, 0, 1000)
	for range 2 {
		if err := n.set.Sweep(context.Background()); err != nil {
			t.Fatal(err)
		}
		n.deleted(t)
	}
	left := w.keys("")
	for _, key := range garbage {
		if slices.Contains(left, key) {
			t.Errorf("%s is left", key)
		}
	}
	for _, key := range kept {
		if !slices.Contains(left, key) {
			t.Errorf("%s is gone", key)
		}
	}
	if got := n.log(0).offsets(t, 0, 1000); !slices.Equal(got, before) {
		t.Errorf("the log holds %v, want %v", got, before)
	}
	n.checkpointed(t) // rewrites the slot of the life that ended
	if err := n.set.Sweep(context.Background()); err != nil || !n.set.objects.takeAstray() {
		t.Errorf("sweep: %v", err)
	}
	n.deleted(t)
	if key := wal.SlotKey(dead.life, dead.seq-1); slices.Contains(w.keys("wal/"), key) {
		t.Errorf("%s is left though it was rewritten", key)
	}
}

// TestSweepLeavesPartitionsOfOthers: objects that another owner's manifests refer to stay, whoever wrote them.
func TestSweepLeavesPartitionsOfOthers(t *testing.T) {
	w := newWorld(t)
	n := w.start()
	small(t, n, n.create(0), 3)
	l := n.create(1)
	l.try(plain(1, 0))
	n.commit()
	n.checkpointed(t)
	recoveries := n.kill()
	b := w.start() // takes over partition 0 only
	states, _ := w.meta.Partitions(context.Background())
	mine := slices.DeleteFunc(slices.Clone(states), func(st metadata.PartitionState) bool { return st.ID != pid(0) })
	claims, err := b.set.Open(context.Background(), mine, recoveries)
	if err != nil {
		t.Fatal(err)
	}
	b.claim(claims)
	elsewhere := wal.Life{Broker: 70, Epoch: 1}
	w.meta.states[pid(1)].Owner = elsewhere // moved, without a manifest of its own yet
	if err := b.set.Sweep(context.Background()); err != nil {
		t.Fatal(err)
	}
	b.deleted(t)
	w.meta.states[pid(1)].Owner = n.life
	c := w.reopen(recoveries)
	if got := c.log(1).offsets(t, 0, 1000); len(got) != 1 {
		t.Errorf("the other's partition holds %v", got)
	}
}

func TestSweepDoesNothingWhenItCannotKnow(t *testing.T) {
	for name, fault := range map[string]func(*world){
		"metadata is away": func(w *world) { w.meta.partitions = errMeta },
		"the list fails":   func(w *world) { w.store.SetRules(faultstore.Rule{Op: faultstore.List, Fault: faultstore.Lost}) },
		"a manifest is damaged": func(w *world) {
			w.meta.states[pid(1)] = &metadata.PartitionState{ID: pid(1), Owner: wal.Life{Broker: 3}, Manifest: w.meta.states[pid(0)].Manifest}
		},
	} {
		w := newWorld(t)
		dead := w.start()
		small(t, dead, dead.create(0), 1)
		n := w.reopen(dead.kill())
		w.stray(SegmentKey(dead.life, 90))
		fault(w)
		if err := n.set.Sweep(context.Background()); err == nil {
			t.Errorf("%s: no error", name)
		}
		if used, waiting := n.set.objects.counts(); waiting != 0 || used == 0 {
			t.Errorf("%s: %d objects are doomed", name, waiting)
		}
	}
}

// TestK6ADeletedTopicIsGone: its objects go, those that it shared stay, and no crash brings it back.
func TestK6ADeletedTopicIsGone(t *testing.T) {
	w := newWorld(t)
	n := w.start()
	a, b := n.create(0), n.create(1)
	for range 3 {
		a.try(plain(1, 0))
		b.try(plain(1, 0))
		n.commit()
		n.checkpointed(t)
	}
	b.try(plain(1, 0))
	n.commit() // in a slot only
	delete(w.meta.states, pid(1))
	n.set.Delete(pid(1))
	a.try(plain(1, 0))
	n.commit()
	n.checkpointed(t)
	if got := a.offsets(t, 0, 1000); len(got) != 4 {
		t.Errorf("the other partition holds %v", got)
	}
	n = w.reopen(n.kill())
	if _, ok := n.set.Get(pid(1)); ok {
		t.Error("the deleted partition is back")
	}
	if _, err := n.log(0).DeleteRecords(context.Background(), -1); err != nil {
		t.Fatal(err)
	}
	if err := n.set.Sweep(context.Background()); err != nil {
		t.Fatal(err)
	}
	n.deleted(t)
	if left := w.keys(""); len(left) != 1 || !strings.HasPrefix(left[0], ManifestPrefix) {
		t.Errorf("left: %v", left)
	}
}

func TestParseObjectKey(t *testing.T) {
	life := wal.Life{Broker: 3, Epoch: 7, Nonce: [8]byte{1}}
	for _, key := range []string{SegmentKey(life, 5), ManifestKey(life, 6), wal.SlotKey(life, 7)} {
		kind, l, seq, ok := ParseObjectKey(key)
		if !ok || l != life || objectKey(kind, l, seq) != key {
			t.Errorf("%s: %v %v %d %v", key, kind, l, seq, ok)
		}
		for _, bad := range []string{key + "x", key[1:], key[:len(key)-1], strings.ToUpper(key)} {
			if _, _, _, ok := ParseObjectKey(bad); ok {
				t.Errorf("%s is taken for an object", bad)
			}
		}
	}
}
