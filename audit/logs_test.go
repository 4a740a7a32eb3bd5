package audit

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/tidemill/tidemill/internal/crc32c"
	"github.com/tidemill/tidemill/metadata"
	"github.com/tidemill/tidemill/objectstore"
	"github.com/tidemill/tidemill/partition"
	"github.com/tidemill/tidemill/protocol/record"
	"github.com/tidemill/tidemill/wal"
)

// slotSpec is a slot with one chunk of one batch, to be written as it says.
type slotSpec struct {
	base     int64
	epoch    int32
	previous int64
	// chain is xored into the digest of the slot before; end makes it a close.
	chain byte
	end   bool
}

// craftedLog writes slots of a life by hand and returns its state, SEALED if the last one is an end.
func (w *world) craftedLog(life wal.Life, specs ...slotSpec) (wal.StreamState, wal.Recovery) {
	be := binary.BigEndian
	st := wal.StreamState{Life: life, Phase: wal.PhaseOpen, Rev: 1}
	r := wal.Recovery{Cluster: cluster, Life: life, Sealer: "test"}
	var prev wal.Digest
	for seq, x := range specs {
		var body, dir []byte
		h, kind := make([]byte, wal.HeaderLen), wal.KindClose
		if !x.end {
			kind = wal.KindData
			body = at(x.base, x.epoch, batch(-1, -1, 2, 'x'))
			c := wal.Chunk{
				Partition: pid(0), LeaderEpoch: x.epoch, BaseOffset: x.base, LastOffset: x.base + 1, MaxTimestamp: record.Batch(body).MaxTimestamp(),
				PrevSlot: x.previous, Pos: wal.HeaderLen, Len: uint32(len(body)), CRC: crc32c.Sum(body),
			}
			dir = make([]byte, 72)
			copy(dir, c.Partition.Topic[:])
			be.PutUint32(dir[20:], uint32(c.LeaderEpoch))
			be.PutUint64(dir[24:], uint64(c.BaseOffset))
			be.PutUint64(dir[32:], uint64(c.LastOffset))
			be.PutUint64(dir[40:], uint64(c.MaxTimestamp))
			be.PutUint64(dir[48:], uint64(c.PrevSlot))
			be.PutUint32(dir[56:], c.Pos)
			be.PutUint32(dir[60:], c.Len)
			be.PutUint32(dir[64:], c.CRC)
			r.Chunks = append(r.Chunks, wal.RecoveredChunk{Seq: int64(seq), ObjectLen: uint32(wal.HeaderLen + len(body) + 72), Chunk: c})
		} else {
			st.Phase, st.N, st.Digest = wal.PhaseSealed, int64(seq), prev
			r.N, r.Digest = st.N, prev
		}
		copy(h, "TIDESLOT")
		be.PutUint16(h[8:], 1)
		h[10] = byte(kind)
		be.PutUint32(h[12:], uint32(life.Broker))
		be.PutUint64(h[16:], life.Epoch)
		copy(h[24:], life.Nonce[:])
		be.PutUint64(h[40:], cluster.Generation)
		copy(h[48:], cluster.ID)
		prev[0] ^= x.chain
		copy(h[80:], prev[:])
		be.PutUint32(h[112:], uint32(len(body)))
		be.PutUint32(h[116:], uint32(wal.HeaderLen+len(body)))
		be.PutUint32(h[120:], uint32(len(dir)))
		be.PutUint32(h[124:], uint32(len(dir)/72))
		object := slotAs(slices.Concat(h, body, dir), int64(seq))
		prev = sha256.Sum256(nil)
		copy(prev[:], object[128:160])
		w.put(w.store, wal.SlotKey(life, int64(seq)), object)
	}
	return st, r
}

func TestLogs(t *testing.T) {
	life, other := wal.Life{Broker: 1, Epoch: 1}, wal.Life{Broker: 1, Epoch: 2}
	open := []slotSpec{{base: 0, previous: -1}, {base: 2, previous: 0}}
	closed := append(slices.Clone(open), slotSpec{end: true})
	none := func(*wal.StreamState, *wal.Recovery, *metadata.PartitionState) {}
	recovered := func(f func(*wal.Recovery)) func(*wal.StreamState, *wal.Recovery, *metadata.PartitionState) {
		return func(st *wal.StreamState, r *wal.Recovery, _ *metadata.PartitionState) {
			st.RecoveryKey = wal.RecoveryKey(st.Life)
			f(r)
		}
	}
	for _, tc := range []struct {
		name  string
		slots []slotSpec
		edit  func(*wal.StreamState, *wal.Recovery, *metadata.PartitionState)
		// end is where a manifest without data ends; 0: there is none.
		end   int64
		class Class
		want  string
	}{
		{name: "open", slots: open},
		{name: "a manifest up to a chunk", slots: open, end: 2},
		{name: "a manifest up to the end", slots: open, end: 4},
		{name: "a manifest up to the middle of a chunk", slots: open, end: 3, class: Offsets, want: "the manifest ends at 3, within a chunk"},
		{name: "closed", slots: closed},
		{name: "sealed", slots: closed, edit: recovered(func(*wal.Recovery) {})},
		{name: "a broken chain", slots: []slotSpec{open[0], {base: 2, chain: 1}}, class: Log, want: "data follows digest"},
		{name: "a hole in the offsets", slots: []slotSpec{open[0], {base: 3}}, class: Offsets, want: "the chunk before ended at offset 1"},
		{name: "another predecessor", slots: []slotSpec{open[0], {base: 2, previous: -1}}, class: Log, want: "names slot -1 as its predecessor"},
		{name: "epochs go back", slots: []slotSpec{{base: 0, epoch: 1, previous: -1}, {base: 2}}, class: Epochs, want: "leader epoch 0 follows 1"},
		{name: "an epoch that the life never had", slots: []slotSpec{{base: 0, epoch: 1, previous: -1}}, class: Epochs, want: "which it never had"},
		{name: "a hole before the log", slots: []slotSpec{{base: 5, previous: -1}}, class: Offsets, want: "the manifest ends at 0, but the log goes on from 5"},
		{name: "data where the log has ended", slots: closed, edit: func(st *wal.StreamState, _ *wal.Recovery, _ *metadata.PartitionState) { st.N = 1 }, class: Log, want: "data slot where the log has ended"},
		{name: "an end below the end", slots: closed, edit: func(st *wal.StreamState, _ *wal.Recovery, _ *metadata.PartitionState) { st.N = 3 }, class: Log, want: "a close below the end 3"},
		{name: "another digest", slots: closed, edit: func(st *wal.StreamState, _ *wal.Recovery, _ *metadata.PartitionState) { st.Digest[5]++ }, class: Log, want: "metadata says"},
		{name: "a recovery with another end", slots: closed, edit: recovered(func(r *wal.Recovery) { r.N++ }), class: Mismatch, want: "it ends the log at 3"},
		{name: "a recovery of other chunks", slots: closed, edit: recovered(func(r *wal.Recovery) { r.Chunks[1].CRC++ }), class: Mismatch, want: "it lists 1 chunks of slot 1"},
		{name: "a recovery with a chunk less", slots: closed, edit: recovered(func(r *wal.Recovery) { r.Chunks = r.Chunks[:1] }), class: Mismatch, want: "it lists 0 chunks of slot 1"},
		{name: "a new owner who left records behind", slots: closed, edit: func(_ *wal.StreamState, _ *wal.Recovery, p *metadata.PartitionState) {
			p.Owner, p.LeaderEpoch = other, 1
			p.History = append(p.History, metadata.EpochStart{Epoch: 1, Life: other})
		}, class: Offsets, want: "though the log of an earlier owner ended at 4"},
		{name: "an epoch that begins behind the end", slots: open, edit: func(_ *wal.StreamState, _ *wal.Recovery, p *metadata.PartitionState) {
			p.Start, p.History[0].Start = 1, 1
		}, class: Offsets, want: "begins at 1, but the manifest ends at 0"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if tc.edit == nil {
				tc.edit = none
			}
			w := newWorld(t, 1)
			st, r := w.craftedLog(life, tc.slots...)
			p := metadata.PartitionState{ID: pid(0), Owner: life, Rev: 1, History: []metadata.EpochStart{{Life: life}}}
			tc.edit(&st, &r, &p)
			w.meta.lives[life], w.meta.states[pid(0)] = st, p
			w.meta.lives[other] = wal.StreamState{Life: other, Phase: wal.PhaseOpen}
			if st.RecoveryKey != "" {
				w.put(w.store, st.RecoveryKey, r.Encode())
			}
			if tc.end > 0 {
				w.head(0, life, &partition.Manifest{
					Partition: pid(0), Version: 1, LogStart: tc.end, EndOffset: tc.end, Lives: []wal.Life{life}, CoordinatorOffset: -1,
				})
			}
			got := w.check(w.store)
			if tc.class == "" && !got.OK {
				t.Fatal(got.Problems)
			}
			if tc.class != "" && !slices.ContainsFunc(got.Problems, func(p Problem) bool { return p.Class == tc.class && strings.Contains(p.String(), tc.want) }) {
				t.Errorf("want %s %q, got %v", tc.class, tc.want, got.Problems)
			}
		})
	}
}

// TestLongerThanListed: without data, only the list tells that an object has bytes too many.
func TestLongerThanListed(t *testing.T) {
	o := buildNamed(t)
	for _, key := range []string{o.tail, o.seal} {
		r := o.check(o.with(map[string][]byte{key: append(o.get(key), 0)}), func(o *Options) { o.SkipData = true })
		if r.OK || r.Problems[0].Key != key {
			t.Errorf("%s: %v", key, r.Problems)
		}
	}
}

// stale is metadata of which one list is older than what is asked for by name.
type stale struct {
	*agreed
	lives, partitions *agreed
}

func (s stale) AllLives(ctx context.Context) ([]wal.StreamState, error) { return s.lives.AllLives(ctx) }

func (s stale) Partitions(ctx context.Context) ([]metadata.PartitionState, error) {
	return s.partitions.Partitions(ctx)
}

// TestMovedMeanwhile: what was trimmed, or replaced and deleted, after its list was read is no problem.
func TestMovedMeanwhile(t *testing.T) {
	w := newWorld(t, 1)
	n := w.start(1, 1)
	n.create(0)
	n.write(0, batch(-1, -1, 1, 'a'))
	n.checkpoint()
	n.write(0, batch(-1, -1, 1, 'b'))
	old := w.meta.clone()
	n.checkpoint()
	for range wal.MaxWindow + 1 {
		n.write(0, batch(-1, -1, 1, 'c'))
	}
	trimmed := map[string][]byte{wal.SlotKey(n.life, 1): nil}
	replaced := map[string][]byte{old.states[pid(0)].Manifest.Key: nil}
	for _, tc := range []struct {
		name string
		gone map[string][]byte
		meta Metadata
		ok   bool
	}{
		{"trimmed meanwhile", trimmed, stale{w.meta, old, w.meta}, true},
		{"deleted, though not trimmed", trimmed, old, false},
		{"replaced meanwhile", replaced, stale{w.meta, old, old}, true},
		{"deleted, though not replaced", replaced, old, false},
	} {
		if r := w.check(w.with(tc.gone), func(o *Options) { o.Metadata = tc.meta }); r.OK != tc.ok {
			t.Errorf("%s: %v", tc.name, r.Problems)
		}
	}
}

// flaky flips a bit in the first read of each object.
type flaky struct {
	objectstore.Store
	mu   sync.Mutex
	read map[string]bool
}

func (f *flaky) spoil(key string, b []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.read[key] && len(b) > 0 {
		b[len(b)/2] ^= 1
	}
	f.read[key] = true
}

func (f *flaky) Get(ctx context.Context, key string) ([]byte, error) {
	b, err := f.Store.Get(ctx, key)
	f.spoil(key, b)
	return b, err
}

func (f *flaky) ReadAt(ctx context.Context, key string, p []byte, off int64) error {
	err := f.Store.ReadAt(ctx, key, p, off)
	f.spoil(key, p)
	return err
}

func TestFlippedOnTheWay(t *testing.T) {
	w := build(t)
	for _, skip := range []bool{false, true} {
		r, err := Check(t.Context(), Options{
			Store: &flaky{Store: w.store, read: map[string]bool{}}, Metadata: w.meta, Now: later, SkipData: skip, Concurrency: 1,
		})
		if err != nil || !r.OK {
			t.Errorf("skip %v: %v, %+v", skip, err, r)
		}
	}
}
