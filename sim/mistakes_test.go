package sim

import (
	"testing"
	"time"

	"github.com/tidemill/tidemill/partition"
)

// mistaken is a mistake with the number of seeds in which it must be found.
type mistaken struct {
	name   string
	budget uint64
	m      mistakes
	// where narrows what is drawn down to where the mistake does harm, if it does so rarely.
	where func(c *config)
}

// find plays seeds until one breaks something.
func (x *mistaken) find(t *testing.T) (w *world, seed uint64) {
	t.Helper()
	for seed = range x.budget {
		w := playAs(t, seed, false, func(w *world) {
			w.cfg.mistakes = x.m
			if x.where != nil {
				x.where(&w.cfg)
			}
		})
		if w.violation != nil {
			return w, seed
		}
	}
	return nil, x.budget
}

// cutOffInMoves: many a broker loses etcd while it gives partitions away, and then sweeps the bucket.
func cutOffInMoves(c *config) {
	c.brokers, c.moves, c.cut, c.sweep, c.tidy, c.deleteDelay = 3, 1, .08, time.Second, 700_000_001, time.Second
	c.span, c.checkpoint = 25*time.Second, 1_700_000_001
}

// TestSimulationFindsMistakes: each is found within its budget of seeds. A budget that has to grow means that the simulation has become
// weaker.
func TestSimulationFindsMistakes(t *testing.T) {
	for _, x := range []mistaken{
		{"1 move without waiting for own slots", 200, mistakes{partition: partition.Faults{MoveUndrained: true}}, nil},
		{"2 acknowledge after the move", 200, mistakes{partition: partition.Faults{AppendWhileMoving: true}}, nil},
		{"3 ignore the leader epoch of readers", 1000, mistakes{anyEpoch: true}, nil},
		{"3b take over without raising it", 50, mistakes{partition: partition.Faults{SameEpoch: true}}, nil},
		{"4 serve latest while fenced", 3000, mistakes{freshFenced: true}, nil},
		{"5 skip producers on takeover", 200, mistakes{partition: partition.Faults{ForgetProducers: true}}, nil},
		{"6 take over before SEALED", 3000, mistakes{unsealed: true}, nil},
		{"7 drop the recovery object", 200, mistakes{noRecovery: true}, nil},
		{"8 sweep without looking at what was given away", 3000, mistakes{partition: partition.Faults{SweepBlind: true}}, cutOffInMoves},
	} {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			w, seed := x.find(t)
			if w == nil {
				t.Fatalf("not found in %d seeds", x.budget)
			}
			t.Logf("found at seed %d: %s", seed, w.violation)
		})
	}
}
