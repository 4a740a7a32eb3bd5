package partition

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"

	"github.com/tidemill/tidemill/objectstore/faultstore"
)

// TestJointReads: whatever ranges there are, in whatever order they are read, once or twice, a joint read gives their bytes or nothing, a
// request that fails costs its neighbours nothing but their own requests, and no memory is left over.
func TestJointReads(t *testing.T) {
	w := newWorld(t)
	n := w.start()
	content := make([]byte, 1<<20)
	rand.NewChaCha8([32]byte{}).Read(content)
	objects := make([]objectID, 3)
	for i := range objects {
		objects[i] = objectID{kind: KindSegment, life: n.set.life, seq: int64(i)}
		if err := w.mem.Put(context.Background(), n.set.keyOf(objects[i]), content); err != nil {
			t.Fatal(err)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		var ranges []byteRange
		pos := make([]uint32, len(objects))
		for range rapid.IntRange(1, 60).Draw(t, "ranges") {
			o := rapid.IntRange(0, len(objects)-1).Draw(t, "object")
			gap := rapid.SampledFrom([]uint32{0, 0, 0, 100, jointGap, jointGap + 1}).Draw(t, "gap")
			size := rapid.SampledFrom([]uint32{1, 1000, 50_000, rangeMax, rangeMax + 1}).Draw(t, "size")
			if int(pos[o]+gap+size) > len(content) {
				continue
			}
			ranges = append(ranges, byteRange{objects[o], pos[o] + gap, size})
			pos[o] += gap + size
		}
		if rapid.Bool().Draw(t, "a request fails") {
			w.store.SetRules(faultstore.Rule{Op: faultstore.ReadAt, Fault: faultstore.Lost, Limit: 1})
		}
		defer w.store.SetRules()
		j := n.set.newJointReads(ranges)
		for _, r := range rapid.Permutation(append(ranges, ranges...)).Draw(t, "order") {
			got, block := j.read(context.Background(), r)
			if block == nil {
				continue
			}
			if !bytes.Equal(got, content[r.pos:r.pos+r.len]) {
				t.Fatalf("%+v comes out wrong", r)
			}
			block.Release()
			if j.bytes > jointMost {
				t.Fatalf("%d bytes are held", j.bytes)
			}
		}
		j.close()
		if j.bytes != 0 {
			t.Fatalf("%d bytes are held after close", j.bytes)
		}
	})
}

// TestJointReadsMakeRoom: when too much waits for users who do not come, what was loaded first goes, and is read alone when it is asked for.
func TestJointReadsMakeRoom(t *testing.T) {
	w := newWorld(t)
	n := w.start()
	const objects, size = 8, 4 << 20
	content := make([]byte, size)
	rand.NewChaCha8([32]byte{}).Read(content)
	var ranges []byteRange
	for i := range objects {
		id := objectID{kind: KindSegment, life: n.set.life, seq: int64(i)}
		if err := w.mem.Put(t.Context(), n.set.keyOf(id), content); err != nil {
			t.Fatal(err)
		}
		for pos := uint32(0); pos < size; pos += rangeMax {
			ranges = append(ranges, byteRange{id, pos, rangeMax})
		}
	}
	j := n.set.newJointReads(ranges)
	defer j.close()
	var first []byteRange // of each joint read
	for _, r := range ranges {
		if j.find(r).from == r.pos {
			first = append(first, r)
		}
	}
	if whole := int64(objects * size); whole <= jointMost || len(first) < 3 {
		t.Fatalf("%d joint reads of %d bytes are none too many", len(first), whole)
	}
	for i, r := range first {
		_, block := j.read(t.Context(), r)
		if block == nil {
			t.Fatalf("joint read %d: nothing", i)
		}
		block.Release()
		if j.bytes > jointMost {
			t.Fatalf("joint read %d: %d bytes are held", i, j.bytes)
		}
	}
	kept := 0
	for i, r := range first {
		next := byteRange{r.objectID, r.pos + rangeMax, rangeMax}
		got, block := j.read(t.Context(), next)
		switch {
		case block != nil:
			kept++
			if !bytes.Equal(got, content[next.pos:][:rangeMax]) {
				t.Errorf("joint read %d comes out wrong", i)
			}
			block.Release()
		case kept > 0:
			t.Errorf("joint read %d made room though %d are older", i, kept)
		}
	}
	if kept == 0 || kept == len(first) {
		t.Errorf("%d of %d are kept", kept, len(first))
	}
}

// sharing returns a node with partitions that have a small part each in every one of some segments.
func sharing(t *testing.T, partitions int32, segments int, change func(*Options)) *node {
	n := newWorld(t).start(change)
	for p := range partitions {
		n.create(p)
	}
	for i := range segments {
		for p := range partitions {
			n.log(p).try(sized(2000, byte(i)))
		}
		n.commit()
		n.checkpointed(t)
	}
	return n
}

// TestMergeReadsTogether: a merge of partitions that share segments reads those with few requests, not with two for every part.
func TestMergeReadsTogether(t *testing.T) {
	const partitions, segments = 60, 10
	hs := &hookStore{}
	n := sharing(t, partitions, segments, func(o *Options) { hs.Store, o.Store = o.Store, hs })
	before := hs.reads.Load()
	if err := n.set.Merge(context.Background()); err != nil {
		t.Fatal(err)
	}
	if reads := hs.reads.Load() - before; reads != 2*segments {
		t.Errorf("%d reads for the indexes and the data of %d segments", reads, segments)
	}
	for p := range int32(partitions) {
		l := n.log(p)
		if got := l.offsets(t, 0, 1<<20); len(got) != segments || len(l.parts) >= mergeFan {
			t.Errorf("partition %d: %d batches, %d parts", p, len(got), len(l.parts))
		}
	}
}

// TestMergeReadsDamageTogether: a flipped bit in what many partitions are read from hurts the one whose it is, which is not merged.
func TestMergeReadsDamageTogether(t *testing.T) {
	const partitions, segments, hurt = 20, 10, 7
	bad := &rotten{}
	n := sharing(t, partitions, segments, func(o *Options) { bad.Store, o.Store, o.TailBytes = o.Store, bad, 1 })
	extents, err := n.set.partExtents(context.Background(), n.log(hurt), n.log(hurt).parts)
	if err != nil {
		t.Fatal(err)
	}
	e := extents[4]
	bad.key, bad.bit = n.set.keyOf(e.object()), int(e.Pos+e.Len/2)*8
	if err := n.set.Merge(context.Background()); !errors.Is(err, ErrCorrupt) {
		t.Fatal(err)
	}
	for p := range int32(partitions) {
		l := n.log(p)
		for offset := int64(0); offset < l.end; offset++ {
			_, err := l.Read(context.Background(), ReadInput{Offset: offset, MaxBytes: 1, AtLeastOne: true})
			if want := p == hurt && offset >= e.Base && offset <= e.Last; errors.Is(err, ErrCorrupt) != want || err != nil && !want {
				t.Errorf("partition %d at %d: %v", p, offset, err)
			}
		}
		if merged := len(l.parts) < mergeFan; merged == (p == hurt) {
			t.Errorf("partition %d has %d parts", p, len(l.parts))
		}
	}
}
