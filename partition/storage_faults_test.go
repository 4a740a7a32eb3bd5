package partition

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidemill/tidemill/objectstore"
	"github.com/tidemill/tidemill/protocol/record"
	"github.com/tidemill/tidemill/wal"
)

// hookStore runs functions before a Put and counts.
type hookStore struct {
	objectstore.Store
	beforePut       func(key string)
	denied          func(key string) bool
	stallRead       chan struct{}
	puts, reads     atomic.Int64
	putLatency      time.Duration
	deletedRequests atomic.Int64
}

func (s *hookStore) Put(ctx context.Context, key string, body []byte) error {
	s.puts.Add(1)
	if s.beforePut != nil {
		s.beforePut(key)
	}
	if s.putLatency > 0 {
		select {
		case <-time.After(s.putLatency):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return s.Store.Put(ctx, key, body)
}

func (s *hookStore) ReadAt(ctx context.Context, key string, p []byte, off int64) error {
	s.reads.Add(1)
	if s.stallRead != nil {
		select {
		case <-s.stallRead:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return s.Store.ReadAt(ctx, key, p, off)
}

func (s *hookStore) Delete(ctx context.Context, keys ...string) error {
	s.deletedRequests.Add(1)
	if s.denied != nil && slices.ContainsFunc(keys, s.denied) {
		return objectstore.ErrDenied
	}
	return s.Store.Delete(ctx, keys...)
}

// TestOneLostObjectStopsNoOtherCheckpoint: one object of an earlier life is lost.
func TestOneLostObjectStopsNoOtherCheckpoint(t *testing.T) {
	w := newWorld(t)
	n := w.start()
	n.create(0).try(plain(1, 0))
	n.create(1).try(plain(1, 0))
	n.commit()
	r := n.kill()
	b := w.reopen(r)
	if err := w.mem.Delete(context.Background(), wal.SlotKey(n.life, 0)); err != nil {
		t.Fatal(err)
	}
	good := b.create(2)
	for i := range 3 {
		good.try(plain(1, 0))
		b.commit()
		if err := b.set.Checkpoint(context.Background()); err != nil {
			t.Logf("checkpoint %d: %v", i, err)
		}
	}
	if w.meta.states[pid(2)].Manifest == nil || w.meta.trims[b.life] == 0 {
		t.Errorf("manifest of a partition that has nothing to do with it: %v, trim %d after 3 checkpoints", w.meta.states[pid(2)].Manifest, w.meta.trims[b.life])
	}
}

// TestDamagedLogIsCompactedOnce: damage in what is clean already makes each look for something to compact read and write the log anew.
func TestDamagedLogIsCompactedOnce(t *testing.T) {
	w := newWorld(t)
	hs := &hookStore{Store: w.mem}
	n := w.start(func(o *Options) { o.Store, o.TailBytes, o.CacheBytes = hs, 1, 1 })
	l := n.create(0)
	p := lifePolicies(1)
	p.SegmentBytes = 4 << 20
	l.SetPolicy(p)
	fill := func(from, to int) {
		for i := from; i < to; i++ {
			l.try(keyedBig(int64(i), fmt.Sprint("key", i), 1<<20))
			n.commit()
		}
		n.checkpointed(t)
	}
	fill(0, 60)
	if worked, err := n.set.Compact(context.Background()); err != nil || !worked {
		t.Fatal(worked, err)
	}
	at := l.parts[findPart(l.parts, l.compactedTo-1)]
	fill(60, 70)
	key := SegmentKey(n.life, at.Seq)
	body, _ := w.mem.Get(context.Background(), key)
	body = slices.Clone(body)
	body[SegmentHeaderLen+500]++ // the first block of the last part that is clean
	_ = w.mem.Delete(context.Background(), key)
	_ = w.mem.Put(context.Background(), key, body)
	for i := range 4 {
		r, pu := hs.reads.Load(), hs.puts.Load()
		_, err := n.set.Compact(context.Background())
		t.Logf("compaction %d: %d reads, %d puts: %v", i, hs.reads.Load()-r, hs.puts.Load()-pu, err)
		if i > 0 && hs.puts.Load()-pu > 0 {
			t.Errorf("look %d at a log that cannot be compacted: %d reads and %d puts again", i, hs.reads.Load()-r, hs.puts.Load()-pu)
		}
	}
}

// TestOneUndeletableObject: an object that cannot be deleted.
func TestOneUndeletableObject(t *testing.T) {
	w := newWorld(t)
	hs := &hookStore{Store: w.mem}
	n := w.start(func(o *Options) { o.Store = hs })
	l := n.create(0)
	small(t, n, l, 3)
	hs.denied = func(key string) bool { return key == wal.SlotKey(n.life, 0) }
	for range 5 {
		small(t, n, l, 10)
		w.now = w.now.Add(n.set.opts.DeleteDelay)
		_ = n.set.deleteDue(context.Background())
	}
	if left := w.keys(""); len(left) > 80 {
		_, waiting := n.set.objects.counts()
		t.Errorf("one object cannot be deleted: %d objects are left, %d wait", len(left), waiting)
	}
}

// TestEmptiedRollDoesNotStopRetention: an emptied roll at the front.
func TestEmptiedRollDoesNotStopRetention(t *testing.T) {
	p := Policy{Delete: true, RetentionMs: 100, RetentionBytes: -1}
	rolls := []Roll{{Base: 0, MaxTimestamp: 1, Bytes: 0}, {Base: 10, MaxTimestamp: 2, Bytes: 61}, {Base: 20, MaxTimestamp: 1000, Bytes: 100}}
	if got := p.expired(rolls, 30, 1050); got != 20 {
		t.Errorf("log start %d, want 20", got)
	}
}

func keyedBig(ts int64, key string, size int) record.Batch {
	var rb record.Builder
	rb.Append(ts, []byte(key), slices.Repeat([]byte{byte(ts)}, size))
	return rb.Build()
}

// TestRefusedCommits: etcd answers reads and refuses writes (out of space), for 200 retries.
func TestRefusedCommits(t *testing.T) {
	w := newWorld(t)
	hs := &hookStore{Store: w.mem}
	n := w.start(func(o *Options) { o.Store = hs })
	l := n.create(0)
	l.try(plain(1, 0))
	n.commit()
	w.meta.before = errMeta
	for range 200 {
		_ = n.set.Checkpoint(context.Background())
		n.deleted(t)
	}
	if len(l.heads) > 10 {
		t.Errorf("%d manifest objects are kept for one log that did not change, %d puts, %d in the bucket", len(l.heads), hs.puts.Load(), len(w.keys(ManifestPrefix)))
	}
}

// TestManifestsInMemory: the bodies of all manifest objects stay in memory until all are committed.
func TestManifestsInMemory(t *testing.T) {
	w := newWorld(t)
	n := w.start()
	var snapshots []*snapshot
	for i := range 40 {
		l := n.create(int32(i))
		l.coordinator = &coordinatorState{blob: make([]byte, 1<<20)}
		snapshots = append(snapshots, l.snapshot(0))
	}
	all, err := n.set.writeManifests(context.Background(), snapshots)
	if err != nil {
		t.Fatal(err)
	}
	kept := 0
	for _, o := range all {
		kept += cap(o.body)
	}
	if kept > objectMax {
		t.Errorf("%d bytes of manifests that are stored are still in memory", kept)
	}
}

// TestDeletionsOneByOne: a request for each object that is deleted.
func TestDeletionsOneByOne(t *testing.T) {
	w := newWorld(t)
	hs := &hookStore{Store: w.mem}
	n := w.start(func(o *Options) { o.Store = hs })
	for i := range 1000 {
		n.set.objects.begin(objectID{KindSegment, n.set.life, int64(i)})
		n.set.objects.abandon(objectID{KindSegment, n.set.life, int64(i)}, w.now)
	}
	n.deleted(t)
	if got := hs.deletedRequests.Load(); got > 1000/deleteBatch+1 {
		t.Errorf("%d requests for 1000 objects", got)
	}
}

// TestEmptiedRollEndToEnd: segment.bytes was made smaller, then the first roll lost all it had.
func TestEmptiedRollEndToEnd(t *testing.T) {
	w := newWorld(t)
	n := w.start()
	l := n.create(0)
	p := DefaultPolicy()
	p.Compact, p.MinCleanableRatio, p.SegmentBytes, p.RetentionMs = true, 0.01, 1000, 60_000
	l.SetPolicy(&p)
	for range 40 {
		l.try(keyed(w.now.UnixMilli(), "a", "b", "c", "d", "e", "f", "g", "h"))
		n.commit()
	}
	n.checkpointed(t)
	q := p
	q.SegmentBytes = 100
	l.SetPolicy(&q)
	if _, err := n.set.Compact(context.Background()); err != nil {
		t.Fatal(err)
	}
	w.now = w.now.Add(time.Hour)
	if err := n.set.Retain(context.Background()); err != nil {
		t.Fatal(err)
	}
	if st := l.State(); st.LogStart != st.HighWatermark {
		t.Errorf("everything is an hour old, retention is a minute: log from %d to %d, rolls %+v", st.LogStart, st.HighWatermark, l.rolls[:3])
	}
}

// TestDeleteRecordsBesideASlowSegment: who only wants a manifest does not wait for segments that are being put.
func TestDeleteRecordsBesideASlowSegment(t *testing.T) {
	w := newWorld(t)
	hs := &hookStore{Store: w.mem}
	n := w.start(func(o *Options) { o.Store = hs })
	a, b := n.create(0), n.create(1)
	a.try(plain(1, 0))
	n.commit()
	n.checkpointed(t)
	b.try(plain(1, 0))
	n.commit()
	putting, deleted := make(chan struct{}), make(chan struct{})
	hs.beforePut = func(key string) {
		if strings.HasPrefix(key, SegmentPrefix) {
			close(putting)
			<-deleted
		}
	}
	ended := make(chan error)
	go func() { ended <- n.set.Checkpoint(context.Background()) }()
	<-putting
	if _, err := a.DeleteRecords(context.Background(), 1); err != nil {
		t.Error(err)
	}
	close(deleted)
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if a, b := n.log(0).State().LogStart, len(b.parts); a != 1 || b != 1 {
		t.Errorf("log start %d, %d parts", a, b)
	}
}

// TestStopPutsNoSegments: a stop waits for manifests only, and a checkpoint that is putting segments then gives up.
func TestStopPutsNoSegments(t *testing.T) {
	w := newWorld(t)
	n := w.start()
	putting := make(chan struct{})
	n.set.opts.Store = stuckStore{w.mem, putting}
	l := n.create(0)
	l.try(plain(1, 0))
	n.commit()
	ended := make(chan error)
	go func() { ended <- n.set.Checkpoint(context.Background()) }()
	<-putting
	if err := n.set.Close(context.Background()); err != nil {
		t.Errorf("close: %v", err)
	}
	<-ended
	if w.meta.states[pid(0)].Manifest == nil || w.meta.trims[n.life] != 1 {
		t.Error("no manifest, or no trim")
	}
	if got := w.reopen(nil).log(0).offsets(t, 0, 1000); len(got) != 1 {
		t.Errorf("batches: %v", got)
	}
}

// stuckStore does not answer a put of a segment until its context ends.
type stuckStore struct {
	objectstore.Store
	putting chan struct{}
}

func (s stuckStore) Put(ctx context.Context, key string, body []byte) error {
	if !strings.HasPrefix(key, SegmentPrefix) {
		return s.Store.Put(ctx, key, body)
	}
	close(s.putting)
	<-ctx.Done()
	return ctx.Err()
}

// TestOutageOfMetadata: while metadata takes nothing, nothing piles up in the bucket.
func TestOutageOfMetadata(t *testing.T) {
	w := newWorld(t)
	n := w.start()
	l := n.create(0)
	w.meta.before = errMeta
	w.meta.loads = errMeta
	ctx := context.Background()
	for i := range 200 {
		l.try(plain(1, 0))
		n.commit()
		_ = n.set.Checkpoint(ctx)
		if i%5 == 0 {
			_ = n.set.Merge(ctx)
			n.deleted(t)
		}
	}
	if used, waiting := n.set.objects.counts(); used+waiting > 5 || len(l.heads) > 2 || len(l.retired) > 0 {
		t.Errorf("%d objects used, %d waiting, %d manifests, %d retired", used, waiting, len(l.heads), len(l.retired))
	}
	w.meta.before, w.meta.loads = nil, nil
	n.checkpointed(t)
	n.deleted(t)
	if got := w.reopen(n.kill()).log(0).offsets(t, 0, 1<<20); len(got) != 200 {
		t.Errorf("%d batches", len(got))
	}
}
