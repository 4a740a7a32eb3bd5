package controller

import (
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/wal"
)

// life is one of the lives that drawn states are made of.
func life(n int) wal.Life { return wal.Life{Broker: int32(n), Epoch: 1} }

func partitionID(n int) protocol.PartitionID {
	return protocol.PartitionID{Topic: protocol.TopicID{byte(n % 7)}, Partition: int32(n / 7)}
}

// Lives of drawn states: below liveMax live or gone but not sealed, from there on sealed.
const (
	liveMax = 8
	lifeMax = 11
)

// drawState draws any state: brokers that drain, partitions in every standing, loads of any size, intents to anywhere.
func drawState(rt *rapid.T) State {
	var s State
	for i := range liveMax {
		if kind := rapid.IntRange(0, 4).Draw(rt, "broker"); kind > 0 {
			s.Brokers = append(s.Brokers, Broker{Life: life(i), Draining: kind == 1})
		}
	}
	load := drawLoad(rt)
	for i := range rapid.IntRange(0, 150).Draw(rt, "partitions") {
		owner := rapid.IntRange(0, lifeMax-1).Draw(rt, "owner")
		p := Partition{ID: partitionID(i), Owner: life(owner), Orphan: owner >= liveMax, Load: load()}
		if rapid.IntRange(0, 5).Draw(rt, "intent") == 0 {
			p.Target = life(rapid.IntRange(0, lifeMax-1).Draw(rt, "target"))
		}
		p.Pinned = rapid.IntRange(0, 9).Draw(rt, "pinned") == 0
		p.Recent = rapid.IntRange(0, 9).Draw(rt, "recent") == 0
		p.Overdue = !p.Target.IsZero() && rapid.IntRange(0, 9).Draw(rt, "overdue") == 0
		s.Partitions = append(s.Partitions, p)
	}
	return s
}

// drawLoad draws a kind of load for a whole cluster.
func drawLoad(rt *rapid.T) func() Load {
	most := rapid.SampledFrom([]float64{0, 100, 1e6, 1e8}).Draw(rt, "most")
	alike := rapid.Bool().Draw(rt, "alike")
	return func() Load {
		if alike {
			return Load{most, most / 1e4}
		}
		return Load{rapid.Float64Range(0, most).Draw(rt, "bytes"), rapid.Float64Range(0, most/1e3).Draw(rt, "requests")}
	}
}

// TestAnyPlan: of any state, a plan is what the rules allow, and the same whatever the order.
func TestAnyPlan(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s := drawState(rt)
		o := Options{MovesMax: rapid.IntRange(-1, 10).Draw(rt, "moves")}
		before := s.clone()
		moves := Plan(s, o)
		checkMoves(rt, s, o, moves)
		if !slices.Equal(s.Partitions, before.Partitions) || !slices.Equal(s.Brokers, before.Brokers) {
			rt.Fatal("the state was changed")
		}
		shuffled := State{
			Brokers:    rapid.Permutation(s.Brokers).Draw(rt, "brokers in another order"),
			Partitions: rapid.Permutation(s.Partitions).Draw(rt, "partitions in another order"),
		}
		if again := Plan(shuffled, o); !slices.Equal(moves, again) {
			rt.Fatalf("in another order:\n%v\nthen\n%v", moves, again)
		}
	})
}

func checkMoves(rt *rapid.T, s State, o Options, moves []Move) {
	rt.Helper()
	at := map[protocol.PartitionID]Partition{}
	for _, p := range s.Partitions {
		at[p.ID] = p
	}
	reasons := map[Reason]int{}
	for _, m := range moves {
		p, ok := at[m.ID]
		if !ok {
			rt.Fatalf("%v: no such partition, or moved twice", m)
		}
		delete(at, m.ID)
		reasons[m.Reason]++
		owner, target := s.broker(p.Owner), s.broker(p.Target)
		to := s.broker(m.To)
		stands := target != nil && !target.Draining && p.Target != p.Owner && !(p.Orphan && p.Overdue && m.To != p.Target)
		allowed := m.From == p.Owner && !stands
		if m.Reason == ReasonCancel {
			allowed = allowed && m.To == m.From && !p.Target.IsZero() && !p.Orphan && owner != nil
		} else {
			allowed = allowed && m.To != m.From && to != nil && !to.Draining
		}
		switch m.Reason {
		case ReasonOrphan:
			allowed = allowed && p.Orphan
		case ReasonDrain:
			allowed = allowed && !p.Orphan && owner != nil && owner.Draining
		case ReasonBalance:
			allowed = allowed && !p.Orphan && owner != nil && !owner.Draining && p.Target.IsZero() && !p.Pinned
			if mean, off := s.spread(count); p.Recent && off < max(1, thresholdDefault*mean) {
				rt.Fatalf("%v of %+v, though the counts are even", m, p)
			}
		case ReasonCancel:
		}
		if !allowed {
			rt.Fatalf("%v of %+v", m, p)
		}
	}
	n := reasons[ReasonBalance]
	if n > 0 && n < len(moves) || n > o.movesMax(len(s.Partitions)) {
		rt.Fatalf("%d of %d moves are for balance", n, len(moves))
	}
	for _, p := range s.Partitions {
		if n > 0 && (s.broker(p.Owner) == nil || !p.Target.IsZero()) {
			rt.Fatalf("balance while there is something to wait for: %+v", p)
		}
	}
}

// settleDown plans and applies until there is nothing to do, and fails when that does not come. Intents are sometimes only
// written, and carried out later.
func settleDown(rt *rapid.T, s *State, o Options) (plans int) {
	rt.Helper()
	for plans = range 1000 {
		moves := Plan(*s, o)
		checkMoves(rt, *s, o, moves)
		if len(moves) == 0 {
			return plans
		}
		if !rapid.Bool().Draw(rt, "intents first") {
			s.apply(moves)
			continue
		}
		s.intend(moves)
		waits := slices.ContainsFunc(moves, func(m Move) bool { return m.To != m.From })
		if next := Plan(*s, o); waits && len(next) > 0 {
			rt.Fatalf("with all intents written: %v", next)
		}
		s.settle()
	}
	rt.Fatal("no end of plans")
	return 0
}

// TestPlansEnd: from any state, plans come to an end, with every partition that can be on a broker that stays, and as even as
// the rules say where loads are alike.
func TestPlansEnd(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s := drawState(rt)
		s.settle()
		o := Options{MovesMax: rapid.IntRange(0, 5).Draw(rt, "moves")}
		settleDown(rt, &s, o)
		roomy := s.roomy()
		stranded, pinned, alike := 0, 0, true
		for _, p := range s.Partitions {
			switch {
			case slices.Contains(roomy, p.Owner):
			case p.Orphan && len(roomy) == 0, !p.Orphan && s.broker(p.Owner) == nil, !p.Orphan && len(roomy) == 0:
				stranded++
			default:
				rt.Fatalf("%+v stays where it is", p)
			}
			if p.Pinned {
				pinned++
			}
			alike = alike && p.Load == s.Partitions[0].Load
		}
		if stranded > 0 || pinned > 0 || !alike || len(s.Partitions) == 0 {
			return
		}
		if mean, off := s.spread(count); off >= max(1, thresholdDefault*mean) {
			rt.Fatalf("a broker is %v off the mean of %v", off, mean)
		}
	})
}

// drawCluster draws a cluster whose brokers are all live, with loads that differ up to tenfold, and that are far above the
// floors. The numbers come from a generator with a drawn seed: those that rapid draws are not evenly distributed.
func drawCluster(rt *rapid.T, brokers int) (State, *rand.Rand) {
	var s State
	for i := range brokers {
		s.Brokers = append(s.Brokers, Broker{Life: life(i)})
	}
	r := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 0))
	for i := range brokers * (30 + r.IntN(30)) {
		load := Load{0.5e6 + r.Float64()*4.5e6, 50 + r.Float64()*450}
		s.Partitions = append(s.Partitions, Partition{ID: partitionID(i), Owner: life(r.IntN(brokers)), Load: load})
	}
	return s, r
}

// TestNoise: loads of partitions that swing by a tenth move nothing in a cluster that was balanced.
func TestNoise(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s, r := drawCluster(rt, rapid.IntRange(2, 6).Draw(rt, "brokers"))
		// With half of the threshold, so that no dimension is left as it is that is off by more.
		settleDown(rt, &s, Options{Threshold: thresholdDefault / 2})
		for d := range dimensions {
			if mean, off := s.spread(d); off > mean*thresholdDefault/2 {
				t.Logf("dimension %d: %v off the mean of %v", d, off, mean)
				return // no single move helps
			}
		}
		for range 20 {
			noisy := s.clone()
			for i := range noisy.Partitions {
				l := &noisy.Partitions[i].Load
				l.BytesPerSecond *= 0.9 + r.Float64()*0.2
				l.RequestsPerSecond *= 0.9 + r.Float64()*0.2
			}
			if moves := Plan(noisy, Options{}); len(moves) > 0 {
				rt.Fatalf("noise moves %v", moves)
			}
		}
	})
}

// TestNewBroker: a new broker has its share after a few plans, though no other is far above the mean.
func TestNewBroker(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		brokers := rapid.IntRange(1, 12).Draw(rt, "brokers")
		s, _ := drawCluster(rt, brokers)
		settleDown(rt, &s, Options{})
		s.Brokers = append(s.Brokers, Broker{Life: life(brokers)})
		if plans := settleDown(rt, &s, Options{}); plans > 5 {
			rt.Fatalf("it took %d plans", plans)
		}
		for d := range dimensions {
			if mean, off := s.spread(d); off >= mean*thresholdDefault {
				rt.Fatalf("dimension %d: %v off the mean of %v", d, off, mean)
			}
		}
	})
}

// TestPlaceSpreads: new partitions of a topic are spread as evenly as brokers that stay allow, whatever the order of the state.
func TestPlaceSpreads(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s := drawState(rt)
		n := rapid.IntRange(0, 40).Draw(rt, "n")
		owners := Place(s, protocol.TopicID{99}, n)
		if again := Place(State{rapid.Permutation(s.Brokers).Draw(rt, "brokers"), s.Partitions}, protocol.TopicID{99}, n); !slices.Equal(owners, again) {
			rt.Fatalf("in another order: %v then %v", owners, again)
		}
		room := s.roomy()
		if len(room) == 0 {
			for _, b := range s.Brokers {
				room = append(room, b.Life)
			}
		}
		if len(room) == 0 {
			if owners != nil {
				rt.Fatalf("without a broker: %v", owners)
			}
			return
		}
		has := map[wal.Life]int{}
		for _, l := range owners {
			has[l]++
		}
		sum := 0
		for _, l := range room {
			sum += has[l]
			if has[l] < n/len(room) || has[l] > (n+len(room)-1)/len(room) {
				rt.Fatalf("%s has %d of %d on %d brokers", l, has[l], n, len(room))
			}
		}
		if sum != n || len(owners) != n {
			rt.Fatalf("%d of %d are on brokers that stay", sum, n)
		}
	})
}
