package partition

import (
	"context"
	"errors"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/tidemill/tidemill/objectstore"
	"github.com/tidemill/tidemill/objectstore/faultstore"
)

// TestPlanMergeBoundsParts appends parts of any sizes and merges as planned: the number of parts stays within the bound that planMerge
// promises, and no byte is rewritten more often than its part can double.
func TestPlanMergeBoundsParts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.SampledFrom([]*rapid.Generator[int64]{
			rapid.Int64Range(100, 200), rapid.Int64Range(1, 16<<20), rapid.SampledFrom([]int64{100, 1 << 20}),
			rapid.SampledFrom([]int64{1, 100, 10_000, 1 << 20, 7 << 20, 9 << 20}),
		}).Draw(t, "kind")
		var parts []Part
		var total, rewritten int64
		for range rapid.IntRange(1, 600).Draw(t, "appends") {
			n := size.Draw(t, "size")
			total += n
			parts = append(parts, Part{Bytes: n})
			for from, to := planMerge(parts); from < to; from, to = planMerge(parts) {
				if to-from < 2 {
					t.Fatalf("a merge of %d parts", to-from)
				}
				var sum int64
				for _, p := range parts[from:to] {
					sum += p.Bytes
				}
				if sum >= 2*mergeMax {
					t.Fatalf("a merge makes %d bytes", sum)
				}
				rewritten += sum
				parts = slices.Concat(parts[:from], []Part{{Bytes: sum}}, parts[to:])
			}
			if most := 32 * (1 + total/mergeMin); int64(len(parts)) > most {
				t.Fatalf("%d parts for %d bytes, want at most %d", len(parts), total, most)
			}
		}
		if rewritten > 24*total { // a part of one byte doubles 23 times up to mergeMax
			t.Fatalf("%d bytes rewritten for %d", rewritten, total)
		}
	})
}

// TestPlanMergeOfNestedSizes: each part is larger than all on either side of it, so none is ever as small as the others together.
func TestPlanMergeOfNestedSizes(t *testing.T) {
	parts := slices.Repeat([]Part{{Bytes: 1}}, mergeFan-1)
	for range 6 {
		var sum int64
		for _, p := range parts {
			sum += p.Bytes
		}
		parts = slices.Concat(parts, []Part{{Bytes: 2*sum + 1}}, parts)
	}
	for from, to := planMerge(parts); from < to; from, to = planMerge(parts) {
		var sum int64
		for _, p := range parts[from:to] {
			sum += p.Bytes
		}
		parts = slices.Concat(parts[:from], []Part{{Bytes: sum}}, parts[to:])
	}
	if len(parts) >= mergeAlways {
		t.Errorf("%d parts side by side are left", len(parts))
	}
}

// small makes a log of one small part for each checkpoint.
func small(t testing.TB, n *node, l *Log, checkpoints int) {
	for range checkpoints {
		l.try(plain(2, 0))
		n.commit()
		if err := n.set.Checkpoint(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestMergeKeepsEverything(t *testing.T) {
	w := newWorld(t)
	n := w.start()
	a, b := n.create(0), n.create(1)
	small(t, n, a, 20)
	small(t, n, b, 3)
	if err := n.set.Merge(context.Background()); err != nil {
		t.Fatal(err)
	}
	if len(a.parts) >= mergeFan || len(b.parts) != 3 {
		t.Errorf("%d and %d parts", len(a.parts), len(b.parts))
	}
	want := a.offsets(t, 0, 100)
	if err := n.set.Checkpoint(context.Background()); err != nil {
		t.Fatal(err)
	}
	n = w.reopen(n.kill())
	if got := n.log(0).offsets(t, 0, 100); !slices.Equal(got, want) || len(got) != 20 {
		t.Errorf("after a restart: %v, want %v", got, want)
	}
}

func TestMergeFaults(t *testing.T) {
	isSegment := func(key string) bool { return key[:len(SegmentPrefix)] == SegmentPrefix }
	for _, tc := range []struct {
		name string
		rule faultstore.Rule
		want error
		done bool
	}{
		{"put not applied", faultstore.Rule{Op: faultstore.Put, Match: isSegment, Fault: faultstore.Lost}, ErrStorage, false},
		{"put applied, outcome unknown", faultstore.Rule{Op: faultstore.Put, Match: isSegment, Fault: faultstore.LostReply, Limit: 1}, nil, true},
		{"another's object", faultstore.Rule{Op: faultstore.Put, Match: isSegment, Fault: faultstore.Taken}, ErrCorrupt, false},
		{"segments unreadable", faultstore.Rule{Op: faultstore.ReadAt, Match: isSegment, Fault: faultstore.Lost}, ErrStorage, false},
		{"a flipped bit on the way", faultstore.Rule{Op: faultstore.ReadAt, Match: isSegment, Fault: faultstore.Flip, Limit: 1}, nil, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t)
			n := w.start()
			l := n.create(0)
			small(t, n, l, 10)
			w.store.SetRules(tc.rule)
			if err := n.set.Merge(context.Background()); !errors.Is(err, tc.want) {
				t.Errorf("merge: %v, want %v", err, tc.want)
			}
			w.store.SetRules()
			if merged := len(l.parts) < 10; merged != tc.done || l.rewriting {
				t.Errorf("%d parts, in hand: %v", len(l.parts), l.rewriting)
			}
			if got := l.offsets(t, 0, 1<<20); len(got) != 10 {
				t.Errorf("%d batches", len(got))
			}
			if err := n.set.Merge(context.Background()); err != nil || len(l.parts) >= mergeFan {
				t.Errorf("after the fault: %v, %d parts", err, len(l.parts))
			}
		})
	}
}

// TestWhatIsLeftInALargeObjectMoves: a small part must not keep a segment alive of which nothing else is needed.
func TestWhatIsLeftInALargeObjectMoves(t *testing.T) {
	w := newWorld(t)
	n := w.start()
	large, tiny := n.create(0), n.create(1)
	for i := range 3 {
		large.try(sized(1<<20, byte(i)))
	}
	tiny.try(plain(1, 0))
	n.commit()
	if err := n.set.Checkpoint(context.Background()); err != nil {
		t.Fatal(err)
	}
	shared := tiny.parts[0].object()
	if shared != large.parts[0].object() {
		t.Fatal("the partitions do not share a segment")
	}
	if _, err := large.DeleteRecords(context.Background(), -1); err != nil {
		t.Fatal(err)
	}
	if err := n.set.Merge(context.Background()); err != nil {
		t.Fatal(err)
	}
	if tiny.parts[0].object() == shared {
		t.Error("the part stays where it was")
	}
	n.checkpointed(t)
	n.deleted(t)
	if keys := w.keys(SegmentPrefix); len(keys) != 1 {
		t.Errorf("segments left: %v", keys)
	}
	if got := tiny.offsets(t, 0, 1000); len(got) != 1 {
		t.Errorf("batches: %v", got)
	}
}

// checkpointed writes a checkpoint though nothing was appended, so that manifests say what segments there are now.
func (n *node) checkpointed(t testing.TB) {
	t.Helper()
	if err := n.set.Checkpoint(context.Background()); err != nil {
		t.Fatal(err)
	}
}

// deleted lets the delay of deletions pass.
func (n *node) deleted(t testing.TB) {
	t.Helper()
	n.world.now = n.world.now.Add(n.set.opts.DeleteDelay)
	if err := n.set.deleteDue(context.Background()); err != nil {
		t.Fatal(err)
	}
}

// keys lists the bucket.
func (w *world) keys(prefix string) []string {
	var keys []string
	for info, err := range w.mem.List(context.Background(), prefix, "") {
		if err != nil {
			w.t.Fatal(err)
		}
		keys = append(keys, info.Key)
	}
	return keys
}

func TestRewritesConserveOrAreRefused(t *testing.T) {
	w := newWorld(t)
	n := w.start()
	l := n.create(0)
	small(t, n, l, 10)
	was := slices.Clone(l.parts)
	for name, parts := range map[string][]Part{
		"another sum":       {{Base: 0, Last: 19, Sum: 1}},
		"a later beginning": {{Base: 1, Last: 19, Sum: sumOf(was)}},
	} {
		if err := l.swap(was, parts, true, func() {}); !errors.Is(err, ErrCorrupt) || !slices.Equal(l.parts, was) {
			t.Errorf("%s: %v", name, err)
		}
	}
	l.try(plain(1, 0))
	n.commit()
	u := l.unwritten()
	if err := l.extend([]Part{{Base: 20, Last: 20, Sum: u.extents[0].Sum + 1}}, u.extents); !errors.Is(err, ErrCorrupt) {
		t.Errorf("extend: %v", err)
	}
}

func sumOf(parts []Part) (sum uint64) {
	for i := range parts {
		sum += parts[i].Sum
	}
	return sum
}

// TestMergeGoesOnBehindWhatItCannotRead: a lost segment is looked at once, and what comes after it is merged.
func TestMergeGoesOnBehindWhatItCannotRead(t *testing.T) {
	w := newWorld(t)
	hs := &hookStore{Store: w.mem}
	n := w.start(func(o *Options) { o.Store, o.CacheBytes = hs, 1 })
	l := n.create(0)
	small(t, n, l, 10)
	if err := w.mem.Delete(context.Background(), SegmentKey(n.life, l.parts[3].Seq)); err != nil {
		t.Fatal(err)
	}
	if err := n.set.Merge(context.Background()); !errors.Is(err, objectstore.ErrNotFound) {
		t.Fatalf("merge: %v, want %v", err, objectstore.ErrNotFound)
	}
	before := hs.reads.Load()
	if err := n.set.Merge(context.Background()); err != nil || hs.reads.Load() != before || len(l.parts) != 10 {
		t.Errorf("again: %v, %d reads, %d parts", err, hs.reads.Load()-before, len(l.parts))
	}
	small(t, n, l, 10)
	if err := n.set.Merge(context.Background()); err != nil || len(l.parts) >= 20 {
		t.Errorf("behind it: %v, %d parts", err, len(l.parts))
	}
}

// TestRetentionBesideAMerge: what retention drops while it is being merged may go. That it is gone is not damage.
func TestRetentionBesideAMerge(t *testing.T) {
	w := newWorld(t)
	n := w.start()
	l := n.create(0)
	small(t, n, l, 10)
	parts := l.startMerge()
	if _, err := l.DeleteRecords(context.Background(), parts[len(parts)-1].Last+1); err != nil {
		t.Fatal(err)
	}
	l.giveUpMerging(parts, objectstore.ErrNotFound)
	l.endRewrite(parts)
	if l.unmergeableTo != 0 {
		t.Errorf("nothing below offset %d is merged any more", l.unmergeableTo)
	}
}
