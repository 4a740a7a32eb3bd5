package controller

import (
	"slices"
	"testing"
	"time"

	"github.com/tidemill/tidemill/protocol"
)

// TestWaits: what is on its way, or has no owner, is stuck after a while, unless it is sent elsewhere meanwhile; what has arrived is not.
func TestWaits(t *testing.T) {
	now := time.Now()
	id := func(i int32) protocol.PartitionID { return protocol.PartitionID{Partition: i} }
	s := State{
		Brokers: []Broker{{Life: lifeOf(1)}, {Life: lifeOf(2)}},
		Partitions: []Partition{
			{ID: id(0), Owner: lifeOf(1)},
			{ID: id(1), Owner: lifeOf(1), Target: lifeOf(1)}, // an intent that has become true
			{ID: id(2), Owner: lifeOf(1), Target: lifeOf(2)},
			{ID: id(3), Owner: lifeOf(7)},
			{ID: id(4), Owner: lifeOf(7), Target: lifeOf(2), Orphan: true},
		},
	}
	var w waits
	look := func(after time.Duration, want ...int32) {
		t.Helper()
		now = now.Add(after)
		for i := range s.Partitions {
			s.Partitions[i].Stuck = false
		}
		var n int
		w, n = w.mark(&s, now)
		var got []int32
		for _, p := range s.Partitions {
			if p.Stuck {
				got = append(got, p.ID.Partition)
			}
		}
		if n != len(got) || !slices.Equal(got, want) {
			t.Fatalf("%d are stuck, %v, want %v", n, got, want)
		}
	}
	look(0)
	if len(w) != 3 {
		t.Errorf("%d wait, want 3", len(w))
	}
	look(stuckAfter - 1)
	s.Partitions[4].Target = lifeOf(1) // sent elsewhere: it waits anew
	look(1, 2, 3)
	s.Partitions[2].Owner = lifeOf(2) // it has arrived
	look(stuckAfter-1, 3)
	look(1, 3, 4)
	s.Partitions = s.Partitions[:3]
	look(0)
	if w != nil {
		t.Errorf("these wait still: %v", w)
	}
}

// TestStuckOrphanGetsAnotherTarget: who is to claim an orphan lives and does not, as it cannot reach the bucket. The others try in turn, each
// for a while, and balance does not wait for every one of them.
func TestStuckOrphanGetsAnotherTarget(t *testing.T) {
	id := protocol.PartitionID{Partition: 0}
	s := State{
		Brokers:    []Broker{{Life: lifeOf(2)}, {Life: lifeOf(3)}, {Life: lifeOf(4)}},
		Partitions: []Partition{{ID: id, Owner: lifeOf(1), Orphan: true, Target: lifeOf(2)}},
	}
	var w waits
	now := time.Now()
	look := func(after time.Duration) []Move {
		now = now.Add(after)
		w, _ = w.mark(&s, now)
		moves := Plan(s, Options{})
		s.intend(moves)
		return moves
	}
	if moves := look(0); len(moves) > 0 {
		t.Fatalf("at once: %v", moves)
	}
	for _, next := range []int32{3, 4, 2, 3} {
		if moves := look(stuckAfter - 1); len(moves) > 0 {
			t.Fatalf("too early: %v", moves)
		}
		want := []Move{{ID: id, From: lifeOf(1), To: lifeOf(next), Reason: ReasonOrphan}}
		if moves := look(1); !slices.Equal(moves, want) {
			t.Fatalf("%v, want %v", moves, want)
		}
		if look(0); !s.Partitions[0].Stuck {
			t.Fatal("balance waits for the next target")
		}
	}
	s.Brokers = s.Brokers[1:2] // nobody else is left
	if moves := look(2 * stuckAfter); len(moves) > 0 {
		t.Errorf("with one broker: %v", moves)
	}
}
