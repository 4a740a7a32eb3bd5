package sim

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// Environment of the simulation: how many seeds to run, from which one on, and one seed to run with its trace.
const (
	envSeeds = "TIDEMILL_SIM_SEEDS"
	envFirst = "TIDEMILL_SIM_FIRST"
	envSeed  = "TIDEMILL_SIM_SEED"
	// envTally is set for a process that runs a part of the seeds: where to write what they reached. envStep says to run each so manyth.
	envTally = "TIDEMILL_SIM_TALLY"
	envStep  = "TIDEMILL_SIM_STEP"
)

// play runs a seed in a bubble of its own.
func play(t *testing.T, seed uint64, m mistakes, verbose bool, reached map[string]int) (w *world) {
	return playAs(t, seed, verbose, func(w *world) { w.cfg.mistakes, w.reached = m, reached })
}

// playAs is play with something else in the world.
func playAs(t *testing.T, seed uint64, verbose bool, other func(w *world)) (w *world) {
	synctest.Test(t, func(*testing.T) {
		w = newWorld(seed, verbose)
		other(w)
		w.run()
	})
	return w
}

// number returns what an environment variable says.
func number(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	v := os.Getenv(name)
	if v == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(v, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

func TestSimulation(t *testing.T) {
	if os.Getenv(envSeed) != "" {
		replay(t, number(t, envSeed, 0), mistakes{})
		return
	}
	first, n, step := number(t, envFirst, 0), number(t, envSeeds, 1000), number(t, envStep, 1)
	if path := os.Getenv(envTally); path != "" || n < 100 {
		reached := playSome(t, first, first+n, step)
		if path != "" {
			writeTally(t, path, reached)
		}
		return
	}
	began := time.Now()
	reached, cpu := shareOut(t, first, n, uint64(runtime.NumCPU()))
	t.Logf("%d seeds took %v, %v of processors: %v each", n, time.Since(began).Round(time.Second/10), cpu.Round(time.Second/10), (cpu / time.Duration(n)).Round(time.Microsecond))
	for _, what := range sortedKeys(reached) {
		t.Logf("%-18s %8d %9.3f a run", what, reached[what], float64(reached[what])/float64(n))
	}
	if n >= 500 {
		checkReached(t, reached)
	}
}

// playSome plays seeds until one breaks something, and counts what they reached.
func playSome(t *testing.T, first, end, step uint64) map[string]int {
	reached := map[string]int{}
	for seed := first; seed < end && !t.Failed(); seed += step {
		if w := play(t, seed, mistakes{}, false, reached); w.violation != nil {
			t.Errorf("%s; replay it by %s=%d", w.violation, envSeed, seed)
		}
	}
	return reached
}

func writeTally(t *testing.T, path string, reached map[string]int) {
	t.Helper()
	tally, err := json.Marshal(reached)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, tally, 0o600); err != nil {
		t.Fatal(err)
	}
}

// shareOut lets a process for each processor run its part of the seeds, and returns what they reached and the time of processors that
// they took.
func shareOut(t *testing.T, first, n, shards uint64) (reached map[string]int, cpu time.Duration) {
	t.Helper()
	reached = map[string]int{}
	dir := t.TempDir()
	var mu sync.Mutex
	var group sync.WaitGroup
	for shard := range shards {
		group.Go(func() {
			path := filepath.Join(dir, strconv.FormatUint(shard, 10))
			c := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestSimulation$", "-test.timeout=0")
			c.Env = append(os.Environ(), envTally+"="+path, fmt.Sprintf("%s=%d", envStep, shards),
				fmt.Sprintf("%s=%d", envFirst, first+shard), fmt.Sprintf("%s=%d", envSeeds, n-shard))
			out, err := c.CombinedOutput()
			tally, err2 := os.ReadFile(path)
			mu.Lock()
			defer mu.Unlock()
			var some map[string]int
			if err3 := json.Unmarshal(tally, &some); err != nil || err2 != nil || err3 != nil {
				t.Errorf("%v:\n%s", errors.Join(err, err2, err3), out)
			}
			for what, times := range some {
				reached[what] += times
			}
			cpu += c.ProcessState.UserTime() + c.ProcessState.SystemTime()
		})
	}
	group.Wait()
	return reached, cpu
}

// checkReached demands that the runs came to the places where records are lost.
func checkReached(t *testing.T, reached map[string]int) {
	t.Helper()
	for _, what := range []string{
		"ack", "duplicate", "read", "latest", "moved", "adopted", "claimed", "hand over failed", "fenced", "pursue", "crash", "pause",
		"restart", "all leases end", "etcd away", "cut off", "linger", "watch lost", "late put", "late txn", "deleted", "trimmed", "twice owned",
	} {
		if reached[what] == 0 {
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
