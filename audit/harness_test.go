package audit

import (
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidemill/tidemill/internal/crc32c"
	"github.com/tidemill/tidemill/metadata"
	"github.com/tidemill/tidemill/objectstore/memstore"
	"github.com/tidemill/tidemill/partition"
	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/protocol/record"
	"github.com/tidemill/tidemill/wal"
)

var (
	quiet   = slog.New(slog.DiscardHandler)
	cluster = wal.Cluster{ID: "AAECAwQFBgcICQoLDA0ODw", Generation: 1}
	topic   = protocol.TopicID{1, 2, 3}
)

func pid(n int32) protocol.PartitionID { return protocol.PartitionID{Topic: topic, Partition: n} }

// agreed is the agreed state in memory: what metadata.Store is to the broker and to the audit.
type agreed struct {
	mu     sync.Mutex
	image  *metadata.Image
	lives  map[wal.Life]wal.StreamState
	states map[protocol.PartitionID]metadata.PartitionState
}

func newAgreed(partitions int) *agreed {
	t := &metadata.Topic{
		Name: "orders", ID: topic, Partitions: make([]metadata.Partition, partitions), ReplicationFactor: 3,
		Created: time.UnixMilli(1_700_000_000_000), Configs: map[string]string{"cleanup.policy": "delete"},
	}
	return &agreed{
		lives: map[wal.Life]wal.StreamState{}, states: map[protocol.PartitionID]metadata.PartitionState{},
		image: &metadata.Image{
			Cluster: metadata.Cluster{ID: cluster.ID, Generation: cluster.Generation},
			Topics:  map[string]*metadata.Topic{t.Name: t}, TopicsByID: map[protocol.TopicID]*metadata.Topic{t.ID: t},
		},
	}
}

func (m *agreed) Image() *metadata.Image { return m.image }

func (m *agreed) Partitions(context.Context) ([]metadata.PartitionState, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []metadata.PartitionState
	for _, st := range m.states {
		out = append(out, st)
	}
	return out, nil
}

// Move and States are of brokers that come and go, which no audit test has.
func (m *agreed) Move(_ context.Context, _ wal.Life, moves []metadata.Move) []error {
	return slices.Repeat([]error{metadata.ErrUnavailable}, len(moves))
}

func (m *agreed) States(ctx context.Context, ids []protocol.PartitionID) ([]metadata.PartitionState, error) {
	all, err := m.Partitions(ctx)
	return slices.DeleteFunc(all, func(st metadata.PartitionState) bool { return !slices.Contains(ids, st.ID) }), err
}

func (m *agreed) Partition(_ context.Context, id protocol.PartitionID) (metadata.PartitionState, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	st, ok := m.states[id]
	if !ok {
		return st, metadata.ErrUnknownPartition
	}
	return st, nil
}

func (m *agreed) AllLives(context.Context) ([]wal.StreamState, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []wal.StreamState
	for _, st := range m.lives {
		out = append(out, st)
	}
	slices.SortFunc(out, func(a, b wal.StreamState) int { return strings.Compare(a.Life.String(), b.Life.String()) })
	return out, nil
}

func (m *agreed) Load(_ context.Context, l wal.Life) (wal.StreamState, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	st, ok := m.lives[l]
	if !ok {
		return st, metadata.ErrUnknownLife
	}
	return st, nil
}

func (m *agreed) move(l wal.Life, f func(wal.StreamState) (wal.StreamState, bool)) (wal.StreamState, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	next, moved := f(m.lives[l])
	if moved {
		next.Rev++
		m.lives[l] = next
	}
	return m.lives[l], nil
}

func (m *agreed) BeginSeal(_ context.Context, l wal.Life, rev int64, sealer string) (wal.StreamState, error) {
	return m.move(l, func(st wal.StreamState) (wal.StreamState, bool) { return st.BeginSeal(rev, sealer) })
}

func (m *agreed) FinishSeal(_ context.Context, l wal.Life, n int64, digest [32]byte, key string) (wal.StreamState, error) {
	return m.move(l, func(st wal.StreamState) (wal.StreamState, bool) { return st.FinishSeal(n, digest, key) })
}

func (m *agreed) Trim(_ context.Context, l wal.Life, rev, t int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	st := m.lives[l]
	if err := st.CheckTrim(rev, t); err != nil {
		return err
	}
	st.Trim = t
	m.lives[l] = st
	return nil
}

func (m *agreed) CommitManifests(_ context.Context, life wal.Life, updates []metadata.ManifestUpdate) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, u := range updates {
		st, p := m.states[u.ID], u.Pointer
		if st.Owner != life || st.Manifest != nil && st.Manifest.Version != u.PrevVersion {
			return metadata.ErrStale
		}
		st.Manifest = &p
		st.ManifestRev++
		m.states[u.ID] = st
	}
	return nil
}

// change edits what metadata says of a partition.
func (m *agreed) change(id protocol.PartitionID, f func(*metadata.PartitionState)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	st := m.states[id]
	if st.Manifest != nil {
		p := *st.Manifest
		st.Manifest = &p
	}
	f(&st)
	m.states[id] = st
}

// world is a bucket and its agreed state.
type world struct {
	t     *testing.T
	store *memstore.Store
	meta  *agreed
}

// node is one life of a broker, with the real code of partitions and of the log.
type node struct {
	*world
	life wal.Life
	set  *partition.Set
	w    *wal.Writer
	stop context.CancelFunc
	ran  chan error
}

func newWorld(t *testing.T, partitions int) *world {
	w := &world{t: t, store: memstore.New(), meta: newAgreed(partitions)}
	if err := metadata.EnsureGuard(t.Context(), w.store, cluster.ID); err != nil {
		t.Fatal(err)
	}
	return w
}

// constant is the clock of the lives, so that what they write is the same each time.
func constant() time.Time { return time.UnixMilli(1_700_000_100_000) }

func (w *world) start(broker int32, epoch uint64, change ...func(*partition.Options)) *node {
	w.t.Helper()
	n := &node{world: w, life: wal.Life{Broker: broker, Epoch: epoch, Nonce: [8]byte{0xab, byte(broker), byte(epoch)}}, ran: make(chan error, 1)}
	w.meta.lives[n.life] = wal.StreamState{Life: n.life, Phase: wal.PhaseOpen, Rev: 1}
	o := partition.Options{Life: n.life, Store: w.store, Manifests: w.meta, Logger: quiet, Now: constant}
	for _, f := range change {
		f(&o)
	}
	set, err := partition.NewSet(o)
	if err != nil {
		w.t.Fatal(err)
	}
	n.set = set
	n.w = wal.NewWriter(n.life, w.store, set, wal.Options{Cluster: cluster, FlushInterval: time.Millisecond, Logger: quiet})
	set.UseWAL(n.w)
	ctx, stop := context.WithCancel(context.Background())
	n.stop = stop
	go func() { n.ran <- n.w.Run(ctx) }()
	w.t.Cleanup(func() { stop() })
	return n
}

func (n *node) create(p int32) {
	first := metadata.EpochStart{Life: n.life}
	n.meta.change(pid(p), func(st *metadata.PartitionState) {
		*st = metadata.PartitionState{ID: pid(p), Owner: n.life, Rev: 1, History: []metadata.EpochStart{first}}
	})
	n.set.Create(pid(p), 0)
}

// batch makes n records of a producer; -1 is none.
func batch(producer int64, seq int32, n int, fill byte) record.Batch {
	var rb record.Builder
	for i := range n {
		rb.Append(1_700_000_000_000+int64(i), []byte{'k', byte(i)}, slices.Repeat([]byte{fill}, 20))
	}
	b := rb.Build()
	if producer >= 0 {
		binary.BigEndian.PutUint64(b[43:], uint64(producer))
		binary.BigEndian.PutUint16(b[51:], 0)
		binary.BigEndian.PutUint32(b[53:], uint32(seq))
		binary.BigEndian.PutUint32(b[17:], crc32c.Sum(b[21:]))
	}
	return b
}

// write appends batches, each in a slot of its own.
func (n *node) write(p int32, batches ...record.Batch) {
	n.t.Helper()
	l, ok := n.set.Get(pid(p))
	if !ok {
		n.t.Fatalf("no log of partition %d", p)
	}
	for _, b := range batches {
		done := make(chan error, 1)
		l.Append(partition.AppendInput{Batch: b, LogAppendTime: -1}, func(_ partition.AppendResult, err error) { done <- err })
		n.w.Nudge()
		if err := <-done; err != nil {
			n.t.Fatal(err)
		}
	}
}

func (n *node) checkpoint() {
	n.t.Helper()
	if err := n.set.Checkpoint(n.t.Context()); err != nil {
		n.t.Fatal(err)
	}
}

// close ends the life in order (W8).
func (n *node) close() {
	n.t.Helper()
	ctx := n.t.Context()
	err := n.w.Close(ctx)
	if err == nil {
		err = n.set.Close(ctx)
	}
	if err == nil {
		end, digest := n.w.End()
		_, err = n.meta.FinishSeal(ctx, n.life, end, digest, "")
	}
	if err != nil {
		n.t.Fatal(err)
	}
	<-n.ran
}

// crash ends the life as kill -9 does; a sealer ends its log.
func (n *node) crash() wal.Recovery {
	n.t.Helper()
	n.stop()
	if err := <-n.ran; !errors.Is(err, context.Canceled) {
		n.t.Fatal(err)
	}
	r, err := wal.Seal(n.t.Context(), n.store, n.meta, n.life, wal.SealOptions{Cluster: cluster, Name: "test", Logger: quiet})
	if err != nil {
		n.t.Fatal(err)
	}
	return r
}

// takeOver opens partitions of sealed lives, as a start does.
func (n *node) takeOver(recoveries map[wal.Life]wal.Recovery, ids ...int32) {
	n.t.Helper()
	var states []metadata.PartitionState
	for _, p := range ids {
		st, err := n.meta.Partition(n.t.Context(), pid(p))
		if err != nil {
			n.t.Fatal(err)
		}
		states = append(states, st)
	}
	claims, err := n.set.Open(n.t.Context(), states, recoveries)
	if err != nil {
		n.t.Fatal(err)
	}
	if err := n.set.Claimed(n.t.Context()); err != nil {
		n.t.Fatal(err)
	}
	for _, c := range claims {
		n.meta.change(c.ID, func(st *metadata.PartitionState) {
			st.Owner, st.LeaderEpoch, st.Start, st.History = n.life, c.LeaderEpoch, c.Start, c.History
			st.Rev++
			if c.Manifest != nil {
				st.Manifest = c.Manifest
				st.ManifestRev++
			}
		})
	}
	for life, r := range recoveries {
		st, err := n.meta.Load(n.t.Context(), life)
		if err == nil {
			err = n.meta.Trim(n.t.Context(), life, st.Rev, r.N)
		}
		if err != nil {
			n.t.Fatal(err)
		}
	}
}

// build makes a small cluster with each kind of object in each state: a life that closed itself, one that crashed and whose partitions
// moved, one that crashed and whose partition waits for a start, and an open one.
func build(t *testing.T) *world {
	t.Helper()
	w := newWorld(t, 3)
	a := w.start(1, 1)
	a.create(0)
	a.create(1)
	a.write(0, batch(7, 0, 3, 'a'), batch(7, 3, 2, 'b'))
	a.write(1, batch(-1, -1, 4, 'c'))
	a.checkpoint()
	a.write(0, batch(7, 5, 1, 'd'))
	a.close()

	b := w.start(1, 2)
	b.takeOver(nil, 0, 1)
	b.write(0, batch(7, 6, 2, 'e'))
	b.checkpoint()
	b.write(0, batch(7, 8, 2, 'f'))
	b.write(1, batch(-1, -1, 1, 'g'), batch(-1, -1, 2, 'h'))
	r := b.crash()

	c := w.start(2, 1)
	c.create(2)
	c.write(2, batch(8, 0, 3, 'i'))
	c.checkpoint()
	c.write(2, batch(8, 3, 2, 'j'), batch(8, 5, 1, 'k'))
	c.crash()

	d := w.start(1, 3)
	d.takeOver(map[wal.Life]wal.Recovery{b.life: r}, 0, 1)
	d.write(0, batch(7, 10, 1, 'l'), batch(7, 11, 1, 'm'))
	d.write(1, batch(-1, -1, 1, 'n'))
	return w
}

// with returns the world over a copy of the bucket that edit has changed. A nil body deletes the object.
func (w *world) with(edits map[string][]byte) *memstore.Store {
	w.t.Helper()
	ctx := context.Background()
	out := memstore.New()
	for info, err := range w.store.List(ctx, "", "") {
		if err != nil {
			w.t.Fatal(err)
		}
		if _, edited := edits[info.Key]; !edited {
			w.put(out, info.Key, w.get(info.Key))
		}
	}
	for key, body := range edits {
		if body != nil {
			w.put(out, key, body)
		}
	}
	return out
}

func (w *world) put(s *memstore.Store, key string, body []byte) {
	if err := s.Put(context.Background(), key, body); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) get(key string) []byte {
	w.t.Helper()
	b, err := w.store.Get(context.Background(), key)
	if err != nil {
		w.t.Fatal(err)
	}
	return b
}

// keys lists the objects below a prefix.
func (w *world) keys(prefix string) []string {
	var out []string
	for info, err := range w.store.List(context.Background(), prefix, "") {
		if err != nil {
			w.t.Fatal(err)
		}
		out = append(out, info.Key)
	}
	return out
}

// later is a clock by which nothing in the bucket is new.
func later() time.Time { return time.Now().Add(time.Hour) }

func (w *world) check(s *memstore.Store, change ...func(*Options)) *Report {
	w.t.Helper()
	o := Options{Store: s, Metadata: w.meta, Concurrency: 1, Now: later}
	for _, f := range change {
		f(&o)
	}
	r, err := Check(context.Background(), o)
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}
