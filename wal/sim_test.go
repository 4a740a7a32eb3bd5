package wal

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"testing"
	"time"
)

// Environment of the simulation: how many seeds to run, and one seed to run with its trace.
const (
	envSeeds = "TIDEMILL_SIM_SEEDS"
	envSeed  = "TIDEMILL_SIM_SEED"
)

const (
	// liveness bounds virtual time after all faults have ended.
	liveness = 2 * time.Minute
	// lateness is when the last late request has landed.
	lateness = 30 * time.Minute
)

// healAt is when faults end.
func (w *world) healAt() time.Duration { return w.cfg.span + time.Minute }

// run plays a seed and returns what broke, if anything.
func (w *world) run() *violation {
	w.schedule()
	w.runUntil(w.healAt(), nil)
	w.trace("healed", 0, 0)
	w.healed = true
	for _, s := range w.sealers {
		s.resume()
	}
	w.drains()
	startSealer(w, "final")
	w.runUntil(w.now+liveness, func() bool {
		return !slices.ContainsFunc(w.sealers, func(s *simSealer) bool { return !s.done && !s.dead })
	})
	for _, s := range w.sealers {
		if !s.done && !s.dead {
			w.violate("liveness", "sealer %s is not done %v after the last fault", s.name, liveness)
		}
	}
	w.zombie()
	w.runUntil(w.now+lateness, nil)
	late := startSealer(w, "late")
	w.runUntil(w.now+liveness, func() bool { return late.done })
	if !late.done {
		w.violate("liveness", "a late sealer does not end")
	}
	for _, s := range w.sealers {
		s.crash()
	}
	return w.violation
}

// drains demands that a writer that nobody sealed or stopped commits everything soon.
func (w *world) drains() {
	x := w.writer
	if x.dead || x.paused || len(w.sealers) > 0 {
		return
	}
	var fenced *FencedError
	if errors.As(x.core.fenced, &fenced) && fenced.Cause != nil && w.cfg.getTruncated > 0 {
		return // a header that is cut off each time cannot be told from a short object; stopping is safe
	}
	x.input(func(time.Duration) { x.core.nudge() })
	w.runUntil(w.now+liveness, func() bool { return x.core.closed || len(x.core.open)+len(x.core.flights) == 0 && !x.core.closing })
	if len(x.core.open)+len(x.core.flights) > 0 || x.fenced > 0 || x.closed != x.core.closing {
		w.violate("liveness", "after %v, %d batches and %d slots are open; fenced: %v", liveness, len(x.core.open), len(x.core.flights), x.core.fenced)
	}
}

// zombie wakes a writer that slept through the seal: it must find out when it writes.
func (w *world) zombie() {
	x := w.writer
	if w.cfg.trims || w.cfg.deleteSeal {
		for range 4 {
			w.collect(true)
			w.runUntil(w.now+15*time.Second, nil)
		}
	}
	x.resume()
	if x.dead || x.closed {
		return
	}
	x.produce()
	x.input(func(time.Duration) { x.core.nudge() })
	w.runUntil(w.now+liveness, func() bool { return x.core.done() })
	if x.fenced != 1 && !x.closed {
		w.violate("liveness", "a writer whose log was sealed was fenced %d times", x.fenced)
	}
}

// schedule plans the chaos.
func (w *world) schedule() {
	c, x := &w.cfg, w.writer
	for range c.entries {
		w.after(w.between(0, c.span), x.produce)
	}
	if c.trims {
		for range 6 {
			w.after(w.between(0, w.healAt()), func() {
				if !x.dead && !x.paused {
					w.collect(false)
				}
			})
			w.after(w.between(0, w.healAt()), func() { w.collect(true) })
		}
	}
	if c.writerPause {
		w.after(w.between(0, c.span), func() { x.paused = true })
		w.after(w.between(c.span, c.span+[...]time.Duration{time.Second, 5 * time.Minute}[w.rng.IntN(2)]), x.resume)
	}
	if c.writerCrash {
		w.after(w.between(0, c.span+time.Second), func() { x.dead = true })
	}
	if c.writerClose {
		w.after(w.between(c.span/2, c.span+time.Second), func() { x.input(func(time.Duration) { x.core.close() }) })
	}
	for i := range c.sealers {
		w.after(w.between(0, c.span+10*time.Second), func() { w.chaoticSealer(fmt.Sprintf("s%d", i)) })
	}
}

// chaoticSealer starts a sealer that may stop for a while, or crash and be followed by another.
func (w *world) chaoticSealer(name string) {
	s := startSealer(w, name)
	if w.cfg.sealerPause && w.rng.IntN(2) == 0 {
		w.after(w.between(0, time.Second), func() { s.paused = true })
		w.after(w.between(time.Second, time.Minute), s.resume)
	}
	if w.cfg.sealerCrash && w.rng.IntN(2) == 0 {
		w.after(w.between(0, 2*time.Second), s.crash)
		w.after(w.between(0, 20*time.Second), func() {
			if s.dead {
				startSealer(w, name+"'")
			}
		})
	}
}

func seeds(t *testing.T) uint64 {
	t.Helper()
	if v := os.Getenv(envSeeds); v != "" {
		n, err := strconv.ParseUint(v, 10, 64)
		if err != nil {
			t.Fatalf("%s: %v", envSeeds, err)
		}
		return n
	}
	if testing.Short() {
		return 1000
	}
	return 10_000
}

func TestSimulation(t *testing.T) {
	if v := os.Getenv(envSeed); v != "" {
		seed, err := strconv.ParseUint(v, 10, 64)
		if err != nil {
			t.Fatalf("%s: %v", envSeed, err)
		}
		replay(t, seed)
		return
	}
	n, shards := seeds(t), uint64(runtime.GOMAXPROCS(0))
	reached := make([]map[string]int, shards)
	t.Run("shards", func(t *testing.T) {
		for shard := range shards {
			reached[shard] = map[string]int{}
			t.Run(strconv.FormatUint(shard, 10), func(t *testing.T) {
				t.Parallel()
				for seed := shard; seed < n && !t.Failed(); seed += shards {
					w := newWorld(seed, nil, false)
					w.reached = reached[shard]
					if v := w.run(); v != nil {
						t.Errorf("%s=%d: %s: %s", envSeed, seed, v.kind, v.text)
					}
				}
			})
		}
	})
	if n >= 1000 {
		checkReached(t, reached)
	}
}

// checkReached demands that the runs came to the places where logs are lost.
func checkReached(t *testing.T, shards []map[string]int) {
	t.Helper()
	for _, what := range []string{
		"commit", "fenced", "closed", "alarm", "read", "truncated read", "flipped read", "trim", "deleted", "late put",
		"stored data", "stored seal", "stored close", "re-created", "sealer crashes", "close overtaken",
	} {
		n := 0
		for _, r := range shards {
			n += r[what]
		}
		t.Logf("%-15s %d", what, n)
		if n == 0 {
			t.Errorf("no run reached %q", what)
		}
	}
}

// replay runs one seed and shows its trace.
func replay(t *testing.T, seed uint64) {
	t.Helper()
	w := newWorld(seed, nil, true)
	v := w.run()
	t.Logf("config: %+v", w.cfg)
	for _, line := range w.lines {
		t.Log(line)
	}
	if v != nil {
		t.Fatalf("%s: %s", v.kind, v.text)
	}
}

// TestSimulationIsDeterministic: a seed names one run exactly.
func TestSimulationIsDeterministic(t *testing.T) {
	for seed := range uint64(100) {
		a, b := newWorld(seed, nil, false), newWorld(seed, nil, false)
		a.run()
		b.run()
		if a.hash.Sum64() != b.hash.Sum64() || a.now != b.now {
			t.Fatalf("seed %d ran in two ways", seed)
		}
	}
}

// TestSimulationFindsMutations: each variant that the model shows to be wrong (by its number there) is found within its
// budget of seeds. A budget that has to grow means that the simulation has become weaker.
func TestSimulationFindsMutations(t *testing.T) {
	mutations := []struct {
		name   string
		budget uint64
		change func(*simConfig)
	}{
		{"01 take what a list shows, claim behind it", 100, func(c *simConfig) { c.sealerFaults.skipHoles = true }},
		{"03 acknowledge each slot alone", 100, func(c *simConfig) { c.writerFaults.ackAlone = true }},
		{"05 trim while sealing", 1000, func(c *simConfig) { c.trimAlways = true }},
		{"08 delete the seal", 200, func(c *simConfig) { c.deleteSeal = true }},
		{"09 take any conflict for success", 100, func(c *simConfig) { c.writerFaults.conflictIsMine = true }},
		{"11 give up an ambiguous slot", 100, func(c *simConfig) { c.writerFaults.giveUp = true }},
		{"16 trust the claim", 5000, func(c *simConfig) { c.sealerFaults.trustClaim = true }},
	}
	for _, m := range mutations {
		t.Run(m.name, func(t *testing.T) {
			for seed := range m.budget {
				if v := newWorld(seed, m.change, false).run(); v != nil {
					t.Logf("found at seed %d: %s: %s", seed, v.kind, v.text)
					return
				}
			}
			t.Fatalf("not found in %d seeds", m.budget)
		})
	}
}
