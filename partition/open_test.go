package partition

import (
	"context"
	"errors"
	"testing"
	"unsafe"

	"github.com/tidemill/tidemill/internal/crc32c"
	"github.com/tidemill/tidemill/metadata"
	"github.com/tidemill/tidemill/objectstore/faultstore"
	"github.com/tidemill/tidemill/wal"
)

func TestReopenManySlots(t *testing.T) {
	w := newWorld(t)
	n := w.start()
	l := n.create(0)
	const slots = 5000
	for i := range slots {
		l.try(plain(1, int64(i)))
		n.commit()
		if i%1500 == 1499 {
			if err := n.set.Checkpoint(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
	}
	if len(l.parts) != 3 || len(l.unwritten().extents) != 500 {
		t.Errorf("%d parts and %d extents of %d slots", len(l.parts), len(l.unwritten().extents), slots)
	}
	n = w.reopen(n.kill())
	l = n.log(0)
	got := l.offsets(t, 0, 1<<20)
	for i, base := range got {
		if base != int64(i) {
			t.Fatalf("batch %d is at offset %d", i, base)
		}
	}
	if len(got) != slots {
		t.Errorf("%d batches", len(got))
	}
	if ts, offset, err := l.OffsetsForTime(context.Background(), 1700); ts != 1700 || offset != 1700 || err != nil {
		t.Errorf("time lookup in segments: (%d, %d), %v", ts, offset, err)
	}
	if _, err := l.DeleteRecords(context.Background(), 1600); err != nil || len(l.parts) != 2 {
		t.Errorf("delete records: %v, %d parts", err, len(l.parts))
	}
	if got := n.world.reopen(n.kill()).log(0).offsets(t, 1600, 1<<20); len(got) != slots-1600 {
		t.Errorf("%d batches from the log start on", len(got))
	}
}

func TestOpenFaults(t *testing.T) {
	build := func() (*world, map[wal.Life]wal.Recovery) {
		w := newWorld(t)
		n := w.start()
		n.create(0).try(plain(1, 0))
		n.create(1).try(plain(1, 0))
		n.commit()
		if err := n.set.Checkpoint(context.Background()); err != nil {
			t.Fatal(err)
		}
		n.log(0).try(plain(1, 0))
		n.log(1).try(plain(1, 0))
		n.commit()
		return w, n.kill()
	}
	isSlot := func(key string) bool { return !isManifest(key) }
	for _, tc := range []struct {
		name string
		rule faultstore.Rule
		want error
	}{
		{"manifests unreadable", faultstore.Rule{Op: faultstore.ReadAt, Match: isManifest, Fault: faultstore.Lost}, ErrStorage},
		{"manifests damaged once", faultstore.Rule{Op: faultstore.ReadAt, Match: isManifest, Fault: faultstore.Flip, Limit: 1}, nil},
		{"slots unreadable", faultstore.Rule{Op: faultstore.ReadAt, Match: isSlot, Fault: faultstore.Lost}, ErrStorage},
		{"slots damaged once", faultstore.Rule{Op: faultstore.ReadAt, Match: isSlot, Fault: faultstore.Flip, Limit: 1}, nil},
		{"slots damaged", faultstore.Rule{Op: faultstore.ReadAt, Match: isSlot, Fault: faultstore.Flip}, ErrCorrupt},
		{"new manifests not written", faultstore.Rule{Op: faultstore.Put, Match: isManifest, Fault: faultstore.Lost}, ErrStorage},
	} {
		w, recoveries := build()
		w.store.SetRules(tc.rule)
		n := w.start()
		states, _ := w.meta.Partitions(context.Background())
		claims, err := n.set.Open(context.Background(), states, recoveries)
		if !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", tc.name, err, tc.want)
		}
		if w.store.Faulted() == 0 {
			t.Errorf("%s: nothing was faulted", tc.name)
		}
		if errors.Is(tc.want, ErrCorrupt) && len(claims) != 1 {
			t.Errorf("%s: %d claims, want the undamaged partition's", tc.name, len(claims))
		}
		w.store.SetRules()
		if claims, err = n.set.Open(context.Background(), states, recoveries); err != nil || len(claims) != 2 {
			t.Errorf("after %s: %d claims, %v", tc.name, len(claims), err)
		}
	}
}

func TestOpenFindsLostData(t *testing.T) {
	w := newWorld(t)
	n := w.start()
	n.create(0).try(plain(1, 0))
	n.commit()
	n.log(0).try(plain(1, 0))
	n.commit()
	open := func(recoveries map[wal.Life]wal.Recovery) error {
		states, _ := w.meta.Partitions(context.Background())
		_, err := w.start().set.Open(context.Background(), states, recoveries)
		return err
	}
	r := n.kill()
	hole := r[n.life]
	hole.Chunks = hole.Chunks[1:]
	if err := open(map[wal.Life]wal.Recovery{n.life: hole}); !errors.Is(err, ErrCorrupt) {
		t.Errorf("hole in the tail: %v", err)
	}
	w.meta.states[pid(0)].Start = 3
	if err := open(r); !errors.Is(err, ErrCorrupt) {
		t.Errorf("log ends below its epoch's start: %v", err)
	}
}

func TestClaimsIncludeTheTail(t *testing.T) {
	w := newWorld(t)
	n := w.start()
	n.create(0).try(plain(1, 0))
	n.create(1)
	n.commit()
	n2 := w.start()
	states, _ := w.meta.Partitions(context.Background())
	claims, err := n2.set.Open(context.Background(), states, n.kill())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range claims {
		if grown := c.ID == pid(0); (c.Manifest != nil) != grown {
			t.Errorf("claim of %v with manifest %v", c.ID, c.Manifest)
		}
		if c.Manifest == nil {
			continue
		}
		b := make([]byte, c.Manifest.Len)
		if err := w.mem.ReadAt(context.Background(), c.Manifest.Key, b, c.Manifest.Pos); err != nil {
			t.Fatal(err)
		}
		m, err := DecodeManifest(b)
		if err != nil || crc32c.Sum(b) != c.Manifest.CRC || m.EndOffset != 1 || len(m.Extents) != 1 {
			t.Errorf("manifest %+v, %v", m, err)
		}
	}
	if again, err := n2.set.Open(context.Background(), []metadata.PartitionState{{ID: pid(0), Owner: n2.life}}, nil); err != nil || len(again) != 0 {
		t.Errorf("own partitions are claimed again: %v, %v", again, err)
	}
}

func TestIdleLogIsSmall(t *testing.T) {
	w := newWorld(t)
	n := w.start()
	n.create(0).try(producerBatch(1, 0, 0, 1, 0))
	n.commit()
	if err := n.set.Checkpoint(context.Background()); err != nil {
		t.Fatal(err)
	}
	l := w.reopen(n.kill()).log(0)
	size := int(unsafe.Sizeof(*l)) + cap(l.recent)*extentLen + cap(l.parts)*partLen + cap(l.epochs)*epochLen +
		cap(l.pending)*int(unsafe.Sizeof(pendingAppend{})) + len(l.producers)*(int(unsafe.Sizeof(producer{}))+8*16+48)
	if size > 1000 {
		t.Errorf("an idle log with one producer takes %d bytes, want at most 1000", size)
	}
}

// TestOpenOfWhatChanges: an owner whose log has ended writes one more manifest, and deletes the one before, between the moment at which
// its partition is looked at and that at which it is opened. Nothing is damaged: it is opened once it is looked at again.
func TestOpenOfWhatChanges(t *testing.T) {
	w := newWorld(t)
	n := w.start()
	write := func() {
		n.log(0).try(plain(1, 0))
		n.commit()
		if err := n.set.Checkpoint(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	n.create(0)
	write()
	before := w.keys("manifest/")
	states, _ := w.meta.Partitions(t.Context())
	write()
	if err := w.mem.Delete(t.Context(), before...); err != nil {
		t.Fatal(err)
	}
	recoveries := n.kill()
	m := w.start()
	if claims, err := m.set.Open(t.Context(), states, recoveries); !errors.Is(err, metadata.ErrStale) || errors.Is(err, ErrCorrupt) {
		t.Errorf("as it was before: %v, %v", claims, err)
	}
	states, _ = w.meta.Partitions(t.Context())
	if claims, err := m.set.Open(t.Context(), states, recoveries); err != nil || len(claims) != 1 {
		t.Errorf("as it is: %v, %v", claims, err)
	}
	if err := w.mem.Delete(t.Context(), w.keys("manifest/")...); err != nil {
		t.Fatal(err)
	}
	if _, err := w.start().set.Open(t.Context(), states, recoveries); !errors.Is(err, ErrCorrupt) {
		t.Errorf("without its manifest: %v", err)
	}
}
