package model

import (
	"strings"
	"testing"
	"time"
)

// The instance sizes below keep the whole table within ten seconds on two cores, and within a minute under the race detector.
var table = []struct {
	name    string
	variant Variant
	want    Verdict
	bound   int
}{
	{"0 LIST max+1, K=1, one sealer", Variant{Slots: 3, Window: 1, Sealers: 1, Doubles: 2, Crashes: 1, Claim: ListMax}, Safe, 100_000},
	{"1 LIST max+1, K=2", Variant{Slots: 3, Window: 2, Sealers: 1, Claim: ListMax}, Hole, 100_000},
	{"1b LIST max+1, K=2, truncate at the hole", Variant{Slots: 3, Window: 2, Sealers: 1, Claim: ListMax, Truncate: true}, Lost, 100_000},
	{"2 LIST max+1, K=1, two sealers", Variant{Slots: 3, Window: 1, Sealers: 2, Claim: ListMax}, Divergent, 100_000},
	{"3 first hole, ack each slot, K=2", Variant{Slots: 3, Window: 2, Sealers: 1, AckEach: true}, Lost, 100_000},
	{"4 first hole, prefix ack, K=3, two sealers, crashes", Variant{Slots: 4, Window: 3, Sealers: 2, Doubles: 1, Crashes: 2}, Safe, 3_000_000},
	{"5 GC without serialisation", Variant{Slots: 3, Window: 3, Sealers: 1, GC: Unguarded}, Violation, 100_000},
	{"6 GC, trim read again after the claim", Variant{Slots: 3, Window: 3, Sealers: 1, Doubles: 1, Crashes: 2, GC: Unguarded, Reread: true}, Safe, 3_000_000},
	{"6 GC, trim read again after the claim, two sealers", Variant{Slots: 2, Window: 2, Sealers: 2, Doubles: 1, Crashes: 1, GC: Unguarded, Reread: true}, Safe, 3_000_000},
	{"7 GC, trim refused once SEALING", Variant{Slots: 3, Window: 3, Sealers: 2, Doubles: 1, Crashes: 1, GC: WhileOpen}, Safe, 3_000_000},
	{"8 Seal deleted after SEALED", Variant{Slots: 3, Window: 3, Sealers: 1, GC: WhileOpen, DropSeal: true}, Lost, 100_000},
	{"9 writer takes a 412 for success", Variant{Slots: 3, Window: 3, Sealers: 1, On412: TakeAsOwn}, Lost, 100_000},
	{"10 writer takes a 412 for a fence", Variant{Slots: 3, Window: 3, Sealers: 1, Doubles: 1, On412: TakeFence}, Spurious, 100_000},
	{"10 but nothing is lost", Variant{Slots: 3, Window: 3, Sealers: 1, Doubles: 1, Crashes: 1, On412: TakeFence, SafetyOnly: true}, Safe, 1_000_000},
	{"11 writer gives up a slot and goes on", Variant{Slots: 3, Window: 2, Sealers: 1, GiveUp: true}, Lost, 100_000},
	{"W2 a batch is issued again in the next slot", Variant{Slots: 2, Window: 2, Sealers: 1, Reissue: true}, Twice, 100_000},
	{"12 corrected, one sealer, 4 slots", Variant{Slots: 4, Window: 3, Sealers: 1, Doubles: 2, Crashes: 1, GC: WhileOpen, Adopt: true}, Safe, 3_000_000},
	{"13 corrected, two sealers, 3 slots", Variant{Slots: 3, Window: 3, Sealers: 2, Doubles: 1, Crashes: 2, GC: WhileOpen, Adopt: true}, Safe, 3_000_000},
	{"14 corrected, GC resumes, two sealers", Variant{Slots: 3, Window: 3, Sealers: 2, Doubles: 1, Crashes: 1, GC: AroundSeals, Adopt: true}, Safe, 5_000_000},
	{"15 corrected, GC resumes, one sealer", Variant{Slots: 4, Window: 3, Sealers: 1, Doubles: 1, Crashes: 1, GC: AroundSeals, Adopt: true}, Safe, 3_000_000},
	{"16 as 14, but a sealer trusts its own claim", Variant{Slots: 3, Window: 3, Sealers: 2, Doubles: 1, GC: AroundSeals}, Divergent, 3_000_000},
	{"F1 hole-filling seal, ack each slot, K=2", Variant{Slots: 4, Window: 2, Sealers: 1, Doubles: 1, Crashes: 1, AckEach: true, Claim: FillHoles, StopAfter: 2, GC: WhileOpen}, Safe, 3_000_000},
	{"F1 hole-filling seal, ack each slot, K=3", Variant{Slots: 4, Window: 3, Sealers: 1, Doubles: 1, Crashes: 1, AckEach: true, Claim: FillHoles, StopAfter: 3, GC: WhileOpen}, Safe, 3_000_000},
	{"F2 hole-filling seal, two sealers", Variant{Slots: 4, Window: 2, Sealers: 2, Doubles: 1, Crashes: 1, AckEach: true, Claim: FillHoles, StopAfter: 2}, Safe, 3_000_000},
	{"F3 hole-filling seal stops after K-1", Variant{Slots: 4, Window: 2, Sealers: 1, AckEach: true, Claim: FillHoles, StopAfter: 1}, Lost, 300_000},
}

// TestReaches shows that the safe verdicts are not empty: the corrected protocol gets into the situations that it is about.
func TestReaches(t *testing.T) {
	v := Variant{Slots: 3, Window: 3, Sealers: 2, Doubles: 1, GC: AroundSeals, Adopt: true}
	s := search{variant: v, bound: 3_000_000, symmetric: true}
	if r := s.run(); r.Verdict != Safe {
		t.Fatalf("verdict %q", r.Verdict)
	}
	for name, holds := range map[string]func(st *state) bool{
		"acknowledged and sealed behind it": func(st *state) bool { return st.phase == sealed && st.n > 0 && st.acked(&v).has(st.n-1) },
		"acknowledged only after SEALED":    func(st *state) bool { return st.phase == sealed && st.writer == running && st.ok&below(st.n) != 0 },
		"recovered though never acked":      func(st *state) bool { return st.log != 0 && st.acked(&v) == 0 },
		"fenced with acknowledged slots":    func(st *state) bool { return st.writer == fenced && st.acked(&v) != 0 },
		"orphan above n":                    func(st *state) bool { return st.phase == sealed && st.data&^below(st.n) != 0 },
		"everything trimmed and deleted":    func(st *state) bool { return st.phase == sealed && st.trim == 3 && st.data == 0 },
		"slot created anew below the trim":  func(st *state) bool { return st.trim > 1 && st.data.has(1) && !st.data.has(0) && st.puts != 0 },
		"meaningless Seal below the trim":   func(st *state) bool { return st.phase == sealed && st.seal&below(st.trim) != 0 },
		"late sealer adopts another n": func(st *state) bool {
			return st.phase == sealed && st.sealers[0].phase == decided && st.sealers[0].pos < st.n
		},
		"sealer recorded but not SEALED": func(st *state) bool { return st.phase == sealing && st.recovered },
	} {
		t.Run(name, func(t *testing.T) {
			for i := range s.states {
				if holds(&s.states[i]) {
					return
				}
			}
			t.Error("no such state")
		})
	}
}

func TestVariants(t *testing.T) {
	for _, c := range table {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			start := time.Now()
			got := Check(c.variant, c.bound)
			t.Logf("%s, %d states, %v", got.Verdict, got.States, time.Since(start).Round(time.Millisecond))
			if got.Verdict != c.want {
				t.Errorf("verdict %q, want %q", got.Verdict, c.want)
			}
			if (got.Verdict == Safe || got.Verdict == Unknown) != (len(got.Trace) == 0) {
				t.Errorf("verdict %q with a trace of %d lines", got.Verdict, len(got.Trace))
			}
			if len(got.Trace) > 0 {
				t.Logf("shortest counterexample:\n%s", strings.Join(got.Trace, "\n"))
			}
		})
	}
}
