package wal

import (
	"bytes"
	"context"
	"fmt"
	"hash/crc32"
	"log/slog"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/tidemill/tidemill/internal/memory"
	"github.com/tidemill/tidemill/objectstore/memstore"
)

// randomEntries returns entries over a few partitions: short and long, in blocks and not, with known checksums and not.
// The caller has a reference to each block.
func randomEntries(rng *rand.Rand, pool *memory.Pool) (entries []Entry, blocks []*memory.Block) {
	next := map[int32]int64{}
	for range 1 + rng.IntN(20) {
		n := 1 + rng.IntN(200)
		if rng.IntN(2) == 0 {
			n = 4<<10 + rng.IntN(40<<10)
		}
		en := Entry{Partition: testPartition(1, rng.Int32N(4))}
		en.BaseOffset = next[en.Partition.Partition]
		en.LastOffset = en.BaseOffset
		next[en.Partition.Partition]++
		if rng.IntN(3) > 0 {
			en.Block = pool.Get(n + 10)
			blocks = append(blocks, en.Block)
			en.Data = en.Block.Bytes()[5 : 5+n]
		} else {
			en.Data = make([]byte, n)
		}
		for i := range en.Data {
			en.Data[i] = byte(rng.Uint32())
		}
		if rng.IntN(2) == 0 {
			en.TailLen = n - rng.IntN(min(n, 30))
			en.TailCRC = crc32.Checksum(en.Data[n-en.TailLen:], castagnoli)
		}
		entries = append(entries, en)
	}
	return entries, blocks
}

// However the bytes of a slot lie, they are those of the format, and its parts can be read.
func TestObject(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	pool := memory.NewPool(8 << 20)
	e := newSlotEncoder(simCluster, simLife, pool)
	for seq := range int64(100) {
		entries, blocks := randomEntries(rng, pool)
		byPartition := map[int32][]byte{}
		for _, en := range entries {
			byPartition[en.Partition.Partition] = append(byPartition[en.Partition.Partition], en.Data...)
		}
		o, chunks, h := e.data(seq, entries)
		for _, b := range blocks {
			b.Release()
		}
		object := o.Bytes()
		got, decoded, err := DecodeSlot(object)
		if err != nil || !slices.Equal(decoded, chunks) || got != h {
			t.Fatalf("slot %d: %v\n%+v\n%+v", seq, err, decoded, chunks)
		}
		body := o.body()
		if int(body.Size) != len(object) || o.Size() != len(object) || o.Taken() < body.Size || body.CRC32C != crc32.Checksum(object, castagnoli) ||
			!bytes.Equal(bytes.Join(body.Pieces, nil), object) {
			t.Fatalf("slot %d: body of %d bytes with checksum %08x, %d taken; want %d and %08x", seq, body.Size, body.CRC32C, o.Taken(), len(object), crc32.Checksum(object, castagnoli))
		}
		for _, c := range chunks {
			if !bytes.Equal(bytes.Join(o.AppendRange(nil, c.Pos, c.Len), nil), byPartition[c.Partition.Partition]) {
				t.Fatalf("slot %d: chunk of %s", seq, c.Partition)
			}
		}
		for range 50 {
			pos := rng.Uint32N(uint32(len(object)))
			n := rng.Uint32N(uint32(len(object)) - pos + 1)
			if !bytes.Equal(bytes.Join(o.AppendRange(nil, pos, n), nil), object[pos:pos+n]) {
				t.Fatalf("slot %d: %d bytes at %d", seq, n, pos)
			}
			if b, ok := o.At(pos, n); ok && !bytes.Equal(b, object[pos:pos+n]) {
				t.Fatalf("slot %d: %d bytes at %d in one piece", seq, n, pos)
			}
		}
		for _, c := range chunks {
			pos := c.Pos
			for _, en := range entries {
				if en.Partition == c.Partition {
					if b, ok := o.At(pos, uint32(len(en.Data))); !ok || !bytes.Equal(b, object[pos:int(pos)+len(en.Data)]) {
						t.Fatalf("slot %d: entry at %d is not in one piece", seq, pos)
					}
					pos += uint32(len(en.Data))
				}
			}
		}
		if _, ok := o.At(uint32(len(object)), 1); ok {
			t.Fatal("a read behind the end succeeded")
		}
		o.Release()
	}
}

// keeper is a Sink that keeps the first slots.
type keeper struct {
	kept chan *Slot
}

func (k keeper) Committed(s *Slot) {
	s.Object.Retain()
	k.kept <- s
}

func (keeper) Fenced(error) {}

// A slot's blocks live as long as somebody holds the slot, and no longer: the producer's own reference ends at the commit.
func TestObjectKeepsBlocks(t *testing.T) {
	pool, sink := memory.NewPool(64<<20), keeper{make(chan *Slot, 100)}
	w := NewWriter(simLife, memstore.New(), sink, Options{Cluster: simCluster, Logger: slog.New(slog.DiscardHandler), Memory: pool})
	ctx, stop := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- w.Run(ctx) }()
	var slots []*Slot
	for i := range int64(20) {
		b := pool.Get(20 << 10)
		copy(b.Bytes(), fmt.Sprintf("batch %04d", i))
		if err := w.Append(Entry{Partition: testPartition(1, 0), BaseOffset: i, LastOffset: i, Data: b.Bytes(), Block: b}); err != nil {
			t.Fatal(err)
		}
		w.Nudge()
		slots = append(slots, <-sink.kept)
		b.Release()
	}
	for i, s := range slots {
		got, ok := s.Object.At(HeaderLen, 10)
		if !ok || string(got) != fmt.Sprintf("batch %04d", i) {
			t.Errorf("slot %d holds %q", i, got)
		}
	}
	stop()
	<-ran // the writer has let go of them too
	before := pool.Kept()
	for _, s := range slots {
		s.Object.Release()
	}
	if freed := pool.Kept() - before; freed < 20*20<<10 {
		t.Errorf("%d bytes came back", freed)
	}
}
