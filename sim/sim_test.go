package sim

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"testing"
	"testing/synctest"
)

// Environment of the simulation: how many seeds to run, and one seed to run with its trace.
const (
	envSeeds = "TIDEMILL_SIM_SEEDS"
	envSeed  = "TIDEMILL_SIM_SEED"
)

// play runs a seed in a bubble of its own.
func play(t *testing.T, seed uint64, m mistakes, verbose bool, reached map[string]int) (w *world) {
	synctest.Test(t, func(*testing.T) {
		w = newWorld(seed, m, verbose)
		w.reached = reached
		w.run()
	})
	return w
}

func number(t *testing.T, name string) (n uint64, ok bool) {
	t.Helper()
	v := os.Getenv(name)
	if v == "" {
		return 0, false
	}
	n, err := strconv.ParseUint(v, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n, true
}

func TestSimulation(t *testing.T) {
	if seed, ok := number(t, envSeed); ok {
		replay(t, seed, mistakes{})
		return
	}
	n, ok := number(t, envSeeds)
	if !ok {
		n = 500
	}
	shards := uint64(runtime.GOMAXPROCS(0))
	reached := make([]map[string]int, shards)
	t.Run("shards", func(t *testing.T) {
		for shard := range shards {
			reached[shard] = map[string]int{}
			t.Run(strconv.FormatUint(shard, 10), func(t *testing.T) {
				t.Parallel()
				for seed := shard; seed < n && !t.Failed(); seed += shards {
					if w := play(t, seed, mistakes{}, false, reached[shard]); w.violation != nil {
						t.Errorf("%s; replay it by %s=%d", w.violation, envSeed, seed)
					}
				}
			})
		}
	})
	if n >= 500 {
		checkReached(t, reached)
	}
}

// checkReached demands that the runs came to the places where records are lost.
func checkReached(t *testing.T, shards []map[string]int) {
	t.Helper()
	for _, what := range []string{
		"ack", "duplicate", "read", "latest", "moved", "adopted", "claimed", "hand over failed", "fenced", "pursue", "crash", "pause",
		"restart", "all leases end", "etcd away", "watch lost", "late put", "late txn", "deleted", "twice owned",
	} {
		n := 0
		for _, r := range shards {
			n += r[what]
		}
		t.Logf("%-18s %d", what, n)
		if n == 0 {
			t.Errorf("no run reached %q", what)
		}
	}
}

// TestSimulationIsDeterministic: a seed names one run exactly.
func TestSimulationIsDeterministic(t *testing.T) {
	for seed := range uint64(50) {
		a, b := play(t, seed, mistakes{}, false, nil), play(t, seed, mistakes{}, false, nil)
		if a.hash.Sum64() != b.hash.Sum64() || a.ended != b.ended {
			t.Errorf("seed %d ran in two ways", seed)
		}
	}
}

// String returns what broke.
func (v *violation) String() string { return fmt.Sprintf("%s: %s", v.kind, v.text) }

// replay runs one seed and shows its trace.
func replay(t *testing.T, seed uint64, m mistakes) {
	t.Helper()
	w := play(t, seed, m, true, nil)
	t.Logf("config: %+v", w.cfg)
	for _, line := range w.lines {
		t.Log(line)
	}
	if w.violation != nil {
		t.Fatal(w.violation)
	}
}
