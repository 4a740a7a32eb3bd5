package partition

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/tidemill/tidemill/metadata"
	"github.com/tidemill/tidemill/objectstore"
	"github.com/tidemill/tidemill/protocol/record"
	"github.com/tidemill/tidemill/wal"
)

// fuse lets so many writes to the store and to metadata pass. The next one is applied or not, and from then on nothing is any more: the
// process was killed.
type fuse struct {
	mu      sync.Mutex
	left    int
	applies bool
	names   []string
}

var errKilled = errors.New("killed")

// burn runs a write unless the process is dead.
func (f *fuse) burn(name string, write func() error) error {
	f.mu.Lock()
	f.left--
	left := f.left
	if left >= 0 {
		f.names = append(f.names, name)
	}
	f.mu.Unlock()
	switch {
	case left > 0:
		return write()
	case left == 0 && f.applies:
		_ = write() // it was, and nobody lives to hear it
	}
	return errKilled
}

type mortalStore struct {
	objectstore.Store
	fuse *fuse
}

func (s mortalStore) Put(ctx context.Context, key string, body []byte) error {
	kind, _, _ := strings.Cut(key, "/")
	return s.fuse.burn("put "+kind, func() error { return s.Store.Put(ctx, key, body) })
}

func (s mortalStore) Delete(ctx context.Context, keys ...string) error {
	kind, _, _ := strings.Cut(keys[0], "/")
	return s.fuse.burn("delete "+kind, func() error { return s.Store.Delete(ctx, keys...) })
}

type mortalMeta struct {
	*fakeMeta
	fuse *fuse
}

func (m mortalMeta) CommitManifests(ctx context.Context, life wal.Life, updates []metadata.ManifestUpdate) error {
	return m.fuse.burn("commit", func() error { return m.fakeMeta.CommitManifests(ctx, life, updates) })
}

func (m mortalMeta) Trim(ctx context.Context, life wal.Life, rev, t int64) error {
	return m.fuse.burn("trim", func() error { return m.fakeMeta.Trim(ctx, life, rev, t) })
}

// keyed returns a batch of records with these keys, whose values begin with them; a key that begins with "-" is a tombstone.
func keyed(ts int64, keys ...string) record.Batch {
	var rb record.Builder
	for i, k := range keys {
		if name, dead := strings.CutPrefix(k, "-"); dead {
			rb.Append(ts+int64(i), []byte(name), nil)
		} else {
			rb.Append(ts+int64(i), []byte(k), fmt.Appendf(nil, "%s at %d", k, ts))
		}
	}
	return rb.Build()
}

// lifePolicies give partition 0 everything for ever, 1 compaction and 2 retention by size, all with rolls of a few batches.
func lifePolicies(id int32) *Policy {
	p := DefaultPolicy()
	p.SegmentBytes = 400
	switch id {
	case 0:
		p.RetentionMs = -1
	case 1:
		p.Delete, p.Compact, p.MinCleanableRatio, p.DeleteRetentionMs = false, true, 0.01, 0
	case 2:
		p.RetentionBytes = 1000
	}
	return &p
}

// story does everything that writes, several times over; it ends where the process is killed. It returns the last value that was
// acknowledged for each key of the compacted partition, and how many batches were of the others.
func (n *node) story(t *testing.T) (latest map[string]string, acked [3]int) {
	latest = map[string]string{}
	var logs [3]*Log
	for p := range int32(3) {
		logs[p] = n.create(p)
		logs[p].SetPolicy(lifePolicies(p))
	}
	ctx := context.Background()
	for round := range 6 {
		for step := range 4 {
			ts := n.now.UnixMilli()
			key := fmt.Sprint("k", step%3)
			for p, l := range logs {
				b := keyed(ts, key, fmt.Sprint("once", round, step))
				if o := l.try(b); true {
					n.commit()
					if o.err != nil {
						t.Fatalf("append: %v", o.err)
					}
				}
				acked[p]++
			}
			for r := range record.Records(keyed(ts, key, fmt.Sprint("once", round, step)), record.Limits{}) {
				latest[string(r.Key)] = string(r.Value)
			}
		}
		_ = n.set.Checkpoint(ctx)
		_, _ = n.set.Compact(ctx)
		_ = n.set.Retain(ctx)
		_ = n.set.Merge(ctx)
		n.world.now = n.world.now.Add(n.set.opts.DeleteDelay) // what storage still refers to stays, however late its manifest is replaced
		_ = n.set.deleteDue(ctx)
		_ = n.set.Checkpoint(ctx)
		n.world.now = n.world.now.Add(n.set.opts.DeleteDelay)
		_ = n.set.deleteDue(ctx)
	}
	return latest, acked
}

// TestKillAtEveryWrite walks over all points at which a process may be killed between writes, with the last write applied or not: nothing
// is lost, nothing is there twice, and once the next life has tidied up nothing is left that nobody refers to.
func TestKillAtEveryWrite(t *testing.T) {
	k := 1
	for ; ; k++ {
		var names []string
		for _, applies := range []bool{false, true} {
			f := &fuse{left: k, applies: applies}
			w := newWorld(t)
			n := w.start(func(o *Options) {
				o.Store, o.Manifests = mortalStore{w.mem, f}, mortalMeta{w.meta, f}
			})
			latest, acked := n.story(t)
			names = f.names
			name := fmt.Sprintf("killed at write %d (%s, applied: %v)", k, f.names[len(f.names)-1], applies)
			checkAfterKill(t, name, w, n, latest, acked)
			if t.Failed() {
				return
			}
		}
		if len(names) < k { // the story ended before the fuse did
			break
		}
	}
	if k <= 40 {
		t.Errorf("only %d writes were walked over", k-1)
	}
	t.Logf("%d writes", k-1)
}

func checkAfterKill(t *testing.T, name string, w *world, dead *node, latest map[string]string, acked [3]int) {
	t.Helper()
	n := w.reopen(dead.kill())
	for round := range 4 { // retention and merges may ask for more
		for p := range int32(3) {
			n.log(p).SetPolicy(lifePolicies(p))
		}
		checkStory(t, fmt.Sprintf("%s, round %d", name, round), n, latest, acked)
		ctx := context.Background()
		_, compacted := n.set.Compact(ctx)
		err := errors.Join(n.set.Checkpoint(ctx), compacted, n.set.Retain(ctx), n.set.Merge(ctx), n.set.Checkpoint(ctx), n.set.Sweep(ctx))
		if err != nil {
			t.Fatalf("%s: tidying: %v", name, err)
		}
		n.deleted(t)
	}
	checkStory(t, name+", tidied", n, latest, acked)
	n.checkReferences(t, name)
	for _, key := range w.keys("") {
		kind, life, seq, ok := ParseObjectKey(key)
		if !ok {
			t.Errorf("%s: unknown object %s", name, key)
			continue
		}
		if _, used := n.set.objects.uses[objectID{kind, n.set.lives.id(life), seq}]; !used {
			t.Errorf("%s: %s is left and nobody needs it", name, key)
		}
	}
	again := w.reopen(n.kill())
	checkStory(t, name+", opened again", again, latest, acked)
}

// checkReferences counts who refers to what and compares it with the table.
func (n *node) checkReferences(t *testing.T, name string) {
	t.Helper()
	want := map[objectID]int{}
	for _, l := range n.set.all() {
		if len(l.retired) > 0 || len(l.heads) > 1 {
			t.Errorf("%s: %v has %d retired objects and %d manifests after a checkpoint", name, l.id, len(l.retired), len(l.heads))
		}
		for i := range l.parts {
			want[l.parts[i].object()]++
		}
		for i := range l.recent {
			if l.recent[i].Life != n.set.life {
				want[l.recent[i].object()]++
			}
		}
		for _, h := range l.heads {
			want[h.objectID]++
		}
	}
	for id, u := range n.set.objects.uses {
		if u.refs != want[id] || u.refs == 0 {
			t.Errorf("%s: %v %d has %d references, want %d", name, id.kind, id.seq, u.refs, want[id])
		}
		delete(want, id)
	}
	for id := range want {
		t.Errorf("%s: %v %d is referred to and not in the table", name, id.kind, id.seq)
	}
}

func checkStory(t *testing.T, name string, n *node, latest map[string]string, acked [3]int) {
	t.Helper()
	if got := n.log(0).offsets(t, 0, 1000); len(got) != acked[0] {
		t.Errorf("%s: %d batches of the kept partition, want %d", name, len(got), acked[0])
	}
	got := map[string]string{}
	for _, r := range n.log(1).allRecords(t, 0) {
		got[string(r.Key)] = string(r.Value)
	}
	for k, v := range latest {
		if got[k] != v {
			t.Errorf("%s: key %s is %q, want %q", name, k, got[k], v)
		}
	}
	st := n.log(2).State()
	if st.HighWatermark != int64(2*acked[2]) {
		t.Errorf("%s: the trimmed partition ends at %d, want %d", name, st.HighWatermark, 2*acked[2])
	}
	if got := n.log(2).offsets(t, st.LogStart, 1000); len(got) != int(st.HighWatermark-st.LogStart)/2 {
		t.Errorf("%s: %d batches from %d to %d", name, len(got), st.LogStart, st.HighWatermark)
	}
}

// allRecords reads every record from offset on, as a consumer does, and checks that batches ascend and reach the high watermark.
func (l *Log) allRecords(t testing.TB, offset int64) []record.Record {
	t.Helper()
	var out []record.Record
	st := l.State()
	next := max(offset, st.LogStart)
	for next < st.HighWatermark {
		r, err := l.Read(context.Background(), ReadInput{Offset: next, MaxBytes: 700, AtLeastOne: true})
		if errors.Is(err, ErrStorage) { // what was read ahead met a fault that is over
			r, err = l.Read(context.Background(), ReadInput{Offset: next, MaxBytes: 700, AtLeastOne: true})
		}
		if err != nil || r.Bytes == 0 {
			t.Fatalf("read at %d of %d: %d bytes, %v", next, st.HighWatermark, r.Bytes, err)
		}
		for _, run := range r.Batches {
			for len(run) > 0 {
				b, rest, err := record.Next(run)
				if err != nil || b == nil || record.CheckCRC(b) != nil || b.LastOffset() < next {
					t.Fatalf("bad batch at %d: %v", next, err)
				}
				for rec, err := range record.Records(b, record.Limits{}) {
					if err != nil {
						t.Fatal(err)
					}
					if rec.Offset >= next {
						rec.Key, rec.Value = append([]byte(nil), rec.Key...), append([]byte(nil), rec.Value...)
						out = append(out, rec)
					}
				}
				next, run = b.LastOffset()+1, rest
			}
		}
		r.Release()
	}
	return out
}
