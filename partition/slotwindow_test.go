package partition

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/tidemill/tidemill/objectstore/faultstore"
	"github.com/tidemill/tidemill/wal"
)

const (
	behindParts = 12
	behindSlots = 40
)

// behind returns a node whose checkpoints are behind: all its slots have left memory, and a window has room for two of them. Each holds
// a batch of every partition.
func behind(t *testing.T) (*node, *hookStore) {
	w := newWorld(t)
	hs := &hookStore{Store: w.store}
	n := w.start(func(o *Options) { o.Store, o.TailBytes, o.CheckpointBytes = hs, 1, 2*behindParts*1100 })
	for p := range int32(behindParts) {
		n.create(p)
	}
	for i := range behindSlots {
		for p := range int32(behindParts) {
			n.log(p).try(sized(1000, byte(i)))
		}
		n.commit()
	}
	select {
	case <-n.set.due.c: // it was due long ago
	default:
		t.Fatal("no checkpoint is due")
	}
	return n, hs
}

func (n *node) due() bool {
	select {
	case <-n.set.due.c:
		return true
	default:
		return false
	}
}

// rewritten checks that nothing is missing, and returns how many partitions hold something in slots.
func (n *node) rewritten(t *testing.T) (left int) {
	t.Helper()
	for p := range int32(behindParts) {
		l := n.log(p)
		if got := l.offsets(t, 0, 1<<20); len(got) != behindSlots {
			t.Errorf("partition %d: %d batches are served", p, len(got))
		}
		if _, ok := l.firstInSlots(); ok {
			left++
		}
	}
	return left
}

// TestRewriteBehind: slots that have left memory are read whole, one request each, some at a time; a checkpoint that does not come to
// the end asks for another, and what waits is not lost and not deleted.
func TestRewriteBehind(t *testing.T) {
	n, hs := behind(t)
	for i := 1; ; i++ {
		before := hs.reads.Load()
		n.checkpointed(t)
		done := min(i*windowsMax*2, behindSlots)
		if reads := hs.reads.Load() - before; reads > 2*windowsMax {
			t.Errorf("checkpoint %d reads %d times for %d slots", i, reads, 2*windowsMax)
		}
		if due := n.due(); due != (done < behindSlots) {
			t.Errorf("checkpoint %d: another is due: %v", i, due)
		}
		if left := n.rewritten(t); left != 0 && done == behindSlots || left != behindParts && done < behindSlots {
			t.Errorf("checkpoint %d: %d partitions hold something in slots", i, left)
		}
		n.deleted(t)
		if slots := len(n.keys("wal/")); slots != behindSlots-done {
			t.Errorf("checkpoint %d: %d slots are left, want %d", i, slots, behindSlots-done)
		}
		if done == behindSlots {
			break
		}
	}
	if n = n.reopen(n.kill()); n.rewritten(t) != 0 {
		t.Error("a later life holds something in slots")
	}
}

// TestRewriteBehindInTrouble: a slot that cannot be read whole is read chunk by chunk, one that cannot be read at all keeps what follows
// it in slots, and damage stays where it is.
func TestRewriteBehindInTrouble(t *testing.T) {
	n, _ := behind(t)
	third := wal.SlotKey(n.life, 3)
	rule := faultstore.Rule{Op: faultstore.ReadAt, Match: func(key string) bool { return key == third }, Fault: faultstore.Lost}
	n.store.SetRules(rule)
	if err := n.set.Checkpoint(context.Background()); !errors.Is(err, ErrStorage) {
		t.Fatalf("a slot that cannot be read: %v", err)
	}
	if n.due() {
		t.Error("another checkpoint is due at once, with a store that fails")
	}
	n.store.SetRules()
	if left := n.rewritten(t); left != behindParts {
		t.Errorf("%d partitions hold something in slots", left)
	}
	rule.Limit = 1 // the whole, and then no chunk
	n.store.SetRules(rule)
	body, _ := n.mem.Get(context.Background(), wal.SlotKey(n.life, 5))
	body = slices.Clone(body)
	body[wal.HeaderLen+500]++ // of partition 0
	_ = n.mem.Delete(context.Background(), wal.SlotKey(n.life, 5))
	_ = n.mem.Put(context.Background(), wal.SlotKey(n.life, 5), body)
	for n.set.behind = true; n.set.behind; {
		n.checkpointed(t)
	}
	for p := range int32(behindParts) {
		l := n.log(p)
		if _, ok := l.firstInSlots(); ok {
			t.Errorf("partition %d holds something in slots", p)
		}
		for offset := range int64(behindSlots) {
			r, err := l.Read(context.Background(), ReadInput{Offset: offset, MaxBytes: 1, AtLeastOne: true})
			if damaged := p == 0 && offset == 5; damaged != errors.Is(err, ErrCorrupt) || !damaged && (err != nil || r.next != offset+1) {
				t.Errorf("partition %d at %d: next is %d, %v", p, offset, r.next, err)
			}
			r.Release()
		}
	}
}

// TestRewriteBehindALostSlot: data that cannot be read, older than all else and more than windows hold, keeps nothing of other partitions from
// being rewritten.
func TestRewriteBehindALostSlot(t *testing.T) {
	w := newWorld(t)
	n := w.start(func(o *Options) { o.TailBytes, o.CheckpointBytes = 1, 8000 })
	const lost = 2 * windowsMax // partitions that have nothing else in common, each with a window of its own
	for p := range int32(4 + lost) {
		n.create(p)
	}
	for p := range int32(lost) {
		for range 9 {
			n.log(4 + p).try(sized(1000, 1))
			n.commit()
		}
		_ = n.mem.Delete(context.Background(), wal.SlotKey(n.life, 9*int64(p)))
	}
	n.log(0).try(sized(1000, 1))
	n.commit()
	_ = n.mem.Delete(context.Background(), wal.SlotKey(n.life, 9*lost))
	for round := range 8 {
		for i := range 6 {
			for p := range int32(4) {
				n.log(p).try(sized(1000, byte(i)))
			}
			n.commit()
		}
		for again := true; again; again = n.due() && n.set.behind {
			if err := n.set.Checkpoint(context.Background()); err == nil {
				t.Fatal("the lost slot is no error")
			}
		}
		for p := range int32(4) {
			if _, left := n.log(p).firstInSlots(); left != (p == 0) {
				t.Errorf("round %d: partition %d holds something in slots: %v", round, p, left)
			}
		}
	}
}

// TestWindowHoldsMemory: what is in memory when a rewrite takes it in hand stays there until it is done, however much is committed meanwhile.
func TestWindowHoldsMemory(t *testing.T) {
	w := newWorld(t)
	hs := &hookStore{Store: w.store}
	n := w.start(func(o *Options) { o.Store, o.TailBytes = hs, 1<<20 })
	l := n.create(0)
	write := func() {
		l.try(sized(1000, 1))
		n.commit()
	}
	for range 10 {
		write()
	}
	u := l.unwritten()
	window := n.set.newSlotWindow([]unwritten{u})
	window.load(context.Background())
	n.set.tail.budget = 1
	write()
	if n.set.tail.has(0) {
		t.Fatal("the slot is in the tail cache still")
	}
	src := n.set.newSource(context.Background(), u.extents)
	src.window = window
	for i := range u.extents {
		x, ok := src.read()
		if !ok || x.err != nil || x.damaged {
			t.Fatalf("extent %d: %v, %v", i, ok, x.err)
		}
		x.release()
	}
	src.close()
	window.release()
	if reads := hs.reads.Load(); reads != 0 {
		t.Errorf("%d reads", reads)
	}
}

// TestRewriteBehindAtTheEnd: who is being closed leaves what is in slots there, and asks for no other checkpoint.
func TestRewriteBehindAtTheEnd(t *testing.T) {
	n, _ := behind(t)
	n.set.close()
	_ = n.set.Checkpoint(context.Background()) // what it says depends on how far it came
	if n.due() {
		t.Error("another checkpoint is due")
	}
	if left := n.rewritten(t); left != behindParts {
		t.Errorf("%d partitions hold something in slots, want all", left)
	}
}

// TestRewriteAfterATakeover: the first checkpoints of who takes over read each slot of the life before once, a window at a time, however
// many partitions it holds; what has come in since is rewritten after it.
func TestRewriteAfterATakeover(t *testing.T) {
	for name, room := range map[string]int64{"in one window": 0, "in many": 2 * behindParts * 1100} {
		t.Run(name, func(t *testing.T) {
			dead, hs := behind(t)
			n := dead.reopen(dead.kill(), func(o *Options) { o.Store, o.CheckpointBytes = hs, room })
			before := hs.reads.Load()
			for range 2 {
				for p := range int32(behindParts) {
					n.log(p).try(sized(1000, 1))
				}
				n.commit()
			}
			checkpoints := 0
			for again := true; again; again = n.set.behind {
				n.checkpointed(t)
				checkpoints++
			}
			if reads := hs.reads.Load() - before; reads != behindSlots {
				t.Errorf("%d reads for %d slots of %d partitions", reads, behindSlots, behindParts)
			}
			if one := checkpoints == 1; one != (room == 0) {
				t.Errorf("%d checkpoints", checkpoints)
			}
			for p := range int32(behindParts) {
				l := n.log(p)
				if _, left := l.firstInSlots(); left {
					t.Errorf("partition %d holds something in slots", p)
				}
				if got := l.offsets(t, 0, 1<<20); len(got) != behindSlots+2 {
					t.Errorf("partition %d: %d batches are served", p, len(got))
				}
			}
		})
	}
}

// TestWindowsOfManyLives: whatever owners partitions have been with, and in whatever order, each window holds what there is room for, and is
// some progress; none of a log's data overtakes what comes before.
func TestWindowsOfManyLives(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		s := newWorld(t).start(func(o *Options) { o.CheckpointBytes = 1000 }).set
		var work []unwritten
		want := map[*Log][]Extent{}
		for range 1 + r.IntN(5) {
			l, seqs := &Log{}, [4]int64{}
			for range 1 + r.IntN(40) {
				life := r.Uint32N(4)
				seqs[life] += r.Int64N(3)
				want[l] = append(want[l], Extent{Seq: seqs[life], Life: life, Pos: r.Uint32N(300), Len: 1 + r.Uint32N(300)})
			}
			work = append(work, unwritten{l, want[l]})
		}
		got := map[*Log][]Extent{}
		for len(work) > 0 {
			w := s.newSlotWindow(work)
			var bytes int64
			for _, slot := range w.slots {
				bytes += slot.len()
			}
			if bytes > 1500 {
				t.Fatalf("a window of %d bytes", bytes)
			}
			now, later := w.split(work)
			if len(now) == 0 {
				t.Fatal("a window without progress")
			}
			for _, u := range now {
				got[u.log] = append(got[u.log], u.extents...)
			}
			work = later
		}
		for l := range want {
			if !slices.Equal(got[l], want[l]) {
				t.Errorf("a log got %v, want %v", got[l], want[l])
			}
		}
	}
}
