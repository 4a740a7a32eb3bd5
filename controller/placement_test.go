package controller

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/tidemill/tidemill/protocol"
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
