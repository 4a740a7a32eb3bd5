package sim

import (
	"testing"

	"github.com/tidemill/tidemill/partition"
)

// mistaken is a mistake with the number of seeds in which it must be found.
type mistaken struct {
	name   string
	budget uint64
	m      mistakes
}

// find plays seeds until one breaks something.
func (x *mistaken) find(t *testing.T) (w *world, seed uint64) {
	t.Helper()
	for seed = range x.budget {
		if w := play(t, seed, x.m, false, nil); w.violation != nil {
			return w, seed
		}
	}
	return nil, x.budget
}

// TestSimulationFindsMistakes: each is found within its budget of seeds. A budget that has to grow means that the simulation has become
// weaker.
func TestSimulationFindsMistakes(t *testing.T) {
	for _, x := range []mistaken{
		{"1 move without waiting for own slots", 200, mistakes{partition: partition.Faults{MoveUndrained: true}}},
		{"2 acknowledge after the move", 200, mistakes{partition: partition.Faults{AppendWhileMoving: true}}},
		{"3 ignore the leader epoch of readers", 1000, mistakes{anyEpoch: true}},
		{"3b take over without raising it", 50, mistakes{partition: partition.Faults{SameEpoch: true}}},
		{"4 serve latest while fenced", 3000, mistakes{freshFenced: true}},
		{"5 skip producers on takeover", 200, mistakes{partition: partition.Faults{ForgetProducers: true}}},
		{"6 take over before SEALED", 3000, mistakes{unsealed: true}},
		{"7 drop the recovery object", 200, mistakes{noRecovery: true}},
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
