package partition

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/tidemill/tidemill/internal/crc32c"
	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/wal"
)

func goldenManifest() *Manifest {
	return &Manifest{
		Partition: protocol.PartitionID{Topic: protocol.TopicID{0xaa, 15: 0xbb}, Partition: 3},
		Version:   9, LogStart: 12, EndOffset: 40, CompactedTo: 30,
		Lives: []wal.Life{
			{Broker: 1, Epoch: 2, Nonce: [8]byte{1, 2, 3, 4, 5, 6, 7, 8}},
			{Broker: 1, Epoch: 3, Nonce: [8]byte{8, 7, 6, 5, 4, 3, 2, 1}},
		},
		Epochs: []Epoch{{Epoch: 0, Life: 0, Start: 12}, {Epoch: 1, Life: 1, Start: 30}},
		Producers: []Producer{{ID: 1000, Epoch: 2, LastWrite: 1_700_000_000_000, Batches: []ProducerBatch{
			{LastSeq: 4, Delta: 4, LastOffset: 34, MaxTimestamp: 1_600_000_000_000},
			{LastSeq: 9, Delta: 4, LastOffset: 39, MaxTimestamp: 1_600_000_000_001},
		}}},
		Parts: []Part{{
			Base: 10, Last: 29, MaxTimestamp: 77, Bytes: 5000, Sum: 0x1122334455667788, Seq: 6, Life: 0, Pos: 5064, Len: 104, CRC: 0xdeadbeef,
			Count: 1, Sparse: true,
		}},
		Extents: []Extent{
			{Base: 30, Last: 34, MaxTimestamp: 1_600_000_000_000, Sum: 1, Seq: 0, Life: 1, Pos: 512, Len: 100, CRC: 0x01020304},
			{Base: 35, Last: 39, MaxTimestamp: 1_600_000_000_001, Sum: 2, Seq: 1, Life: 1, Pos: 512, Len: 100, CRC: 0x05060708},
		},
		Rolls:             []Roll{{Base: 8, FirstTimestamp: 5, MaxTimestamp: 77, Bytes: 5000}, {Base: 30, FirstTimestamp: -1, MaxTimestamp: -1, Bytes: 200}},
		Aborted:           []AbortedTxn{{ProducerID: 1000, First: 31, Last: 33}},
		CoordinatorOffset: 40, Coordinator: []byte("blob"),
	}
}

func goldenIndex() []byte {
	x := &Index{Partition: goldenManifest().Partition, Sparse: true, Extents: []Extent{
		{Base: 10, Last: 19, MaxTimestamp: 7, Sum: 0x0102030405060708, Pos: 64, Len: 300, CRC: 1},
		{Base: 20, Last: 29, MaxTimestamp: 77, Sum: 9, Pos: 364, Len: 400, CRC: 2},
	}}
	return x.Encode()
}

func goldenSegmentHeader() []byte {
	b := make([]byte, SegmentHeaderLen)
	h := SegmentHeader{Life: goldenManifest().Lives[1], Seq: 6, Size: 912, IndexPos: 764, Parts: 1}
	h.put(b)
	return b
}

// TestGolden holds the formats to the dumps that docs/formats shows.
func TestGolden(t *testing.T) {
	dumps := map[string]string{}
	for _, file := range []string{"manifest.md", "segment.md"} {
		doc, err := os.ReadFile("../docs/formats/" + file)
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range strings.Split(string(doc), "```")[1:] {
			if name, body, ok := strings.Cut(part, "\n"); ok && strings.HasPrefix(name, "hexdump-") {
				dumps[name] = body
			}
		}
	}
	for name, b := range map[string][]byte{
		"hexdump-header":   encodeObjectHeader(goldenManifest().Lives[1], 6, 1116),
		"hexdump-manifest": goldenManifest().Encode(),
		"hexdump-segment":  goldenSegmentHeader(),
		"hexdump-index":    goldenIndex(),
	} {
		if d := cmp.Diff(dumps[name], hex.Dump(b)); d != "" {
			t.Errorf("%s is not what the document shows (-document +code):\n%s", name, d)
		}
	}
}

func TestManifestRoundTrip(t *testing.T) {
	for name, m := range map[string]*Manifest{
		"full":  goldenManifest(),
		"empty": {Version: 1, CoordinatorOffset: -1},
		"all deleted": {
			Version: 2, LogStart: 7, EndOffset: 7, CoordinatorOffset: -1,
			Lives: []wal.Life{{Broker: 1}}, Epochs: []Epoch{{Epoch: 3, Start: 7}},
		},
	} {
		got, err := DecodeManifest(m.Encode())
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if d := cmp.Diff(m, got); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
}

func TestManifestRefusesWhatReadersCouldNotTrust(t *testing.T) {
	for name, change := range map[string]func(*Manifest){
		"version":                 func(m *Manifest) { m.Version = 0 },
		"log start behind end":    func(m *Manifest) { m.LogStart = 41 },
		"log start before data":   func(m *Manifest) { m.LogStart = 9 },
		"end behind data":         func(m *Manifest) { m.EndOffset = 41 },
		"hole between extents":    func(m *Manifest) { m.Extents[1].Base = 36 },
		"overlap":                 func(m *Manifest) { m.Extents[1].Base = 34 },
		"hole behind parts":       func(m *Manifest) { m.Parts[0].Last = 28 },
		"part of unknown life":    func(m *Manifest) { m.Parts[0].Life = 2 },
		"empty part":              func(m *Manifest) { m.Parts[0].Count = 0 },
		"compacted behind end":    func(m *Manifest) { m.CompactedTo = 41 },
		"roll behind end":         func(m *Manifest) { m.Rolls[1].Base = 41 },
		"rolls out of order":      func(m *Manifest) { m.Rolls[1].Base = 8 },
		"log start in no roll":    func(m *Manifest) { m.Rolls[0].Base = 13 },
		"abort behind end":        func(m *Manifest) { m.Aborted[0].Last = 40 },
		"abort backwards":         func(m *Manifest) { m.Aborted[0].Last = 30 },
		"extent of unknown life":  func(m *Manifest) { m.Extents[0].Life = 2 },
		"empty extent":            func(m *Manifest) { m.Extents[0].Len = 0 },
		"extent beyond objects":   func(m *Manifest) { m.Extents[0].Pos = 1 << 31 },
		"epochs out of order":     func(m *Manifest) { m.Epochs[1].Epoch = 0 },
		"epoch starts equal":      func(m *Manifest) { m.Epochs[1].Start = 12 },
		"epoch behind end":        func(m *Manifest) { m.Epochs[1].Start = 41 },
		"epoch of unknown life":   func(m *Manifest) { m.Epochs[1].Life = 2 },
		"six batches":             func(m *Manifest) { m.Producers[0].Batches = make([]ProducerBatch, 6) },
		"no batches":              func(m *Manifest) { m.Producers[0].Batches = nil },
		"batch behind end":        func(m *Manifest) { m.Producers[0].Batches[1].LastOffset = 40 },
		"batches out of order":    func(m *Manifest) { m.Producers[0].Batches[1].LastOffset = 34 },
		"producer twice":          func(m *Manifest) { m.Producers = append(m.Producers, m.Producers[0]) },
		"coordinator behind end":  func(m *Manifest) { m.CoordinatorOffset = 41 },
		"coordinator of nowhere":  func(m *Manifest) { m.CoordinatorOffset = -1 },
		"negative partition":      func(m *Manifest) { m.Partition.Partition = -1 },
		"offset that cannot grow": func(m *Manifest) { m.Extents[1].Last = maxOffset },
	} {
		m := goldenManifest()
		change(m)
		if _, err := DecodeManifest(m.Encode()); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestEveryFlippedBitIsFound(t *testing.T) {
	for name, tc := range map[string]struct {
		b      []byte
		decode func([]byte) error
	}{
		"manifest": {goldenManifest().Encode(), func(b []byte) error { _, err := DecodeManifest(b); return err }},
		"index": {goldenIndex(), func(b []byte) error {
			_, rest, err := DecodeIndex(b)
			if err == nil && len(rest) > 0 {
				return ErrCorrupt
			}
			return err
		}},
		"segment header": {goldenSegmentHeader(), func(b []byte) error { _, err := DecodeSegmentHeader(b); return err }},
	} {
		for i := range len(tc.b) * 8 {
			b := bytes.Clone(tc.b)
			b[i/8] ^= 1 << (i % 8)
			if err := tc.decode(b); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("%s: bit %d: %v", name, i, err)
			}
		}
		for n := range tc.b {
			if err := tc.decode(tc.b[:n]); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("%s: cut to %d bytes: %v", name, n, err)
			}
		}
	}
}

func TestMergeEpochs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := func(name string) []Epoch {
			return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Epoch {
				return Epoch{Epoch: rapid.Int32Range(0, 9).Draw(t, "epoch"), Start: rapid.Int64Range(0, 9).Draw(t, "start")}
			}), 0, 6).Draw(t, name)
		}
		a, b := draw("a"), draw("b")
		out := mergeEpochs(a, b)
		newest := int32(-1)
		for _, e := range append(a, b...) {
			newest = max(newest, e.Epoch)
		}
		for i, e := range out {
			if i > 0 && (e.Epoch <= out[i-1].Epoch || e.Start <= out[i-1].Start) {
				t.Fatalf("%v", out)
			}
		}
		if newest >= 0 && out[len(out)-1].Epoch != newest {
			t.Fatalf("newest epoch %d is lost: %v", newest, out)
		}
	})
}

// seal makes b pass the length and checksum checks, so that fuzzing reaches what is behind them.
func seal(b []byte) []byte {
	b = bytes.Clone(b)
	if len(b) >= 16 {
		binary.BigEndian.PutUint32(b[8:], uint32(len(b)))
		binary.BigEndian.PutUint32(b[len(b)-4:], crc32c.Sum(b[:len(b)-4]))
	}
	return b
}

func FuzzDecodeManifest(f *testing.F) {
	f.Add(goldenManifest().Encode())
	f.Add((&Manifest{Version: 1, CoordinatorOffset: -1}).Encode())
	f.Add([]byte(manifestMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		b = seal(b)
		m, err := DecodeManifest(b)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		if !bytes.Equal(m.Encode(), b) {
			t.Fatalf("decoded and encoded again, %x became %x", b, m.Encode())
		}
	})
}

func FuzzDecodeIndex(f *testing.F) {
	f.Add(goldenIndex())
	f.Add([]byte(indexMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		b = seal(b)
		x, rest, err := DecodeIndex(b)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		if !bytes.Equal(append(x.Encode(), rest...), b) {
			t.Fatalf("%x changed", b)
		}
	})
}

func FuzzDecodeSegment(f *testing.F) {
	f.Add(goldenSegmentHeader(), goldenIndex())
	f.Fuzz(func(t *testing.T, header, indexes []byte) {
		if len(header) >= SegmentHeaderLen {
			binary.BigEndian.PutUint32(header[60:], crc32c.Sum(header[:60]))
		}
		h, err := DecodeSegmentHeader(header)
		if err == nil {
			_, err = decodeIndexes(&h, indexes)
		}
		if err != nil && !errors.Is(err, ErrCorrupt) {
			t.Fatal(err)
		}
	})
}

// decodeIndexes decodes all indexes of a segment: b is what lies between its header's IndexPos and Size.
func decodeIndexes(h *SegmentHeader, b []byte) ([]Index, error) {
	out := make([]Index, 0, h.Parts)
	for len(b) > 0 {
		x, rest, err := DecodeIndex(b)
		if err != nil {
			return nil, err
		}
		if last := x.Extents[len(x.Extents)-1]; int64(x.Extents[0].Pos) < SegmentHeaderLen || int64(last.Pos)+int64(last.Len) > h.IndexPos {
			return nil, corruptf("blocks of %v at %d to %d, not between header and indexes", x.Partition, x.Extents[0].Pos, last.Pos+last.Len)
		}
		out, b = append(out, x), rest
	}
	if len(out) != h.Parts {
		return nil, corruptf("segment %d has %d indexes, its header says %d", h.Seq, len(out), h.Parts)
	}
	return out, nil
}
