package model

// collectorSteps are the actions of the compactor and the garbage collector (G1 to G3).
func collectorSteps(v *Variant, s state, emit step) {
	if v.GC == NoGC {
		return
	}
	if s.data.has(s.trim) && mayTrim(v, &s) {
		t := s
		t.trim++
		emit(action{verb: "compactor takes data in and trims past", slot: s.trim}, t)
	}
	for i := range uint8(positions) {
		orphan := s.phase == sealed && v.Claim != FillHoles && i > s.n
		if s.data.has(i) && (i < s.trim || orphan) {
			t := s
			t.data = t.data.less(i)
			emit(action{verb: "collector deletes", slot: i}, t)
		}
	}
	if v.DropSeal && s.phase == sealed && s.seal.has(s.n) {
		t := s
		t.seal = t.seal.less(s.n)
		emit(action{verb: "collector deletes the Seal at", slot: s.n}, t)
	}
}

// mayTrim is the guard of the transaction that raises the trim.
func mayTrim(v *Variant, s *state) bool {
	switch v.GC {
	case Unguarded:
		return true
	case WhileOpen:
		return s.phase == open
	default:
		return s.phase == open || s.phase == sealed && s.trim < s.n
	}
}
