package partition

import (
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/tidemill/tidemill/internal/crc32c"
	"github.com/tidemill/tidemill/metadata"
	"github.com/tidemill/tidemill/objectstore"
	"github.com/tidemill/tidemill/objectstore/faultstore"
	"github.com/tidemill/tidemill/objectstore/memstore"
	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/protocol/record"
	"github.com/tidemill/tidemill/wal"
)

var quiet = slog.New(slog.DiscardHandler)

func pid(n int32) protocol.PartitionID {
	return protocol.PartitionID{Topic: protocol.TopicID{1, 2, 3}, Partition: n}
}

// world is what outlives a broker life: the bucket and the agreed state.
type world struct {
	t     testing.TB
	mem   *memstore.Store
	store *faultstore.Store
	meta  *fakeMeta
	now   time.Time
	lives uint64
}

func newWorld(t testing.TB) *world {
	mem := memstore.New()
	return &world{
		t: t, mem: mem, store: faultstore.New(mem, 1), now: time.UnixMilli(1_700_000_000_000),
		meta: &fakeMeta{states: map[protocol.PartitionID]*metadata.PartitionState{}, trims: map[wal.Life]int64{}, ended: map[wal.Life]int64{}},
	}
}

// node is one broker life: a set over a write-ahead log that commits when the test says so.
type node struct {
	*world
	life  wal.Life
	set   *Set
	mu    sync.Mutex
	open  []wal.Entry
	seq   int64
	index []wal.RecoveredChunk
	err   error
}

func (w *world) start(change ...func(*Options)) *node {
	w.lives++
	n := &node{world: w, life: wal.Life{Broker: 7, Epoch: w.lives, Nonce: [8]byte{byte(w.lives)}}}
	o := Options{Life: n.life, WAL: n, Store: w.store, Manifests: w.meta, Now: func() time.Time { return w.now }, Logger: quiet}
	for _, c := range change {
		c(&o)
	}
	set, err := NewSet(o)
	if err != nil {
		w.t.Fatal(err)
	}
	n.set = set
	return n
}

func (n *node) Append(entries ...wal.Entry) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.err != nil {
		return n.err
	}
	n.open = append(n.open, entries...)
	return nil
}

// create makes a partition that this life owns.
func (n *node) create(p int32) *Log {
	n.meta.mu.Lock()
	n.meta.states[pid(p)] = &metadata.PartitionState{ID: pid(p), Owner: n.life, Rev: 1}
	n.meta.mu.Unlock()
	return n.set.Create(pid(p), 0)
}

// cut puts what was appended into the store as one slot.
func (n *node) cut() *wal.Slot {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := &wal.Slot{Life: n.life, Seq: n.seq, Key: wal.SlotKey(n.life, n.seq)}
	object := make([]byte, wal.HeaderLen)
	n.seq++
	var ids []protocol.PartitionID
	for _, e := range n.open {
		if !slices.Contains(ids, e.Partition) {
			ids = append(ids, e.Partition)
		}
	}
	for _, id := range ids {
		c := wal.Chunk{Partition: id, Pos: uint32(len(object)), BaseOffset: -1, MaxTimestamp: -1}
		for _, e := range n.open {
			if e.Partition != id {
				continue
			}
			if c.BaseOffset < 0 {
				c.BaseOffset = e.BaseOffset
			}
			c.LeaderEpoch, c.LastOffset, c.MaxTimestamp = e.LeaderEpoch, e.LastOffset, max(c.MaxTimestamp, e.MaxTimestamp)
			object = append(object, e.Data...)
		}
		c.Len = uint32(len(object)) - c.Pos
		c.CRC = crc32c.Sum(object[c.Pos:])
		s.Chunks = append(s.Chunks, c)
	}
	for _, c := range s.Chunks {
		n.index = append(n.index, wal.RecoveredChunk{Seq: s.Seq, ObjectLen: uint32(len(object)), Chunk: c})
	}
	n.open = nil
	s.Object = wal.NewObject(object)
	if err := n.mem.Put(context.Background(), s.Key, object); err != nil {
		n.t.Fatal(err)
	}
	return s
}

// commit cuts a slot and lets it be durable.
func (n *node) commit() {
	s := n.cut()
	n.set.Committed(s)
	s.Object.Release()
}

// kill ends the life as kill -9 does and returns what a sealer would find: every slot that was cut.
func (n *node) kill() map[wal.Life]wal.Recovery {
	trim := n.meta.trims[n.life]
	r := wal.Recovery{Life: n.life, N: n.seq, Trim: trim}
	n.meta.mu.Lock()
	n.meta.ended[n.life] = n.seq
	n.meta.mu.Unlock()
	for _, c := range n.index {
		if c.Seq >= trim {
			r.Chunks = append(r.Chunks, c)
		}
	}
	return map[wal.Life]wal.Recovery{n.life: r}
}

// reopen starts a new life with all partitions of the world.
func (w *world) reopen(recoveries map[wal.Life]wal.Recovery, change ...func(*Options)) *node {
	w.t.Helper()
	n := w.start(change...)
	states, err := w.meta.Partitions(context.Background())
	if err != nil {
		w.t.Fatal(err)
	}
	claims, err := n.set.Open(context.Background(), states, recoveries)
	if err != nil {
		w.t.Fatalf("open: %v", err)
	}
	n.claim(claims)
	return n
}

// claim makes the partitions of an Open this life's.
func (n *node) claim(claims []metadata.Claim) {
	n.t.Helper()
	n.meta.claim(n.t, n.life, claims)
	if err := n.set.Claimed(context.Background()); err != nil {
		n.t.Fatal(err)
	}
}

func (n *node) log(p int32) *Log {
	n.t.Helper()
	l, ok := n.set.Get(pid(p))
	if !ok {
		n.t.Fatalf("no log of partition %d", p)
	}
	return l
}

// fakeMeta is the agreed state in memory.
type fakeMeta struct {
	mu     sync.Mutex
	states map[protocol.PartitionID]*metadata.PartitionState
	trims  map[wal.Life]int64
	// before fails a call that changes nothing; after fails one that was applied up to that many updates.
	before error
	after  error
	apply  int
	calls  int
	// ended are the lives whose logs were sealed, with their ends.
	ended map[wal.Life]int64
	// unknown is a life that was never opened here. partitions fails the listing.
	unknown    wal.Life
	partitions error
	// loads fails reads of lives.
	loads error
}

var errMeta = errors.New("etcd is away")

func (m *fakeMeta) CommitManifests(_ context.Context, life wal.Life, updates []metadata.ManifestUpdate) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls++
	if m.before != nil {
		return m.before
	}
	for i, u := range updates {
		if m.after != nil && i == m.apply {
			return m.after
		}
		st := m.states[u.ID]
		if st == nil || st.Owner != life {
			return metadata.ErrStale
		}
		if (st.Manifest == nil && u.PrevVersion != 0) || (st.Manifest != nil && st.Manifest.Version != u.PrevVersion) {
			return metadata.ErrStale
		}
		p := u.Pointer
		st.Manifest = &p
		st.ManifestRev++
	}
	return m.after
}

func (m *fakeMeta) Partitions(context.Context) ([]metadata.PartitionState, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.partitions != nil {
		return nil, m.partitions
	}
	var out []metadata.PartitionState
	for _, st := range m.states {
		out = append(out, *st)
	}
	return out, nil
}

func (m *fakeMeta) States(_ context.Context, ids []protocol.PartitionID) ([]metadata.PartitionState, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.partitions != nil {
		return nil, m.partitions
	}
	var out []metadata.PartitionState
	for _, id := range ids {
		if st := m.states[id]; st != nil {
			out = append(out, *st)
		}
	}
	return out, nil
}

// Move is as etcd does it: each by itself, with lives and manifests compared. before and after are those of CommitManifests.
func (m *fakeMeta) Move(_ context.Context, from wal.Life, moves []metadata.Move) []error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls++
	out := make([]error, len(moves))
	for i, x := range moves {
		st := m.states[x.ID]
		_, ended := m.ended[x.To]
		_, sealed := m.ended[from]
		switch {
		case m.before != nil:
			out[i] = m.before
		case m.after != nil && i == m.apply:
			out[i] = m.after
		case st == nil:
			out[i] = metadata.ErrUnknownTopic
		case ended, sealed, st.Owner != from, x.LeaderEpoch != st.LeaderEpoch+1,
			st.Manifest == nil && x.PrevVersion != 0, st.Manifest != nil && st.Manifest.Version != x.PrevVersion:
			out[i] = metadata.ErrStale
		default:
			p := x.Manifest
			st.Owner, st.LeaderEpoch, st.Start, st.History, st.Manifest = x.To, x.LeaderEpoch, x.Start, x.History, &p
			st.Rev++
			st.ManifestRev++
			out[i] = m.after
		}
	}
	return out
}

func (m *fakeMeta) Load(_ context.Context, life wal.Life) (wal.StreamState, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.loads != nil {
		return wal.StreamState{}, m.loads
	}
	if !life.IsZero() && life == m.unknown {
		return wal.StreamState{}, metadata.ErrUnknownLife
	}
	if n, ended := m.ended[life]; ended {
		return wal.StreamState{Life: life, Phase: wal.PhaseSealed, N: n, Trim: m.trims[life], Rev: 5}, nil
	}
	return wal.StreamState{Life: life, Phase: wal.PhaseOpen, Rev: 5}, nil
}

func (m *fakeMeta) Trim(_ context.Context, life wal.Life, rev, t int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if rev != 5 {
		return wal.ErrStale
	}
	m.trims[life] = t
	return nil
}

func (m *fakeMeta) claim(t testing.TB, to wal.Life, claims []metadata.Claim) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range claims {
		st := m.states[c.ID]
		if st.Owner != c.OldLife || st.Rev != c.Rev || c.LeaderEpoch != st.LeaderEpoch+1 {
			t.Fatalf("claim %+v of %+v", c, st)
		}
		st.Owner, st.LeaderEpoch, st.Start, st.History = to, c.LeaderEpoch, c.Start, c.History
		st.Rev++
		if c.Manifest != nil {
			st.Manifest = c.Manifest
			st.ManifestRev++
		}
	}
}

// producerBatch returns a batch of n records with timestamps from ts on.
func producerBatch(id int64, epoch int16, seq int32, n int, ts int64) record.Batch {
	var rb record.Builder
	for i := range n {
		rb.Append(ts+int64(i), nil, []byte{'v', byte(i)})
	}
	b := rb.Build()
	be := binary.BigEndian
	be.PutUint64(b[43:], uint64(id))
	be.PutUint16(b[51:], uint16(epoch))
	be.PutUint32(b[53:], uint32(seq))
	be.PutUint32(b[17:], crc32c.Sum(b[21:]))
	return b
}

func plain(n int, ts int64) record.Batch { return producerBatch(-1, -1, -1, n, ts) }

// sized returns a batch of one record of about size bytes.
func sized(size int, fill byte) record.Batch {
	var rb record.Builder
	rb.Append(1, nil, slices.Repeat([]byte{fill}, size))
	return rb.Build()
}

// outcomeOf is a Done that remembers, and counts its calls.
type outcomeOf struct {
	res   AppendResult
	err   error
	calls int
}

func (l *Log) try(b record.Batch) *outcomeOf {
	o := &outcomeOf{}
	l.Append(AppendInput{Batch: b, LogAppendTime: -1}, func(r AppendResult, err error) {
		o.res, o.err = r, err
		o.calls++
	})
	return o
}

func (o *outcomeOf) want(t *testing.T, name string, base int64, err error) {
	t.Helper()
	if o.calls != 1 || o.res.BaseOffset != base || !errors.Is(o.err, err) {
		t.Errorf("%s: base offset %d, error %v in %d calls, want %d, %v", name, o.res.BaseOffset, o.err, o.calls, base, err)
	}
}

func (o *outcomeOf) waits(t *testing.T, name string) {
	t.Helper()
	if o.calls != 0 {
		t.Errorf("%s: answered %+v, %v before it was committed", name, o.res, o.err)
	}
}

// offsets reads everything from offset on, batch by batch, and returns the base offsets.
func (l *Log) offsets(t testing.TB, offset int64, maxBytes int) []int64 {
	t.Helper()
	var out []int64
	for {
		r, err := l.Read(context.Background(), ReadInput{Offset: offset, MaxBytes: maxBytes, AtLeastOne: true})
		if err != nil {
			t.Fatalf("read at %d: %v", offset, err)
		}
		if r.Bytes == 0 {
			return out
		}
		for _, run := range r.Batches {
			for len(run) > 0 {
				b, rest, err := record.Next(run)
				if err != nil || b == nil || record.Check(b) != nil {
					t.Fatalf("bad batch at %d: %v", offset, err)
				}
				if b.LastOffset() < offset {
					t.Fatalf("batch %d-%d at %d", b.BaseOffset(), b.LastOffset(), offset)
				}
				out = append(out, b.BaseOffset())
				offset, run = b.LastOffset()+1, rest
			}
		}
	}
}

var _ ManifestStore = (*fakeMeta)(nil)
var _ objectstore.Store = (*faultstore.Store)(nil)
