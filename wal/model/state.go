package model

import (
	"math/bits"
	"strings"
)

// positions bounds the slots of an instance: sets of them are one byte wide.
const positions = 8

// A set of slot positions.
type set uint8

func (s set) has(i uint8) bool { return s>>i&1 == 1 }
func (s set) with(i uint8) set { return s | 1<<i }
func (s set) less(i uint8) set { return s &^ (1 << i) }

// below returns all positions smaller than i.
func below(i uint8) set { return 1<<i - 1 }

// prefix returns how many positions from 0 on are in s without a gap.
func (s set) prefix() uint8 { return uint8(bits.TrailingZeros8(^uint8(s))) }

type writerPhase uint8

const (
	running writerPhase = iota
	fenced
	fencedByItself // fenced although the slot was its own
	crashed
)

type streamPhase uint8

const (
	open streamPhase = iota
	sealing
	sealed
)

type sealerPhase uint8

const (
	idle      sealerPhase = iota
	walking               // about to read slot pos
	claiming              // PUT Seal at pos sent
	rereading             // met the closing Seal at pos, about to read the trim again
	decided               // knows its n (pos) and kept
	recorded              // the recovery object holds pos and kept
	done                  // agrees with SEALED{n}
	disagreed             // holds another n than SEALED{n}
	sawHole               // the log it recovers lacks a slot
)

type answer uint8

const (
	pending answer = iota
	won
	lost
)

// A sealer is one process that ends the stream. Whatever it forgets at a crash, its claims stay in flight.
type sealer struct {
	phase  sealerPhase
	pos    uint8
	run    uint8 // consecutive Seals met just before pos
	kept   set   // slots of the log as this sealer sees it
	claims set   // PUT Seal in flight
	answer answer
}

// A state of the whole system. It is comparable, and equal states are one state of the search.
type state struct {
	data, seal set // the bucket
	puts       set // data PUTs in flight

	// owned by the writer: answers that arrived, and what it concluded
	ok, taken, foreign set // 200 or own slot read; 412; Seal read
	resolved, skipped  set
	next               uint8
	writer             writerPhase
	again, againAt     uint8 // with Reissue: the batch of slot again-1 travels in slot againAt too

	// the registry and the recovery object
	phase        streamPhase
	trim         uint8
	n            uint8
	log          set
	recovered    bool
	recoveredN   uint8
	recoveredLog set

	sealers          [2]sealer
	doubles, crashes uint8 // budgets left
}

// absent reports whether slot i holds nothing.
func (s *state) absent(i uint8) bool { return !(s.data | s.seal).has(i) }

// acked returns the slots whose producers got an acknowledgement.
func (s *state) acked(v *Variant) set {
	if v.AckEach {
		return s.resolved
	}
	return s.resolved & below((s.resolved | s.skipped).prefix())
}

// judge returns what is wrong in s, or Safe.
func (s *state) judge(v *Variant) Verdict {
	if s.writer == fencedByItself && !v.SafetyOnly {
		return Spurious
	}
	for _, sl := range s.sealers {
		switch sl.phase {
		case disagreed:
			return Divergent
		case sawHole:
			return Hole
		}
	}
	if s.phase != sealed {
		return Safe
	}
	switch {
	case s.n < s.trim:
		return Violation
	case s.acked(v)&^s.log != 0:
		return Lost
	case s.log&^below(s.trim)&^s.data != 0 && v.Claim != ListMax:
		return Hole
	case s.again != 0 && s.log.has(s.again-1) && s.log.has(s.againAt):
		return Twice
	}
	return Safe
}

// normal returns the representative of the states that behave like s.
func (s state) normal(symmetric bool) state {
	if s.writer == running {
		settled := s.resolved
		s.ok, s.taken, s.foreign = s.ok&^settled, s.taken&^settled, s.foreign&^settled
	} else {
		s.ok, s.taken, s.foreign = 0, 0, 0
	}
	for i := range s.sealers {
		if s.sealers[i].phase == done {
			s.sealers[i] = sealer{phase: done, claims: s.sealers[i].claims}
		}
	}
	if symmetric && s.sealers[1].before(s.sealers[0]) {
		s.sealers[0], s.sealers[1] = s.sealers[1], s.sealers[0]
	}
	return s
}

// before orders sealers, so that two states that differ only in the sealers' names are one.
func (a sealer) before(b sealer) bool {
	key := func(s sealer) uint64 {
		return uint64(s.phase)<<40 | uint64(s.pos)<<32 | uint64(s.run)<<24 | uint64(s.kept)<<16 | uint64(s.claims)<<8 | uint64(s.answer)
	}
	return key(a) < key(b)
}

// String draws the bucket and the registry: D data, S seal, - absent.
func (s *state) String() string {
	var b strings.Builder
	for i := range uint8(positions) {
		switch {
		case s.data.has(i):
			b.WriteByte('D')
		case s.seal.has(i):
			b.WriteByte('S')
		default:
			b.WriteByte('-')
		}
	}
	return strings.TrimRight(b.String(), "-")
}
