package partition

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tidemill/tidemill/metadata"
	"github.com/tidemill/tidemill/objectstore"
	"github.com/tidemill/tidemill/objectstore/faultstore"
	"github.com/tidemill/tidemill/protocol"
)

func isManifest(key string) bool { return strings.HasPrefix(key, "manifest/") }

func TestCheckpointFaults(t *testing.T) {
	put := func(f faultstore.Fault, err error, limit int) func(*node) {
		return func(n *node) {
			n.store.SetRules(faultstore.Rule{Op: faultstore.Put, Match: isManifest, Fault: f, Err: err, Limit: limit})
		}
	}
	for _, tc := range []struct {
		name  string
		fault func(*node)
		fails bool
	}{
		{"none", func(*node) {}, false},
		{"put not applied, outcome unknown", put(faultstore.Lost, nil, 1), false},
		{"put applied, outcome unknown", put(faultstore.LostReply, nil, 1), false},
		{"put applied twice", put(faultstore.Twice, nil, 1), false},
		{"put never applied", put(faultstore.Lost, nil, 0), true},
		{"put denied", put(faultstore.Lost, objectstore.ErrDenied, 0), true},
		{"put finds another's object", put(faultstore.Taken, nil, 0), true},
		{"commit not applied", func(n *node) { n.meta.before = errMeta }, true},
		{"commit applied, error", func(n *node) { n.meta.after, n.meta.apply = errMeta, 9 }, true},
		{"commit applied to one of two, error", func(n *node) { n.meta.after, n.meta.apply = errMeta, 1 }, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t)
			n := w.start()
			a, b := n.create(0), n.create(1)
			for i := range 3 {
				a.try(producerBatch(1, 0, int32(i), 1, 0))
				b.try(plain(2, 0))
				n.commit()
			}
			tc.fault(n)
			err := n.set.Checkpoint(context.Background())
			if (err != nil) != tc.fails {
				t.Fatalf("checkpoint: %v, want an error: %v", err, tc.fails)
			}
			want := int64(3)
			if tc.fails {
				want = 0 // G1: what is not surely in a manifest is not trimmed
			}
			if got := w.meta.trims[n.life]; got != want {
				t.Errorf("G1: trim is %d, want %d", got, want)
			}
			a.try(plain(1, 0))
			n.commit()
			w.store.SetRules()
			w.meta.before, w.meta.after = nil, nil
			for range 2 { // the first may meet its predecessor's doing
				err = n.set.Checkpoint(context.Background())
			}
			if err != nil || w.meta.trims[n.life] != 4 {
				t.Fatalf("after the fault: %v, trim %d, want 4", err, w.meta.trims[n.life])
			}
			n2 := w.reopen(nil) // with everything in manifests
			if x, y := n2.log(0).offsets(t, 0, 1000), n2.log(1).offsets(t, 0, 1000); len(x) != 4 || len(y) != 3 {
				t.Errorf("reopened: %v and %v", x, y)
			}
		})
	}
}

func TestCheckpointSkipsATopicDeletedMeanwhile(t *testing.T) {
	w := newWorld(t)
	n := w.start()
	n.create(0).try(plain(1, 0))
	n.create(1).try(plain(1, 0))
	n.commit()
	delete(w.meta.states, pid(1)) // deleted in metadata, not yet here
	if err := n.set.Checkpoint(context.Background()); !errors.Is(err, metadata.ErrStale) {
		t.Fatalf("first: %v", err)
	}
	if err := n.set.Checkpoint(context.Background()); err != nil {
		t.Fatalf("second: %v", err)
	}
	if w.meta.trims[n.life] != 1 {
		t.Errorf("trim is %d", w.meta.trims[n.life])
	}
}

func TestCheckpointOfADeletedLogSucceedsAtOnce(t *testing.T) {
	w := newWorld(t)
	n := w.start()
	n.create(0).try(plain(1, 0))
	n.create(1).try(plain(1, 0))
	n.commit()
	delete(w.meta.states, pid(1))
	n.set.Delete(pid(1))
	if err := n.set.Checkpoint(context.Background()); err != nil {
		t.Fatal(err) // as the last one of a clean stop, it has no second chance
	}
	if w.meta.trims[n.life] != 1 {
		t.Errorf("trim is %d", w.meta.trims[n.life])
	}
}

func TestCheckpointOfNothingDoesNothing(t *testing.T) {
	n := newWorld(t).start()
	n.create(0).try(plain(1, 0))
	n.commit()
	for range 3 {
		if err := n.set.Checkpoint(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	if n.meta.calls != 1 || n.set.objectSeq != 1 {
		t.Errorf("%d commits, %d objects, want one", n.meta.calls, n.set.objectSeq)
	}
}

func TestRunWritesCheckpoints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		n := w.start(func(o *Options) { o.CheckpointSlots = 3; o.Registerer = prometheus.NewRegistry() })
		l := n.create(0)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- n.set.Run(ctx) }()
		trim := func() int64 {
			synctest.Wait()
			w.meta.mu.Lock()
			defer w.meta.mu.Unlock()
			return w.meta.trims[n.life]
		}
		for range 3 {
			l.try(plain(1, 0))
			n.commit()
		}
		if got := trim(); got != 3 {
			t.Errorf("by slots: trim %d", got)
		}
		l.try(plain(1, 0))
		n.commit()
		if got := trim(); got != 3 {
			t.Errorf("too early: trim %d", got)
		}
		<-time.After(time.Minute)
		if got := trim(); got != 4 {
			t.Errorf("by time: trim %d", got)
		}
		w.meta.mu.Lock()
		w.meta.before = errMeta
		w.meta.mu.Unlock()
		l.try(plain(1, 0))
		n.commit()
		<-time.After(2 * time.Minute)
		w.meta.mu.Lock()
		w.meta.before = nil
		w.meta.mu.Unlock()
		<-time.After(retryAfter)
		if got := trim(); got != 5 {
			t.Errorf("retried: trim %d", got)
		}
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("run: %v", err)
		}
		l.try(plain(1, 0))
		n.commit()
		if err := n.set.Close(t.Context()); err != nil || trim() != 6 {
			t.Errorf("close: %v, trim %d", err, trim())
		}
	})
}

func TestM7DeleteRecords(t *testing.T) {
	w := newWorld(t)
	n := w.start()
	l := n.create(0)
	for range 3 {
		l.try(plain(5, 0))
		n.commit()
	}
	l.try(plain(5, 0)) // not committed
	size := l.SizeBytes()
	for _, tc := range []struct {
		name   string
		offset int64
		want   int64
		err    error
	}{
		{"negative", -2, -1, ErrOffsetOutOfRange},
		{"above the high watermark", 16, -1, ErrOffsetOutOfRange},
		{"inside a batch", 7, 7, nil},
		{"below the log start: no error", 3, 7, nil},
		{"-1 is the high watermark", -1, 15, nil},
	} {
		if got, err := l.DeleteRecords(context.Background(), tc.offset); got != tc.want || !errors.Is(err, tc.err) {
			t.Errorf("%s: %d, %v, want %d, %v", tc.name, got, err, tc.want, tc.err)
		}
		if tc.offset != 7 {
			continue
		}
		if got := l.offsets(t, 7, 1000); !slices.Equal(got, []int64{5, 10}) {
			t.Errorf("at the log start: %v, want the batch that holds it first", got)
		}
		if _, err := l.Read(context.Background(), ReadInput{Offset: 6}); !errors.Is(err, ErrOffsetOutOfRange) {
			t.Errorf("below the log start: %v", err)
		}
		if l.SizeBytes() != size*2/3 {
			t.Errorf("size %d of %d", l.SizeBytes(), size)
		}
		n2 := w.start() // what another owner would see now, after kill -9
		states, _ := w.meta.Partitions(context.Background())
		if _, err := n2.set.Open(context.Background(), states, n.kill()); err != nil || len(n2.set.unclaimed) != 1 {
			t.Fatal(err)
		}
		if got := n2.set.unclaimed[0].State().LogStart; got != 7 {
			t.Errorf("after kill -9: log start %d", got)
		}
	}
	if l.SizeBytes() != 0 {
		t.Errorf("size of an empty log: %d", l.SizeBytes())
	}
}

func TestM7DeleteRecordsFaults(t *testing.T) {
	w := newWorld(t)
	n := w.start()
	l := n.create(0)
	l.try(plain(5, 0))
	n.commit()
	for name, fault := range map[string]func(){
		"commit not applied":    func() { w.meta.before = errMeta },
		"commit applied, error": func() { w.meta.after, w.meta.apply = errMeta, 9 },
		"put not applied": func() {
			w.store.SetRules(faultstore.Rule{Op: faultstore.Put, Match: isManifest, Fault: faultstore.Lost})
		},
	} {
		fault()
		start := l.State().LogStart
		if _, err := l.DeleteRecords(context.Background(), start+1); !errors.Is(err, ErrStorage) || l.State().LogStart != start {
			t.Errorf("%s: %v, log start %d", name, err, l.State().LogStart)
		}
		w.meta.before, w.meta.after = nil, nil
		w.store.SetRules()
		if got, err := l.DeleteRecords(context.Background(), start+1); got != start+1 || err != nil {
			t.Errorf("after %s: %d, %v", name, got, err)
		}
	}
}

func TestCoordinatorStateTravelsInTheManifest(t *testing.T) {
	w := newWorld(t)
	state := func(offset int64, blob string) func(*Options) {
		return func(o *Options) {
			o.Coordinator = func(id protocol.PartitionID) (int64, []byte, bool) {
				return offset, []byte(blob), id == pid(0) && blob != ""
			}
		}
	}
	n := w.start(state(2, "two"))
	n.create(0).try(plain(3, 0))
	n.create(1).try(plain(3, 0))
	n.commit()
	if err := n.set.Checkpoint(context.Background()); err != nil {
		t.Fatal(err)
	}
	n = w.reopen(n.kill(), state(0, "")) // a coordinator that is not loaded yet must not lose the state
	n.log(0).try(plain(1, 0))
	n.commit()
	if err := n.set.Checkpoint(context.Background()); err != nil {
		t.Fatal(err)
	}
	n = w.reopen(n.kill(), state(1, "one")) // nor one that is still replaying
	n.log(0).try(plain(1, 0))
	n.commit()
	if err := n.set.Checkpoint(context.Background()); err != nil {
		t.Fatal(err)
	}
	n = w.reopen(n.kill())
	if offset, blob, ok := n.log(0).Coordinator(); offset != 2 || string(blob) != "two" || !ok {
		t.Errorf("got %d, %q, %v", offset, blob, ok)
	}
	if _, _, ok := n.log(1).Coordinator(); ok {
		t.Error("a partition without coordinator has its state")
	}
}

func TestCoordinatorAheadOfTheLogIsNotKept(t *testing.T) {
	w := newWorld(t)
	n := w.start(func(o *Options) {
		o.Coordinator = func(protocol.PartitionID) (int64, []byte, bool) { return 99, []byte("x"), true }
	})
	n.create(0).try(plain(1, 0))
	n.commit()
	if err := n.set.Checkpoint(context.Background()); err != nil {
		t.Fatal(err)
	}
	if _, _, ok := w.reopen(n.kill()).log(0).Coordinator(); ok {
		t.Error("state from beyond the end is kept")
	}
}

func TestNoManifestIsWrittenThatCannotBeRead(t *testing.T) {
	w := newWorld(t)
	n := w.start()
	l := n.create(0)
	l.try(plain(2, 0))
	n.commit()
	l.recent[0].Last++ // memory gone wrong
	if err := n.set.Checkpoint(context.Background()); !errors.Is(err, ErrCorrupt) {
		t.Errorf("checkpoint: %v", err)
	}
	if w.meta.calls != 0 || w.meta.trims[n.life] != 0 {
		t.Errorf("%d commits, trim %d", w.meta.calls, w.meta.trims[n.life])
	}
}

// TestRewriteWhileMetadataIsAway: while no manifest can be written, what leaves memory goes into segments all the same, once, and logs remember a
// part for each checkpoint instead of an extent for each slot. When metadata is back all of it is in manifests, and the slots go.
func TestRewriteWhileMetadataIsAway(t *testing.T) {
	const logs, rounds, each = 10, 20, 50
	w := newWorld(t)
	n := w.start(func(o *Options) { o.TailBytes, o.CheckpointBytes, o.CheckpointSlots = 64<<10, 1<<20, each })
	for p := range int32(logs) {
		n.create(p)
	}
	w.meta.before, w.meta.loads, w.meta.partitions = errMeta, errMeta, errMeta
	for range rounds {
		for range each {
			for p := range int32(logs) {
				n.log(p).try(plain(1, 0))
			}
			n.commit()
		}
		if err := n.set.Checkpoint(context.Background()); !errors.Is(err, errMeta) {
			t.Fatalf("a checkpoint without metadata: %v", err)
		}
	}
	for p := range int32(logs) {
		l := n.log(p)
		if inMemory := int(n.seq - n.set.tail.firstSeq()); len(l.recent) != inMemory || len(l.parts) != rounds || len(l.retired) != 0 {
			t.Errorf("partition %d: %d extents with %d slots in memory, %d parts after %d checkpoints, %d retired",
				p, len(l.recent), inMemory, len(l.parts), rounds, len(l.retired))
		}
	}
	if segments, manifests := len(w.keys(SegmentPrefix)), len(w.keys(ManifestPrefix)); segments != rounds || manifests != 1 {
		t.Errorf("%d segments and %d manifest objects after %d checkpoints", segments, manifests, rounds)
	}
	w.meta.before, w.meta.loads, w.meta.partitions = nil, nil, nil
	n.checkpointed(t)
	n.deleted(t)
	if slots, segments := len(n.keys("wal/")), len(w.keys(SegmentPrefix)); slots != 0 || segments != rounds {
		t.Errorf("%d slots and %d segments are left", slots, segments)
	}
	n = w.reopen(n.kill())
	for p := range int32(logs) {
		if got := n.log(p).offsets(t, 0, 1<<20); len(got) != rounds*each {
			t.Errorf("partition %d: %d batches are served", p, len(got))
		}
	}
}
