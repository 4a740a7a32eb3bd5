package partition

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tidemill/tidemill/metadata"
	"github.com/tidemill/tidemill/objectstore/faultstore"
	"github.com/tidemill/tidemill/wal"
)

// flakyMeta belongs to one broker: its commits may be applied with an error, or not.
type flakyMeta struct {
	*fakeMeta
	mode int // 0 good, 1 not applied, 2 applied with error, 3 half applied, 4 nothing answers
}

func (m *flakyMeta) CommitManifests(ctx context.Context, life wal.Life, u []metadata.ManifestUpdate) error {
	switch m.mode {
	case 1, 4:
		return errMeta
	case 2:
		_ = m.fakeMeta.CommitManifests(ctx, life, u)
		return errMeta
	case 3:
		_ = m.fakeMeta.CommitManifests(ctx, life, u[:len(u)/2])
		return errMeta
	}
	return m.fakeMeta.CommitManifests(ctx, life, u)
}

// Move is flaky once; then it tells what holds.
func (m *flakyMeta) Move(ctx context.Context, from wal.Life, moves []metadata.Move) []error {
	mode := m.mode
	if mode == 4 {
		return slices.Repeat([]error{metadata.ErrUnavailable}, len(moves))
	}
	m.mode = 0
	switch mode {
	case 2:
		m.fakeMeta.Move(ctx, from, moves)
	case 3:
		m.fakeMeta.Move(ctx, from, moves[:len(moves)/2])
	}
	if mode != 0 {
		return slices.Repeat([]error{metadata.ErrUnknownOutcome}, len(moves))
	}
	return m.fakeMeta.Move(ctx, from, moves)
}

func (m *flakyMeta) Partitions(ctx context.Context) ([]metadata.PartitionState, error) {
	if m.mode == 4 {
		return nil, errMeta
	}
	return m.fakeMeta.Partitions(ctx)
}

func (m *flakyMeta) Load(ctx context.Context, l wal.Life) (wal.StreamState, error) {
	if m.mode == 4 {
		return wal.StreamState{}, errMeta
	}
	return m.fakeMeta.Load(ctx, l)
}

type twoBrokers struct {
	w      *world
	nodes  [2]*node
	metas  [2]*flakyMeta
	sealed map[wal.Life]wal.Recovery
	want   map[int32]int64 // end offsets
	policy *Policy
	next   int32
	// given are the lives that partitions were moved to, and that may not have adopted them yet.
	given map[int32]wal.Life
}

func (b *twoBrokers) begin(k int) {
	b.metas[k] = &flakyMeta{fakeMeta: b.w.meta}
	b.nodes[k] = b.w.start(func(o *Options) {
		o.Manifests = b.metas[k]
		o.TailBytes, o.CacheBytes = 2000, 5000
	})
}

// take lets broker k claim all, or some, of the partitions of sealed lives.
func (b *twoBrokers) take(t *rapid.T, k, most int) {
	states, _ := b.w.meta.Partitions(context.Background())
	slices.SortFunc(states, func(x, y metadata.PartitionState) int { return compareIDs(x.ID, y.ID) })
	var mine []metadata.PartitionState
	for _, s := range states {
		if _, ended := b.w.meta.ended[s.Owner]; ended || s.Owner == b.nodes[k].life {
			mine = append(mine, s)
		}
	}
	claims, err := b.nodes[k].set.Open(context.Background(), mine, b.sealed)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	n := min(most, len(claims))
	b.w.meta.claim(b.w.t, b.nodes[k].life, claims[:n])
	if n == len(claims) {
		if err := b.nodes[k].set.Claimed(context.Background()); err != nil {
			t.Fatal(err)
		}
	} else { // the others failed; tried again later
		states, _ = b.w.meta.Partitions(context.Background())
		mine = slices.DeleteFunc(states, func(s metadata.PartitionState) bool { return s.Owner != b.nodes[k].life })
		if _, err := b.nodes[k].set.Open(context.Background(), mine, nil); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range states {
		if l, ok := b.nodes[k].set.Get(s.ID); ok {
			l.SetPolicy(b.policy)
		}
	}
}

func (b *twoBrokers) seal(k int) {
	for life, r := range b.nodes[k].kill() {
		b.sealed[life] = r
	}
}

func (b *twoBrokers) check(t *rapid.T, what string) {
	ctx := context.Background()
	states, _ := b.w.meta.Partitions(ctx)
	for _, s := range states {
		if s.Manifest == nil {
			continue
		}
		body, err := b.w.mem.Get(ctx, s.Manifest.Key)
		if err != nil {
			t.Fatalf("after %s: manifest of %v: %v", what, s.ID, err)
		}
		m, err := DecodeManifest(body[s.Manifest.Pos:][:s.Manifest.Len])
		if err != nil {
			t.Fatal(err)
		}
		for i := range m.Parts {
			if _, err := b.w.mem.Get(ctx, SegmentKey(m.Lives[m.Parts[i].Life], m.Parts[i].Seq)); err != nil {
				t.Fatalf("after %s: part of %v: %v", what, s.ID, err)
			}
		}
		for i := range m.Extents {
			if _, err := b.w.mem.Get(ctx, wal.SlotKey(m.Lives[m.Extents[i].Life], m.Extents[i].Seq)); err != nil {
				t.Fatalf("after %s: slot of %v: %v", what, s.ID, err)
			}
		}
		// the tail that a sealer would need
		for k := range b.nodes {
			if s.Owner == b.nodes[k].life {
				if l, ok := b.nodes[k].set.Get(s.ID); !ok {
					if b.given[s.ID.Partition] == s.Owner {
						continue // nobody has looked yet
					}
					t.Fatalf("after %s: %v is not open", what, s.ID)
				} else if got := l.State().HighWatermark; got != b.want[s.ID.Partition] {
					t.Fatalf("after %s: %v ends at %d, want %d", what, s.ID, got, b.want[s.ID.Partition])
				}
				for _, c := range b.nodes[k].index {
					if c.Partition == s.ID && c.LastOffset >= m.EndOffset {
						if _, err := b.w.mem.Get(ctx, wal.SlotKey(s.Owner, c.Seq)); err != nil {
							t.Fatalf("after %s: tail of %v: %v", what, s.ID, err)
						}
					}
				}
			}
		}
	}
}

// TestTwoBrokers is a random walk of two brokers that share a cluster: each is killed or stopped, takes over what the other or it
// itself left, in part perhaps, and meets commits that are lost, applied without an answer, or applied by half. After each step
// everything that metadata names is there.
func TestTwoBrokers(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		p := DefaultPolicy()
		p.SegmentBytes, p.RetentionBytes = 400, 1500
		if rapid.Bool().Draw(rt, "compact") {
			p.Compact, p.MinCleanableRatio = true, 0.01
		}
		b := &twoBrokers{w: newWorld(t), sealed: map[wal.Life]wal.Recovery{}, want: map[int32]int64{}, given: map[int32]wal.Life{}, policy: &p}
		b.begin(0)
		b.begin(1)
		for range rapid.IntRange(20, 150).Draw(rt, "steps") {
			k, op := rapid.IntRange(0, 1).Draw(rt, "broker"), rapid.IntRange(0, 18).Draw(rt, "op")
			b.step(rt, k, op)
			b.w.now = b.w.now.Add(time.Second)
			b.check(rt, fmt.Sprintf("op %d of broker %d", op, k))
		}
	})
}

func (b *twoBrokers) step(t *rapid.T, k, op int) {
	ctx, n := context.Background(), b.nodes[k]
	switch op {
	case 0:
		if b.next < 4 {
			n.create(b.next).SetPolicy(b.policy)
			b.next++
		}
	case 1, 2, 3, 4:
		b.append(t, n)
	case 5, 6:
		_ = n.set.Checkpoint(ctx)
	case 7:
		_ = n.set.Merge(ctx)
		_, _ = n.set.Compact(ctx)
	case 8:
		_ = n.set.Retain(ctx)
	case 9:
		_ = n.set.Sweep(ctx)
	case 10:
		b.w.now = b.w.now.Add(n.set.opts.DeleteDelay)
		_ = n.set.deleteDue(ctx)
	case 11:
		b.metas[k].mode = rapid.IntRange(0, 4).Draw(t, "mode")
	case 12:
		if rapid.Bool().Draw(t, "stopped") {
			b.metas[k].mode = 0
			if err := n.set.Close(ctx); err != nil {
				t.Fatalf("close: %v", err)
			}
			b.w.meta.trims[n.life] = max(b.w.meta.trims[n.life], n.seq)
		}
		b.seal(k)
		b.begin(k)
		b.take(t, k, rapid.IntRange(0, 5).Draw(t, "claims"))
	case 13:
		b.take(t, k, rapid.IntRange(0, 5).Draw(t, "claims"))
	case 14:
		b.deleteRecords(t, n)
	case 15:
		b.w.store.SetRules(faultstore.Rule{Fault: faultstore.Lost, Chance: 0.3})
		_ = n.set.Checkpoint(ctx)
		_ = n.set.Merge(ctx)
		_ = n.set.Sweep(ctx)
		b.w.store.SetRules()
	case 16:
		b.handOver(t, k)
	case 17:
		b.adopt(t, k)
	case 18:
		_ = n.set.takeBack(ctx)
	}
}

// handOver gives some partitions of broker k to the other one, which may look at once or later.
func (b *twoBrokers) handOver(t *rapid.T, k int) {
	n, other := b.nodes[k], b.nodes[1-k]
	var transfers []Transfer
	for q := range b.next {
		if _, ok := n.set.Get(pid(q)); ok && rapid.Bool().Draw(t, "move") {
			transfers = append(transfers, Transfer{pid(q), other.life})
		}
	}
	moved, err := n.set.HandOver(context.Background(), transfers)
	if err != nil && !errors.Is(err, errMeta) && !errors.Is(err, metadata.ErrStale) && !errors.Is(err, metadata.ErrUnavailable) {
		t.Fatal(err)
	}
	for _, id := range moved {
		b.given[id.Partition] = other.life
		if st := b.w.meta.states[id]; st.Owner != other.life {
			t.Fatalf("%v was moved to %v, and %v owns it", id, other.life, st.Owner)
		}
	}
	for _, x := range transfers {
		if !slices.Contains(moved, x.ID) && b.w.meta.states[x.ID].Owner != n.life {
			t.Fatalf("%v stays, but %v owns it: %v", x.ID, b.w.meta.states[x.ID].Owner, err)
		}
	}
	if rapid.Bool().Draw(t, "at once") {
		b.adopt(t, 1-k)
	}
}

// adopt lets broker k open what it was given.
func (b *twoBrokers) adopt(t *rapid.T, k int) {
	var states []metadata.PartitionState
	for q, life := range b.given {
		if life == b.nodes[k].life {
			states = append(states, *b.w.meta.states[pid(q)])
		}
	}
	adopted, err := b.nodes[k].set.Adopt(context.Background(), states)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range adopted {
		delete(b.given, id.Partition)
		l, _ := b.nodes[k].set.Get(id)
		l.SetPolicy(b.policy)
	}
}

func (b *twoBrokers) append(t *rapid.T, n *node) {
	for q := range b.next {
		l, ok := n.set.Get(pid(q))
		if !ok || !rapid.Bool().Draw(t, "append") {
			continue
		}
		o := l.try(keyed(b.w.now.UnixMilli(), "a", "b", fmt.Sprint(b.want[q])))
		n.commit()
		if o.err != nil {
			t.Fatal(o.err)
		}
		b.want[q] += 3
	}
}

func (b *twoBrokers) deleteRecords(t *rapid.T, n *node) {
	for q := range b.next {
		l, ok := n.set.Get(pid(q))
		if !ok {
			continue
		}
		_, err := l.DeleteRecords(context.Background(), rapid.Int64Range(0, l.State().HighWatermark).Draw(t, "to"))
		if err != nil && !errors.Is(err, ErrStorage) {
			t.Fatal(err)
		}
	}
}
