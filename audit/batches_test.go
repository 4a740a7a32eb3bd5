package audit

import (
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/internal/crc32c"
	"github.com/tidemill/tidemill/metadata"
	"github.com/tidemill/tidemill/partition"
	"github.com/tidemill/tidemill/protocol/record"
	"github.com/tidemill/tidemill/wal"
)

// at stamps a batch and lets edit change its header.
func at(base int64, epoch int32, b record.Batch, edit ...func(record.Batch)) record.Batch {
	b.SetBaseOffset(base)
	b.SetPartitionLeaderEpoch(epoch)
	for _, f := range edit {
		f(b)
	}
	binary.BigEndian.PutUint32(b[8:], uint32(len(b)-12))
	binary.BigEndian.PutUint32(b[17:], crc32c.Sum(b[21:]))
	return b
}

// emptied is what compaction leaves of a batch that it must not remove.
func emptied(base, last int64, epoch int32) record.Batch {
	return at(base, epoch, batch(-1, -1, 1, 'x')[:record.HeaderSize], func(b record.Batch) {
		binary.BigEndian.PutUint32(b[23:], uint32(last-base))
		binary.BigEndian.PutUint64(b[27:], ^uint64(0))
		binary.BigEndian.PutUint64(b[35:], ^uint64(0))
		binary.BigEndian.PutUint32(b[57:], 0)
	})
}

func horizon(b record.Batch) {
	binary.BigEndian.PutUint16(b[21:], uint16(b.Attributes()|record.AttrDeleteHorizon))
}

// fewer says that a batch which has lost records spans more offsets.
func fewer(b record.Batch) { binary.BigEndian.PutUint32(b[23:], uint32(b.LastOffsetDelta()+3)) }

// crafted is a partition with one part whose blocks are given, and its bucket. edit changes the index before it is written.
func crafted(t *testing.T, sparse bool, edit func(*partition.Index), blocks ...[]record.Batch) (*world, string) {
	t.Helper()
	w := newWorld(t, 1)
	life := wal.Life{Broker: 1, Epoch: 1, Nonce: [8]byte{1}}
	w.meta.lives[life] = wal.StreamState{Life: life, Phase: wal.PhaseOpen, Rev: 1}
	segment := make([]byte, partition.SegmentHeaderLen)
	index := partition.Index{Partition: pid(0), Sparse: sparse}
	base := int64(0)
	for _, block := range blocks {
		e := partition.Extent{Base: base, MaxTimestamp: partition.NoTimestamp, Pos: uint32(len(segment))}
		for _, b := range block {
			segment = append(segment, b...)
			e.Sum += partition.BatchSum(b)
			e.Last = b.LastOffset()
			if b.NumRecords() > 0 {
				e.MaxTimestamp = max(e.MaxTimestamp, b.MaxTimestamp())
			}
		}
		e.Len = uint32(len(segment)) - e.Pos
		e.CRC = crc32c.Sum(segment[e.Pos:])
		index.Extents = append(index.Extents, e)
		base = e.Last + 1
	}
	edit(&index)
	encoded := index.Encode()
	be := binary.BigEndian
	pos := uint32(len(segment))
	segment = append(segment, encoded...)
	copy(segment, "TIDESEGM")
	be.PutUint16(segment[8:], 1)
	be.PutUint64(segment[40:], uint64(len(segment)))
	be.PutUint64(segment[48:], uint64(pos))
	be.PutUint32(segment[56:], 1)
	key := partition.SegmentKey(life, 0)
	w.put(w.store, key, segmentAs(segment, life, 0))

	n := len(index.Extents) - 1
	part := partition.Part{
		Base: index.Extents[0].Base, Last: index.Extents[n].Last, MaxTimestamp: partition.NoTimestamp, Pos: pos, Len: uint32(len(encoded)),
		CRC: crc32c.Sum(encoded), Count: uint32(n + 1), Sparse: sparse,
	}
	for _, e := range index.Extents {
		part.Bytes, part.Sum, part.MaxTimestamp = part.Bytes+int64(e.Len), part.Sum+e.Sum, max(part.MaxTimestamp, e.MaxTimestamp)
	}
	m := partition.Manifest{
		Partition: pid(0), Version: 1, EndOffset: part.Last + 1, Lives: []wal.Life{life}, CoordinatorOffset: -1, Parts: []partition.Part{part},
		Epochs: []partition.Epoch{{Epoch: 0}, {Epoch: 1, Start: 5}},
	}
	w.meta.change(pid(0), func(st *metadata.PartitionState) {
		*st = metadata.PartitionState{
			ID: pid(0), Owner: life, LeaderEpoch: 1, Start: 5, Rev: 1, History: []metadata.EpochStart{{Life: life}, {Epoch: 1, Start: 5, Life: life}},
		}
	})
	w.head(0, life, &m)
	return w, key
}

// head stores a manifest in an object of its own and makes it the one of a partition.
func (w *world) head(p int32, life wal.Life, m *partition.Manifest) {
	be := binary.BigEndian
	region := m.Encode()
	object := append(make([]byte, partition.ManifestHeaderLen), region...)
	copy(object, "TIDEMFST")
	be.PutUint16(object[8:], be.Uint16(region[4:]))
	be.PutUint64(object[40:], uint64(len(object)))
	const seq = 70
	w.put(w.store, partition.ManifestKey(life, seq), segmentAs(object, life, seq))
	w.meta.change(pid(p), func(st *metadata.PartitionState) {
		st.Manifest = &metadata.ManifestPointer{
			Version: m.Version, Key: partition.ManifestKey(life, seq), Pos: partition.ManifestHeaderLen, Len: int32(len(region)),
			CRC: crc32c.Sum(region), EndOffset: m.EndOffset,
		}
	})
}

func nothing(*partition.Index) {}

func TestBatches(t *testing.T) {
	two := func() record.Batch { return batch(-1, -1, 2, 'x') }
	three := func() record.Batch { return batch(-1, -1, 3, 'y') }
	dense := func() [][]record.Batch {
		return [][]record.Batch{{at(0, 0, two()), at(2, 0, three())}, {at(5, 1, three())}}
	}
	for _, tc := range []struct {
		name   string
		sparse bool
		edit   func(*partition.Index)
		blocks [][]record.Batch
		class  Class
		want   string
		// skip reads no data, which would be the first to tell.
		skip bool
	}{
		{name: "dense", blocks: dense()},
		{name: "dense, in a sparse part", sparse: true, blocks: dense()},
		{name: "batches removed", sparse: true, blocks: [][]record.Batch{{at(1, 0, two())}, {at(9, 1, three())}}},
		{name: "records removed, a delete horizon, a header alone", sparse: true, blocks: [][]record.Batch{{at(0, 0, two(), fewer, horizon)}, {emptied(6, 9, 1)}}},
		{name: "a hole", blocks: [][]record.Batch{{at(0, 0, two()), at(3, 0, two())}, {at(5, 1, three())}}, class: Offsets, want: "batch of offsets 3-4 where 2 should come"},
		{name: "an overlap", sparse: true, blocks: [][]record.Batch{{at(0, 0, three()), at(2, 0, three())}, {at(5, 1, three())}}, class: Offsets, want: "where 3 should come"},
		{name: "records removed where compaction has not been", blocks: [][]record.Batch{{at(0, 0, two(), fewer)}, {at(5, 1, two())}}, class: Mismatch, want: "says that it has 2 records"},
		{name: "a delete horizon where compaction has not been", blocks: [][]record.Batch{{at(0, 0, two(), horizon), at(2, 0, three())}, {at(5, 1, two())}}, class: Mismatch, want: "delete horizon"},
		{name: "a header alone where compaction has not been", blocks: [][]record.Batch{{emptied(0, 4, 0)}, {at(5, 1, two())}}, class: Mismatch, want: "0 records"},
		{name: "an epoch that was not yet", blocks: [][]record.Batch{{at(0, 0, two()), at(2, 1, three())}, {at(5, 1, two())}}, class: Epochs, want: "leader epoch 1, the history says 0"},
		{name: "an epoch that was over", blocks: [][]record.Batch{{at(0, 0, two()), at(2, 0, three())}, {at(5, 0, two())}}, class: Epochs, want: "leader epoch 0, the history says 1"},
		{name: "another sum", edit: func(x *partition.Index) { x.Extents[0].Sum++ }, blocks: dense(), class: Mismatch, want: "sum of the batches"},
		{name: "another largest timestamp", edit: func(x *partition.Index) { x.Extents[1].MaxTimestamp++ }, blocks: dense(), class: Mismatch, want: "largest timestamp"},
		{name: "another checksum", edit: func(x *partition.Index) { x.Extents[1].CRC++ }, blocks: dense(), class: Damaged, want: "checksum of"},
		{name: "batches end early", edit: func(x *partition.Index) { x.Extents[1].Last++ }, blocks: dense(), class: Offsets, want: "end at offset 7, want 8"},
		{name: "blocks that overlap", edit: func(x *partition.Index) {
			x.Extents[1].Pos, x.Extents[1].Len = x.Extents[1].Pos-1, x.Extents[1].Len+1
		}, blocks: dense(), class: Damaged, want: "a block of", skip: true},
		{name: "a wrong checksum of a batch", blocks: [][]record.Batch{{at(0, 0, two()), broken(at(2, 0, three()))}, {at(5, 1, two())}}, class: Damaged, want: "batch at offset 2: checksum"},
		{name: "bytes that are no batch", blocks: [][]record.Batch{{at(0, 0, two()), at(2, 0, three())[:70]}}, class: Damaged, want: "no whole batch in the last 70 bytes, at offset 2"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if tc.edit == nil {
				tc.edit = nothing
			}
			w, key := crafted(t, tc.sparse, tc.edit, tc.blocks...)
			r := w.check(w.store, func(o *Options) { o.SkipData = tc.skip })
			if tc.class == "" && !r.OK {
				t.Fatalf("not clean: %v", r.Problems)
			}
			if tc.class != "" && !slices.ContainsFunc(r.Problems, func(p Problem) bool {
				return p.Class == tc.class && p.Key == key && strings.Contains(p.Message, tc.want)
			}) {
				t.Errorf("want %s %q of %s, got %v", tc.class, tc.want, key, r.Problems)
			}
		})
	}
}

func broken(b record.Batch) record.Batch {
	b[len(b)-1] ^= 1
	return b
}

// TestExtents edits the manifest of a partition whose last extents are in slots.
func TestExtents(t *testing.T) {
	for _, tc := range []struct {
		name  string
		edit  func(*partition.Manifest)
		class Class
		want  string
	}{
		{name: "as it was", edit: func(*partition.Manifest) {}},
		{name: "position", edit: func(m *partition.Manifest) { m.Extents[0].Pos++ }, class: Mismatch, want: "no such chunk"},
		{name: "checksum", edit: func(m *partition.Manifest) { m.Extents[0].CRC++ }, class: Mismatch, want: "no such chunk"},
		{name: "slot", edit: func(m *partition.Manifest) { m.Extents[0].Seq-- }, class: Mismatch, want: "no such chunk"},
		{name: "sum", edit: func(m *partition.Manifest) { m.Extents[0].Sum++ }, class: Mismatch, want: "the sum"},
		{name: "behind the end", edit: func(m *partition.Manifest) { m.Extents[0].Seq += 100 }, class: Log, want: "behind the end"},
		{name: "a life that nobody knows", edit: func(m *partition.Manifest) {
			m.Lives = append(m.Lives, wal.Life{Broker: 77})
			m.Extents[0].Life = uint32(len(m.Lives) - 1)
		}, class: Log, want: "metadata does not know"},
		{name: "part in another place", edit: func(m *partition.Manifest) { m.Parts[0].Pos++ }, class: Damaged, want: "index"},
		{name: "part with another sum", edit: func(m *partition.Manifest) { m.Parts[0].Sum++ }, class: Mismatch, want: "index"},
		{name: "another partition", edit: func(m *partition.Manifest) { m.Partition.Partition = 1 }, class: Mismatch, want: "it holds manifest 4 of"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := buildNamed(t)
			st := o.meta.states[pid(0)]
			b := o.get(st.Manifest.Key)
			m, err := partition.DecodeManifest(b[st.Manifest.Pos:][:st.Manifest.Len])
			if err != nil {
				t.Fatal(err)
			}
			tc.edit(m)
			o.head(0, st.Owner, m)
			for _, skip := range []bool{false, tc.want != "the sum"} {
				r := o.check(o.store, func(o *Options) { o.SkipData = skip })
				if r.OK != (tc.class == "") || tc.class != "" && !slices.ContainsFunc(r.Problems, func(p Problem) bool {
					return p.Class == tc.class && strings.Contains(p.Message, tc.want)
				}) {
					t.Errorf("skip %v: want %s %q, got %v", skip, tc.class, tc.want, r.Problems)
				}
			}
		})
	}
}
