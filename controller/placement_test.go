package controller

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/wal"
)

// TestPlacerCountsOnce: new topics placed one after the other get the owners that they get when all is counted again for each, also when
// an operator wants some of their partitions elsewhere.
func TestPlacerCountsOnce(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s := drawState(rt)
		p := NewPlacer(s)
		for k := range rapid.IntRange(1, 20).Draw(rt, "topics") {
			id := protocol.TopicID{100, byte(k)}
			n := rapid.IntRange(0, 12).Draw(rt, "n")
			got, want := p.Place(n), Place(s, id, n)
			if !slices.Equal(got, want) {
				rt.Fatalf("topic %d: %v, counted again %v", k, got, want)
			}
			for i := range got {
				if rapid.IntRange(0, 5).Draw(rt, "elsewhere") == 0 {
					got[i] = life(rapid.IntRange(0, lifeMax).Draw(rt, "owner"))
				}
				s.Partitions = append(s.Partitions, Partition{ID: protocol.PartitionID{Topic: id, Partition: int32(i)}, Owner: got[i]})
			}
			p.Add(got)
		}
	})
}

// TestPlaceOnManyBrokers: partitions that are created together have no more owners than a transaction can compare, and those have as many as
// each other. What is created next goes to the others.
func TestPlaceOnManyBrokers(t *testing.T) {
	const brokers = OwnersMax + 50
	var s State
	for i := range brokers {
		s.Brokers = append(s.Brokers, Broker{Life: life(i)})
	}
	p := NewPlacer(s)
	all := map[wal.Life]int{}
	for _, n := range []int{3 * OwnersMax, 50} {
		owners := p.Place(n)
		p.Add(owners)
		of := map[wal.Life]int{}
		for _, l := range owners {
			of[l]++
			all[l]++
		}
		for l, k := range of {
			if want := n / min(n, OwnersMax); k != want {
				t.Errorf("%s has %d of %d, want %d", l, k, n, want)
			}
		}
		if len(of) != min(n, OwnersMax) {
			t.Errorf("%d partitions have %d owners", n, len(of))
		}
	}
	if len(all) != brokers {
		t.Errorf("%d brokers have partitions, want all %d", len(all), brokers)
	}
}

// BenchmarkPlaceTopics is one request for 10,000 topics.
func BenchmarkPlaceTopics(b *testing.B) {
	s := benchState()
	for b.Loop() {
		p := NewPlacer(s)
		for range 10_000 {
			p.Add(p.Place(1))
		}
	}
}
