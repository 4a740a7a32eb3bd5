package partition

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"github.com/tidemill/tidemill/objectstore"
	"github.com/tidemill/tidemill/wal"
)

// rotten is a store in which a bit of one object has flipped.
type rotten struct {
	objectstore.Store
	key string
	bit int
}

func (s *rotten) ReadAt(ctx context.Context, key string, p []byte, off int64) error {
	err := s.Store.ReadAt(ctx, key, p, off)
	if i := int64(s.bit/8) - off; err == nil && key == s.key && i >= 0 && i < int64(len(p)) {
		p[i] ^= 1 << (s.bit % 8)
	}
	return err
}

// TestFlippedBitInASegment flips each bit of a segment in turn. A read of what it lies in says that the data is corrupt, all other records
// are served as they were written, and none comes out wrong.
func TestFlippedBitInASegment(t *testing.T) {
	w := newWorld(t)
	n := w.start()
	a, b := n.create(0), n.create(1)
	for range 3 {
		a.try(plain(1, 0))
		b.try(plain(2, 0))
		n.commit()
	}
	n.checkpointed(t)
	want := map[int32][]byte{}
	for p := range int32(2) {
		r, err := n.log(p).Read(context.Background(), ReadInput{MaxBytes: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		want[p] = bytes.Join(r.Batches, nil)
	}
	recoveries := n.kill()
	bad := &rotten{Store: w.mem, key: w.keys(SegmentPrefix)[0]}
	object, _ := w.mem.Get(context.Background(), bad.key)
	n = w.reopen(recoveries, func(o *Options) { o.Store = bad })
	h, err := DecodeSegmentHeader(object)
	if err != nil {
		t.Fatal(err)
	}
	indexes, err := decodeIndexes(&h, object[h.IndexPos:])
	if err != nil {
		t.Fatal(err)
	}
	for bad.bit = 0; bad.bit < 8*len(object); bad.bit++ {
		n.set.cache.forget()
		at := bad.bit / 8
		hurt := 0
		for p := range int32(2) {
			size := len(want[p]) / 3
			for i := range 3 {
				offset := int64(i) * int64(p+1)
				r, err := n.log(p).Read(context.Background(), ReadInput{Offset: offset, MaxBytes: 1, AtLeastOne: true})
				switch {
				case errors.Is(err, ErrCorrupt):
					hurt++
				case err != nil:
					t.Fatalf("bit %d: %v", bad.bit, err)
				case !bytes.Equal(bytes.Join(r.Batches, nil), want[p][i*size:(i+1)*size]):
					t.Fatalf("bit %d: offset %d of partition %d comes out wrong", bad.bit, offset, p)
				}
			}
		}
		if expect := hurtBy(at, &h, indexes, len(want[0])/3, len(want[1])/3); hurt != expect.exactly && (hurt < expect.least || hurt > expect.most) {
			t.Fatalf("bit %d (byte %d) makes %d batches unreadable, want %+v", bad.bit, at, hurt, expect)
		}
	}
}

type damageDone struct{ exactly, least, most int }

// hurtBy says how many of three batches a flipped bit may cost: none in the segment's header, all of a partition in its index, and in a
// block the batch it is in, those behind it too where the length is, and all where nobody can tell which it is.
func hurtBy(at int, h *SegmentHeader, indexes []Index, sizes ...int) damageDone {
	if at < SegmentHeaderLen {
		return damageDone{}
	}
	if at >= int(h.IndexPos) {
		return damageDone{exactly: 3}
	}
	for i, x := range indexes {
		e := x.Extents[0]
		if in := at - int(e.Pos); in >= 0 && in < int(e.Len) {
			batch, field := in/sizes[i], in%sizes[i]
			switch {
			case field >= 12 && field < 16: // the leader epoch, which only the block's checksum covers
				return damageDone{exactly: 3}
			case field < 12 || field == 16 || field >= 23 && field < 27: // base offset, length, format, last offset
				return damageDone{exactly: 1, least: 1, most: 3 - batch}
			}
			return damageDone{exactly: 1}
		}
	}
	return damageDone{}
}

// TestDamagedSlotMovesAsItIs: a checkpoint copies what it cannot read right, so that only those offsets stay unreadable and the log is
// trimmed.
func TestDamagedSlotMovesAsItIs(t *testing.T) {
	w := newWorld(t)
	n := w.start()
	l := n.create(0)
	for range 3 {
		for range 3 {
			l.try(plain(1, 0))
		}
		n.commit()
	}
	size := len(plain(1, 0))
	recoveries := n.kill()
	bad := &rotten{Store: w.mem}
	dead := n.life
	n = w.reopen(recoveries, func(o *Options) { o.Store = bad }) // which reads the tail, and finds it whole
	l = n.log(0)
	bad.key, bad.bit = wal.SlotKey(dead, 1), 8*(wal.HeaderLen+2*size-1) // in the middle batch
	if err := n.set.Checkpoint(context.Background()); err != nil {
		t.Fatalf("checkpoint: %v", err)
	}
	if len(l.parts) != 1 || len(l.recent) != 0 {
		t.Fatalf("%d parts, %d extents in slots", len(l.parts), len(l.recent))
	}
	check := func(l *Log) {
		t.Helper()
		for offset := range int64(9) {
			r, err := l.Read(context.Background(), ReadInput{Offset: offset, MaxBytes: 1, AtLeastOne: true})
			if corrupt := errors.Is(err, ErrCorrupt); corrupt != (offset == 4) || !corrupt && (err != nil || r.Bytes != size) {
				t.Errorf("offset %d: %d bytes, %v", offset, r.Bytes, err)
			}
		}
	}
	check(l)
	if err := n.set.Sweep(context.Background()); err != nil {
		t.Fatal(err)
	}
	n.deleted(t)
	if left := w.keys("wal/"); len(left) != 0 {
		t.Errorf("slots left: %v", left)
	}
	check(w.reopen(n.kill()).log(0))
}

// forget drops everything that is not being loaded.
func (c *blockCache) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key := range c.blocks {
		c.dropLocked(key)
	}
}
