package controller

import (
	"math/rand/v2"
	"testing"

	"github.com/tidemill/tidemill/protocol"
)

const (
	benchPartitions = 100_000
	benchBrokers    = 100
)

// benchState is 100,000 partitions on 100 brokers, evenly, with loads that differ a hundredfold.
func benchState() State {
	var s State
	r := rand.New(rand.NewPCG(1, 2))
	for i := range benchBrokers {
		s.Brokers = append(s.Brokers, Broker{Life: life(i)})
	}
	for i := range benchPartitions {
		id := protocol.PartitionID{Topic: protocol.TopicID{byte(i), byte(i >> 8)}, Partition: int32(i >> 16)}
		size := 1 + 99*r.Float64()*r.Float64()
		s.Partitions = append(s.Partitions, Partition{ID: id, Owner: life(i % benchBrokers), Load: Load{size * 1e4, size}})
	}
	return s
}

func benchPlan(b *testing.B, s State, atLeast, atMost int) {
	b.ReportAllocs()
	for b.Loop() {
		if n := len(Plan(s, Options{})); n < atLeast || n > atMost {
			b.Fatalf("%d moves, want %d to %d", n, atLeast, atMost)
		}
	}
}

func BenchmarkPlan(b *testing.B) {
	b.Run("nothing", func(b *testing.B) { benchPlan(b, benchState(), 0, 0) })
	b.Run("takeover", func(b *testing.B) {
		s := benchState()
		for i := range benchPartitions / 10 {
			s.Partitions[i].Owner = life(benchBrokers)
		}
		s.seal(life(benchBrokers))
		benchPlan(b, s, benchPartitions/10, benchPartitions/10)
	})
	b.Run("new_broker", func(b *testing.B) {
		s := benchState()
		s.Brokers = append(s.Brokers, Broker{Life: life(benchBrokers)})
		benchPlan(b, s, benchPartitions/benchBrokers/2, benchPartitions/benchBrokers)
	})
	b.Run("much_to_balance", func(b *testing.B) {
		s := benchState()
		for i := range s.Partitions {
			s.Partitions[i].Owner = life(i % (benchBrokers / 2))
		}
		benchPlan(b, s, benchPartitions/10, benchPartitions/10)
	})
	// Ten partitions are each more than a broker's share, so their brokers stay above the mean whatever moves.
	b.Run("nothing_helps", func(b *testing.B) {
		s := benchState()
		for i := range 10 {
			s.Partitions[i].Load.BytesPerSecond = 1e9
		}
		for moves := Plan(s, Options{}); len(moves) > 0; moves = Plan(s, Options{}) {
			s.apply(moves)
		}
		benchPlan(b, s, 0, 0)
	})
}

func BenchmarkPlace(b *testing.B) {
	s := benchState()
	for b.Loop() {
		Place(s, protocol.TopicID{9}, 1000)
	}
}
