package audit

import (
	"crypto/sha256"
	"encoding/binary"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/internal/crc32c"
	"github.com/tidemill/tidemill/metadata"
	"github.com/tidemill/tidemill/partition"
	"github.com/tidemill/tidemill/wal"
)

func TestCleanCluster(t *testing.T) {
	w := build(t)
	for _, skip := range []bool{false, true} {
		r := w.check(w.store, func(o *Options) { o.SkipData, o.Concurrency = skip, 8 })
		var text strings.Builder
		if err := r.WriteText(&text); err != nil {
			t.Fatal(err)
		}
		if !r.OK || r.Lives != 4 || r.Partitions != 3 || r.Parts < 4 || (r.Batches > 10) == skip {
			t.Errorf("skip %v: %+v", skip, *r)
		}
		t.Log(text.String())
		classes := map[string]bool{}
		for _, l := range r.Leaks {
			classes[l.Class] = true
		}
		if !classes[LeakTrimmed] || !classes[LeakManifest] || classes[LeakUnknown] || classes[LeakOrphan] {
			t.Errorf("leaks %v", r.Leaks)
		}
	}
}

// TestEveryFlippedBitIsFound flips a bit of every byte of every object, a few bytes apart, with another bit each time.
func TestEveryFlippedBitIsFound(t *testing.T) {
	w := build(t)
	for _, key := range w.keys("") {
		body := w.get(key)
		for pos := 0; pos < len(body); pos += 1 + len(body)/200 {
			bad := slices.Clone(body)
			bad[pos] ^= 1 << (pos % 8)
			r := w.check(w.with(map[string][]byte{key: bad}))
			if !slices.ContainsFunc(r.Problems, func(p Problem) bool { return p.Key == key }) || r.OK {
				t.Errorf("%s: bit %d of byte %d of %d: not found: %v", key, pos%8, pos, len(body), r.Problems)
				break
			}
		}
	}
}

// objectsOf finds the objects that the damages are done to.
type objectsOf struct {
	*world
	manifest, segment, seal, recovery string
	// tail is an untrimmed data slot of the open life, pending one of the life that waits for a start.
	tail, pending string
}

func buildNamed(t *testing.T) objectsOf {
	w := build(t)
	o := objectsOf{world: w}
	st := w.meta.states[pid(0)]
	o.manifest = st.Manifest.Key
	a := &attempt{checker: &checker{reader: reader{w.store}, opts: Options{Metadata: w.meta}, image: w.meta.image}, st: st}
	a.objects.byKey = map[string]*object{}
	if err := a.loadManifest(t.Context()); err != nil || a.m == nil || len(a.m.Extents) == 0 {
		t.Fatalf("manifest of partition 0: %v, %+v", err, a.m)
	}
	o.segment = partition.SegmentKey(a.m.Lives[a.m.Parts[0].Life], a.m.Parts[0].Seq)
	for life, st := range w.meta.lives {
		switch {
		case st.Phase == wal.PhaseOpen:
			o.tail = wal.SlotKey(life, st.Trim)
		case life.Broker == 2:
			o.pending, o.recovery, o.seal = wal.SlotKey(life, st.Trim), st.RecoveryKey, wal.SlotKey(life, st.N)
		}
	}
	return o
}

func TestDamages(t *testing.T) {
	o := buildNamed(t)
	ctx := t.Context()
	open := wal.Life{Broker: 1, Epoch: 3, Nonce: [8]byte{0xab, 1, 3}}
	crashed, closed := wal.Life{Broker: 2, Epoch: 1, Nonce: [8]byte{0xab, 2, 1}}, wal.Life{Broker: 1, Epoch: 1, Nonce: [8]byte{0xab, 1, 1}}
	other := wal.SlotKey(open, 1)
	swapped := func(a, b string) map[string][]byte { return map[string][]byte{a: o.get(b), b: o.get(a)} }
	head := func(f func(p *metadata.ManifestPointer)) func(*metadata.PartitionState) {
		return func(st *metadata.PartitionState) { f(st.Manifest) }
	}
	for _, tc := range []struct {
		name  string
		edits map[string][]byte
		// head changes what metadata says of partition 0.
		head func(*metadata.PartitionState)
		life func(m map[wal.Life]wal.StreamState)
		// gone removes the record of partition 0.
		gone bool
		// class and key of a problem; none when class is empty. leak is a class of leaks.
		class Class
		key   string
		leak  string
	}{
		{name: "manifest deleted", edits: map[string][]byte{o.manifest: nil}, class: Missing, key: o.manifest},
		{name: "segment deleted", edits: map[string][]byte{o.segment: nil}, class: Missing, key: o.segment},
		{name: "recovery deleted", edits: map[string][]byte{o.recovery: nil}, class: Missing, key: o.recovery},
		{name: "guard deleted", edits: map[string][]byte{metadata.GuardKey: nil}, class: Missing, key: metadata.GuardKey},
		{name: "seal deleted (G3)", edits: map[string][]byte{o.seal: nil}, class: Missing, key: o.seal},
		{name: "close deleted (G3)", edits: map[string][]byte{wal.SlotKey(closed, o.meta.lives[closed].N): nil}, class: Missing, key: wal.SlotKey(closed, o.meta.lives[closed].N)},
		{name: "slot of a sealed log deleted", edits: map[string][]byte{o.pending: nil}, class: Missing, key: o.pending},
		{name: "all data slots of an open log but the last deleted", edits: map[string][]byte{o.tail: nil}, leak: LeakPending},
		{name: "a slot that proves that an earlier one was there (W3)", edits: map[string][]byte{
			o.tail: nil, wal.SlotKey(open, wal.MaxWindow): o.get(o.tail),
		}, class: Missing, key: o.tail},
		{name: "segment truncated", edits: map[string][]byte{o.segment: o.get(o.segment)[:len(o.get(o.segment))-1]}, class: Damaged, key: o.segment},
		{name: "segment extended", edits: map[string][]byte{o.segment: append(o.get(o.segment), 0)}, class: Damaged, key: o.segment},
		{name: "segment empty", edits: map[string][]byte{o.segment: {}}, class: Damaged, key: o.segment},
		{name: "manifest truncated", edits: map[string][]byte{o.manifest: o.get(o.manifest)[:100]}, class: Mismatch, key: o.manifest},
		{name: "manifest extended", edits: map[string][]byte{o.manifest: append(o.get(o.manifest), 0)}, class: Damaged, key: o.manifest},
		{name: "slot truncated", edits: map[string][]byte{o.tail: o.get(o.tail)[:600]}, class: Damaged, key: o.tail},
		{name: "recovery truncated", edits: map[string][]byte{o.recovery: o.get(o.recovery)[:200]}, class: Damaged, key: o.recovery},
		{name: "slots swapped", edits: swapped(o.tail, other), class: Damaged, key: o.tail},
		{name: "slots of two lives swapped", edits: swapped(o.tail, o.pending), class: Damaged, key: o.pending},
		{name: "segments swapped", edits: swapped(o.keys("segment/")[0], o.keys("segment/")[1]), class: Damaged, key: o.keys("segment/")[1]},
		{name: "manifest objects swapped", edits: swapped(o.manifest, o.keys("manifest/")[0]), class: Mismatch, key: o.manifest},
		{name: "superseded manifest objects swapped", edits: swapped(o.keys("manifest/")[0], o.keys("manifest/")[1]), class: Damaged, key: o.keys("manifest/")[0]},
		{name: "recovery objects swapped", edits: swapped(o.keys("recovery/")[0], o.keys("recovery/")[1]), class: Damaged, key: o.recovery},
		{name: "stray segment", edits: map[string][]byte{partition.SegmentKey(closed, 99): segmentAs(o.get(o.segment), closed, 99)}, leak: LeakSegment},
		{name: "stray segment, damaged", edits: map[string][]byte{partition.SegmentKey(closed, 99): o.get(o.segment)}, class: Damaged, key: partition.SegmentKey(closed, 99)},
		{name: "orphan behind the end (G4)", edits: map[string][]byte{wal.SlotKey(crashed, o.meta.lives[crashed].N+1): slotAs(o.get(o.pending), o.meta.lives[crashed].N+1)}, leak: LeakOrphan},
		{name: "leftover of a probe", edits: map[string][]byte{"probe/x/y": {1}}, leak: LeakProbe},
		{name: "foreign object", edits: map[string][]byte{"photos/cat.jpg": {1}}, leak: LeakUnknown},
		{name: "head at a wrong position", head: head(func(p *metadata.ManifestPointer) { p.Pos++; p.Len-- }), class: Damaged, key: o.manifest},
		{name: "head behind the object", head: head(func(p *metadata.ManifestPointer) { p.Pos = 1 << 40 }), class: Mismatch, key: o.manifest},
		{name: "head at another version", head: head(func(p *metadata.ManifestPointer) { p.Version++ }), class: Mismatch, key: o.manifest},
		{name: "head with another end", head: head(func(p *metadata.ManifestPointer) { p.EndOffset-- }), class: Mismatch, key: o.manifest},
		{name: "no manifest: the log goes on behind a hole", head: func(st *metadata.PartitionState) { st.Manifest = nil }, class: Offsets, key: o.slotOf(open, 0)},
		{name: "epochs go back", head: func(st *metadata.PartitionState) { st.History[0].Epoch = 9 }, class: Epochs},
		{name: "epoch of another life", head: func(st *metadata.PartitionState) { st.History[0].Life = crashed }, class: Epochs},
		{name: "owner that never lived", head: func(st *metadata.PartitionState) { st.Owner.Epoch = 77 }, class: Ownership},
		{name: "partition without a record", gone: true, class: Ownership},
		{name: "end in metadata too low", life: func(m map[wal.Life]wal.StreamState) { st := m[crashed]; st.N--; m[crashed] = st }, class: Log, key: wal.SlotKey(crashed, o.meta.lives[crashed].N-1)},
		{name: "digest in metadata wrong", life: func(m map[wal.Life]wal.StreamState) { st := m[closed]; st.Digest[0]++; m[closed] = st }, class: Log, key: wal.SlotKey(closed, o.meta.lives[closed].N)},
		{name: "trim too high: a hole before the log (G1)", life: func(m map[wal.Life]wal.StreamState) { st := m[open]; st.Trim++; m[open] = st }, class: Offsets, key: o.slotOf(open, 0)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := *o.world
			w.t, w.meta = t, o.meta.clone()
			if tc.head != nil {
				w.meta.change(pid(0), tc.head)
			}
			if tc.gone {
				delete(w.meta.states, pid(0))
			}
			if tc.life != nil {
				tc.life(w.meta.lives)
			}
			r := w.check(w.with(tc.edits))
			found := slices.ContainsFunc(r.Problems, func(p Problem) bool { return p.Class == tc.class && p.Key == tc.key })
			if r.OK != (tc.class == "") || tc.class != "" && !found {
				t.Errorf("want %s of %s, got %v", tc.class, tc.key, r.Problems)
			}
			if tc.leak != "" && !slices.ContainsFunc(r.Leaks, func(l Leak) bool { return l.Class == tc.leak }) {
				t.Errorf("want a leak %s, got %+v", tc.leak, r.Leaks)
			}
			quick, err := Check(ctx, Options{Store: w.with(tc.edits), Metadata: w.meta, SkipData: true, Now: later})
			if err != nil || quick.OK != r.OK {
				t.Errorf("without data: %v, %+v", err, quick)
			}
		})
	}
}

// slotOf returns the slot that holds the last chunk of a partition in a life's untrimmed log.
func (o *objectsOf) slotOf(life wal.Life, p int32) string {
	key := ""
	for seq := o.meta.lives[life].Trim; ; seq++ {
		b, err := o.store.Get(o.t.Context(), wal.SlotKey(life, seq))
		if err != nil {
			return key
		}
		_, chunks, err := wal.DecodeSlot(b)
		if err != nil {
			o.t.Fatal(err)
		}
		for _, c := range chunks {
			if c.Partition == pid(p) {
				key = wal.SlotKey(life, seq)
			}
		}
	}
}

func (m *agreed) clone() *agreed {
	c := &agreed{image: m.image, lives: maps.Clone(m.lives), states: maps.Clone(m.states)}
	for id, st := range c.states {
		st.History = slices.Clone(st.History)
		c.states[id] = st
	}
	return c
}

// segmentAs gives a segment another identity.
func segmentAs(b []byte, life wal.Life, seq int64) []byte {
	be := binary.BigEndian
	be.PutUint32(b[12:], uint32(life.Broker))
	be.PutUint64(b[16:], life.Epoch)
	copy(b[24:32], life.Nonce[:])
	be.PutUint64(b[32:], uint64(seq))
	be.PutUint32(b[60:], crc32c.Sum(b[:60]))
	return b
}

// slotAs gives a slot another number.
func slotAs(b []byte, seq int64) []byte {
	be := binary.BigEndian
	be.PutUint64(b[32:], uint64(seq))
	clear(b[128:160])
	clear(b[508:512])
	h := sha256.New()
	h.Write(b[:wal.HeaderLen])
	h.Write(b[be.Uint32(b[116:]):])
	copy(b[128:], h.Sum(nil))
	be.PutUint32(b[508:], crc32c.Sum(b[:508]))
	return b
}
