package wal

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"flag"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tidemill/tidemill/internal/memory"
	"github.com/tidemill/tidemill/protocol"
)

var rewrite = flag.Bool("rewrite", false, "rewrite golden files; then paste them into docs/formats")

func testPartition(topic byte, partition int32) protocol.PartitionID {
	return protocol.PartitionID{Topic: protocol.TopicID{topic, 0xff}, Partition: partition}
}

// goldenSlots are two data slots and the seal behind them. Partition 1/0 is interrupted by 2/5 and changes its epoch.
func goldenSlots() (first, second, seal []byte) {
	e := newSlotEncoder(simCluster, simLife, memory.NewPool(0))
	a, b := testPartition(1, 0), testPartition(2, 5)
	one, _, _ := e.data(0, []Entry{
		{Partition: a, LeaderEpoch: 4, BaseOffset: 10, LastOffset: 11, MaxTimestamp: 1000, Data: []byte("first batch of a;")},
		{Partition: b, LeaderEpoch: 1, BaseOffset: 0, LastOffset: 0, MaxTimestamp: -1, Data: []byte("only batch of b;")},
		{Partition: a, LeaderEpoch: 4, BaseOffset: 12, LastOffset: 20, MaxTimestamp: 999, Data: []byte("second batch of a;")},
	})
	two, _, _ := e.data(1, []Entry{
		{Partition: a, LeaderEpoch: 4, BaseOffset: 21, LastOffset: 21, MaxTimestamp: 1, Data: []byte("third;")},
		{Partition: a, LeaderEpoch: 5, BaseOffset: 22, LastOffset: 22, MaxTimestamp: 2, Data: []byte("new epoch;")},
	})
	seal, _ = encodeEnd(Header{Cluster: simCluster, Life: simLife, Seq: 2, Kind: KindSeal, Prev: e.prev, Author: "broker 8"})
	return one.Bytes(), two.Bytes(), seal
}

func goldenRecovery() Recovery {
	first, second, _ := goldenSlots()
	r := Recovery{Cluster: simCluster, Life: simLife, Trim: 0, Sealer: "broker 8"}
	for _, object := range [][]byte{first, second} {
		h, chunks, err := DecodeSlot(object)
		if err != nil {
			panic(err)
		}
		r.add(&foundSlot{header: h, chunks: chunks, length: uint32(len(object))})
	}
	return r
}

func TestSlotRoundTrip(t *testing.T) {
	first, second, seal := goldenSlots()
	h, chunks, err := DecodeSlot(first)
	if err != nil {
		t.Fatal(err)
	}
	a, b := testPartition(1, 0), testPartition(2, 5)
	want := []Chunk{
		{Partition: a, LeaderEpoch: 4, BaseOffset: 10, LastOffset: 20, MaxTimestamp: 1000, PrevSlot: -1, Pos: 512, Len: 35},
		{Partition: b, LeaderEpoch: 1, MaxTimestamp: -1, PrevSlot: -1, Pos: 547, Len: 16},
	}
	for i := range chunks {
		if err := chunks[i].Check(first[chunks[i].Pos : chunks[i].Pos+chunks[i].Len]); err != nil {
			t.Error(err)
		}
		chunks[i].CRC = 0
	}
	if d := cmp.Diff(want, chunks); d != "" {
		t.Errorf("chunks of the first slot: %s", d)
	}
	if got := string(first[512:547]); got != "first batch of a;second batch of a;" {
		t.Errorf("batches of one partition are not together: %q", got)
	}
	h2, chunks2, err := DecodeSlot(second)
	if err != nil {
		t.Fatal(err)
	}
	if h2.Prev != h.Digest || h2.Seq != 1 || h2.Cluster != simCluster || h2.Life != simLife {
		t.Errorf("second header: %+v", h2)
	}
	if len(chunks2) != 2 || chunks2[0].PrevSlot != 0 || chunks2[1].PrevSlot != 1 || chunks2[1].LeaderEpoch != 5 {
		t.Errorf("chunks of the second slot: %+v", chunks2)
	}
	hs, _, err := DecodeSlot(seal)
	if err != nil || hs.Kind != KindSeal || hs.Prev != h2.Digest || hs.Author != "broker 8" {
		t.Errorf("seal: %+v, %v", hs, err)
	}
}

func TestRecoveryRoundTrip(t *testing.T) {
	want := goldenRecovery()
	got, err := DecodeRecovery(want.Encode())
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	ends := map[protocol.PartitionID]int64{testPartition(1, 0): 23, testPartition(2, 5): 1}
	if d := cmp.Diff(ends, got.Ends()); d != "" {
		t.Error(d)
	}
	cut := got.trimmed(1)
	if len(cut.Chunks) != 2 || cut.Trim != 1 || cut.N != 2 {
		t.Errorf("trimmed: %+v", cut)
	}
}

// TestDamageIsFound flips every bit of every format and cuts objects off at every length.
func TestDamageIsFound(t *testing.T) {
	first, _, seal := goldenSlots()
	r := goldenRecovery()
	slot := func(b []byte) error { _, _, err := DecodeSlot(b); return err }
	recovery := func(b []byte) error { _, err := DecodeRecovery(b); return err }
	for _, c := range []struct {
		name   string
		object []byte
		decode func([]byte) error
	}{{"slot", first, slot}, {"seal", seal, slot}, {"recovery", r.Encode(), recovery}} {
		t.Run(c.name, func(t *testing.T) {
			if err := c.decode(c.object); err != nil {
				t.Fatal(err)
			}
			for i := range len(c.object) * 8 {
				bad := bytes.Clone(c.object)
				bad[i/8] ^= 1 << (i % 8)
				if err := c.decode(bad); !errors.Is(err, ErrCorrupt) {
					t.Fatalf("bit %d of byte %d flipped: %v", i%8, i/8, err)
				}
			}
			for n := range len(c.object) {
				if err := c.decode(c.object[:n]); !errors.Is(err, ErrCorrupt) {
					t.Fatalf("cut off at %d: %v", n, err)
				}
			}
			if err := c.decode(append(bytes.Clone(c.object), 0)); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("a byte too long: %v", err)
			}
		})
	}
}

// TestHostileSlots have right checksums and wrong content.
func TestHostileSlots(t *testing.T) {
	be := binary.BigEndian
	for _, c := range []struct {
		name   string
		change func(header, dir []byte)
	}{
		{"format", func(h, _ []byte) { be.PutUint16(h[8:], 2) }},
		{"kind 0", func(h, _ []byte) { h[10] = 0 }},
		{"kind 4", func(h, _ []byte) { h[10] = 4 }},
		{"seal with data", func(h, _ []byte) { h[10] = byte(KindSeal) }},
		{"reserved byte", func(h, _ []byte) { h[11] = 1 }},
		{"reserved tail", func(h, _ []byte) { h[300] = 1 }},
		{"negative seq", func(h, _ []byte) { be.PutUint64(h[32:], 1<<63) }},
		{"slot 0 with predecessor", func(h, _ []byte) { h[80] = 1 }},
		{"cluster id not text", func(h, _ []byte) { h[50] = 7 }},
		{"cluster id not padded", func(h, _ []byte) { h[48+31] = 'x' }},
		{"body longer", func(h, _ []byte) { be.PutUint32(h[112:], 1<<31) }},
		{"count without length", func(h, _ []byte) { be.PutUint32(h[124:], 1<<31) }},
		{"chunk kind", func(_, d []byte) { d[68] = 1 }},
		{"negative partition", func(_, d []byte) { be.PutUint32(d[16:], 1<<31) }},
		{"offsets reversed", func(_, d []byte) { be.PutUint64(d[24:], 21) }},
		{"predecessor ahead", func(_, d []byte) { be.PutUint64(d[48:], 1) }},
		{"predecessor in this slot", func(_, d []byte) { be.PutUint64(d[48:], 0) }},
		{"gap", func(_, d []byte) { be.PutUint32(d[56:], 513) }},
		{"empty chunk", func(_, d []byte) { be.PutUint32(d[60:], 0) }},
		{"chunk too long", func(_, d []byte) { be.PutUint32(d[chunkLen+60:], 1<<30) }},
		{"chunk too short", func(_, d []byte) { be.PutUint32(d[chunkLen+60:], 15) }},
		{"partition twice", func(_, d []byte) { copy(d[chunkLen:chunkLen+20], d[:20]) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			object, _, _ := goldenSlots()
			dir := object[be.Uint32(object[116:]):]
			c.change(object[:HeaderLen], dir)
			digest := slotDigest(object[:HeaderLen], dir)
			copy(object[digestPos:], digest[:])
			be.PutUint32(object[headerCRCPos:], crc32.Checksum(object[:headerCRCPos], castagnoli))
			if _, _, err := DecodeSlot(object); !errors.Is(err, ErrCorrupt) {
				t.Errorf("got %v, want corruption", err)
			}
		})
	}
}

func TestKeys(t *testing.T) {
	if got, want := SlotKey(simLife, 42), "wal/f6/7/0000000000000003-0102030405060708/00000000000000000042"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := RecoveryKey(simLife), "recovery/7/0000000000000003-0102030405060708"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, err := ParseLife(simLife.String()); err != nil || got != simLife {
		t.Errorf("life %s came back as %s, %v", simLife, got, err)
	}
}

// TestGoldenDumps: stored bytes never change unnoticed, and the documents show them.
func TestGoldenDumps(t *testing.T) {
	first, _, seal := goldenSlots()
	end, _, err := DecodeSlot(seal)
	if err != nil {
		t.Fatal(err)
	}
	end.Kind, end.Author = KindClose, ""
	closed, _ := encodeEnd(end)
	r := goldenRecovery()
	for _, c := range []struct {
		file, doc string
		object    []byte
	}{
		{"slot.hex", "slot.md", first}, {"seal.hex", "slot.md", seal}, {"close.hex", "slot.md", closed}, {"recovery.hex", "recovery.md", r.Encode()},
	} {
		got := dump(c.object)
		path := filepath.Join("testdata", c.file)
		if *rewrite {
			if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(string(want), got); d != "" {
			t.Errorf("%s: %s", c.file, d)
		}
		doc, err := os.ReadFile(filepath.Join("..", "docs", "formats", c.doc))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(doc), got) {
			t.Errorf("docs/formats/%s does not hold %s", c.doc, c.file)
		}
	}
}

// dump prints bytes as hexdump -C does, without lines of zeroes.
func dump(b []byte) string {
	var out strings.Builder
	for _, line := range strings.SplitAfter(hex.Dump(b), "\n") {
		if !strings.Contains(line, strings.Repeat("00 ", 8)+" "+strings.Repeat("00 ", 8)) {
			out.WriteString(line)
		}
	}
	return out.String()
}

func FuzzDecodeSlot(f *testing.F) {
	first, second, seal := goldenSlots()
	for _, s := range [][]byte{first, second, seal, first[:HeaderLen], nil} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		object := repaired(b, HeaderLen, headerCRCPos)
		h, chunks, err := DecodeSlot(object)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatalf("error %v is not corruption", err)
			}
			return
		}
		if uint32(len(chunks)) != h.DirCount || int(h.DirPos+h.DirLen) != len(object) {
			t.Fatalf("%d chunks of %+v", len(chunks), h)
		}
		again := make([]byte, HeaderLen)
		h.put(again)
		h.finish(again, object[h.DirPos:])
		if h.Digest != Digest(object[digestPos:digestPos+32]) {
			t.Fatal("header does not survive a round trip")
		}
	})
}

func FuzzDecodeRecovery(f *testing.F) {
	r := goldenRecovery()
	f.Add(r.Encode())
	f.Add((&Recovery{Life: simLife}).Encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		b = repaired(b, recoveryHeaderLen, recoveryCRCPos)
		if len(b) > recoveryHeaderLen+4 {
			binary.BigEndian.PutUint32(b[len(b)-4:], crc32.Checksum(b[:len(b)-4], castagnoli))
		}
		r, err := DecodeRecovery(b)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatalf("error %v is not corruption", err)
			}
			return
		}
		if !bytes.Equal(r.Encode(), b) {
			t.Fatal("recovery does not survive a round trip")
		}
	})
}

// repaired sets the header's checksum, and a slot's digest, right, so that the fuzzer gets behind them.
func repaired(b []byte, length, crcPos int) []byte {
	b = bytes.Clone(b)
	if len(b) < length {
		return b
	}
	if length == HeaderLen {
		dir := min(uint64(binary.BigEndian.Uint32(b[116:])), uint64(len(b)))
		digest := slotDigest(b[:HeaderLen], b[dir:])
		copy(b[digestPos:], digest[:])
	}
	binary.BigEndian.PutUint32(b[crcPos:], crc32.Checksum(b[:crcPos], castagnoli))
	return b
}
