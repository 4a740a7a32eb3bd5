package model

import (
	"fmt"
	"hash/maphash"
	"slices"
)

// none is the slot of an action that concerns no slot.
const none = 0xff

// An action names a transition for the trace.
type action struct {
	verb   string
	sealer uint8 // 1 or 2; 0 for everyone else
	slot   uint8
	acked  set // slots acknowledged by this action
}

// String reads as one line of a trace.
func (a action) String() string {
	line := a.verb
	if a.sealer != 0 {
		line = fmt.Sprintf("sealer %c: %s", 'A'+a.sealer-1, a.verb)
	}
	if a.slot != none {
		line += fmt.Sprintf(" %d", a.slot)
	}
	for i := range uint8(positions) {
		if a.acked.has(i) {
			line += fmt.Sprintf(", acks %d", i)
		}
	}
	return line
}

// Check visits every reachable state of v, at most bound of them, and stops at the first violation.
func Check(v Variant, bound int) Result {
	s := search{variant: v, bound: bound, symmetric: v.Sealers == 2}
	r := s.run()
	if !s.symmetric || len(r.Trace) == 0 {
		return r
	}
	// Symmetry swaps the names of the sealers along the way; a trace is readable only without it.
	plain := search{variant: v, bound: 2 * bound}
	return plain.run()
}

// A search is one breadth-first visit. Visited states are kept in order of discovery, each with the one it came from.
type search struct {
	variant   Variant
	bound     int
	symmetric bool

	states []state
	parent []int32
	index  []int32 // open addressing: 1 + position in states
	seed   maphash.Seed
}

func (s *search) run() Result {
	s.seed = maphash.MakeSeed()
	s.index = make([]int32, 1<<12)
	start := state{doubles: s.variant.Doubles, crashes: s.variant.Crashes}
	s.add(start, -1)
	for at := 0; at < len(s.states); at++ {
		found := Safe
		s.expand(s.states[at], func(_ action, next state) {
			if found == Safe && s.add(next.normal(s.symmetric), at) {
				found = s.states[len(s.states)-1].judge(&s.variant)
			}
		})
		if found != Safe {
			return Result{Verdict: found, States: len(s.states), Trace: s.trace()}
		}
		if len(s.states) > s.bound {
			return Result{Verdict: Unknown, States: len(s.states)}
		}
	}
	return Result{Verdict: Safe, States: len(s.states)}
}

// expand emits every successor of st.
func (s *search) expand(st state, emit step) {
	v := &s.variant
	writerSteps(v, st, emit)
	networkSteps(st, emit)
	for j := range v.Sealers {
		sealerSteps(v, st, j, emit)
	}
	collectorSteps(v, st, emit)
}

// add notes st if it is new.
func (s *search) add(st state, from int) bool {
	if 2*len(s.states) >= len(s.index) {
		s.grow()
	}
	at := s.find(st)
	if s.index[at] != 0 {
		return false
	}
	s.states = append(s.states, st)
	s.parent = append(s.parent, int32(from))
	s.index[at] = int32(len(s.states))
	return true
}

// find returns the place of st in the index: its own, or the free one where it belongs.
func (s *search) find(st state) uint64 {
	mask := uint64(len(s.index) - 1)
	at := maphash.Comparable(s.seed, st) & mask
	for s.index[at] != 0 && s.states[s.index[at]-1] != st {
		at = (at + 1) & mask
	}
	return at
}

func (s *search) grow() {
	s.index = make([]int32, 2*len(s.index))
	for i, st := range s.states {
		s.index[s.find(st)] = int32(i + 1)
	}
}

// trace tells the way from the start to the last state found.
func (s *search) trace() []string {
	var lines []string
	for at := len(s.states) - 1; s.parent[at] >= 0; at = int(s.parent[at]) {
		target := s.states[at]
		line := ""
		s.expand(s.states[s.parent[at]], func(a action, next state) {
			if line == "" && next.normal(s.symmetric) == target {
				line = fmt.Sprintf("%-64s [%v]", a, &target)
			}
		})
		lines = append(lines, line)
	}
	slices.Reverse(lines)
	return lines
}
