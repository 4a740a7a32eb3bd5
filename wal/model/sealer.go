package model

import "math/bits"

// sealerSteps are the actions of sealer j and of its claims in flight (S2 to S6).
func sealerSteps(v *Variant, s state, j uint8, emit step) {
	claimSteps(s, j, emit)
	sl := s.sealers[j]
	switch sl.phase {
	case idle:
		begin(s, j, emit)
	case walking:
		walk(v, s, j, emit)
	case claiming:
		settleClaim(v, s, j, emit)
	case rereading:
		t := s
		if s.trim > sl.pos {
			t.sealers[j] = sealer{phase: walking, pos: s.trim, kept: below(s.trim), claims: sl.claims}
		} else {
			t.sealers[j].phase = decided
		}
		emit(action{verb: "reads the trim again after", sealer: j + 1, slot: sl.pos}, t)
	case decided:
		decide(v, s, j, emit)
	case recorded:
		t := s
		finish(&t, j, true)
		emit(action{verb: "writes SEALED with n =", sealer: j + 1, slot: t.n}, t)
	}
	if s.crashes > 0 && sl.phase >= walking && sl.phase <= recorded {
		t := s
		t.crashes--
		t.sealers[j] = sealer{claims: sl.claims}
		emit(action{verb: "crashes", sealer: j + 1, slot: none}, t)
	}
}

// claimSteps apply claims in flight. A claim may be applied again later, as any request may.
func claimSteps(s state, j uint8, emit step) {
	for i := range uint8(positions) {
		if !s.sealers[j].claims.has(i) {
			continue
		}
		t := s
		sl := &t.sealers[j]
		sl.claims = sl.claims.less(i)
		outcome, verb := lost, "claim is refused (412) at"
		if s.absent(i) {
			t.seal = t.seal.with(i)
			outcome, verb = won, "claim lands (200) at"
		}
		if sl.phase == claiming && sl.pos == i && sl.answer == pending {
			sl.answer = outcome
		}
		emit(action{verb: verb, sealer: j + 1, slot: i}, t)
		if s.doubles > 0 {
			t.doubles--
			sl.claims = sl.claims.with(i)
			emit(action{verb: verb + " (a copy stays under way)", sealer: j + 1, slot: i}, t)
		}
	}
}

// begin is S2: one transaction that moves OPEN to SEALING, joins, or adopts.
func begin(s state, j uint8, emit step) {
	t := s
	if s.phase == sealed {
		t.sealers[j].phase = done
		emit(action{verb: "adopts SEALED with n =", sealer: j + 1, slot: s.n}, t)
		return
	}
	t.phase = sealing
	t.sealers[j] = sealer{phase: walking, pos: s.trim, kept: below(s.trim), claims: s.sealers[j].claims}
	emit(action{verb: "begins; trim is", sealer: j + 1, slot: s.trim}, t)
}

// walk is S3: read one slot. In the LIST variants it lists instead.
func walk(v *Variant, s state, j uint8, emit step) {
	t := s
	sl := &t.sealers[j]
	if v.Claim == ListMax {
		sl.pos = uint8(bits.Len8(uint8(s.data | s.seal)))
		sl.claims, sl.phase = sl.claims.with(sl.pos), claiming
		emit(action{verb: "lists and claims", sealer: j + 1, slot: sl.pos}, t)
		return
	}
	at := sl.pos
	switch {
	case s.data.has(at):
		sl.kept, sl.pos, sl.run = sl.kept.with(at), at+1, 0
		emit(action{verb: "reads data at", sealer: j + 1, slot: at}, t)
	case s.seal.has(at):
		meetSeal(v, sl)
		emit(action{verb: "reads a Seal at", sealer: j + 1, slot: at}, t)
	default:
		sl.claims, sl.phase = sl.claims.with(at), claiming
		emit(action{verb: "reads nothing and claims", sealer: j + 1, slot: at}, t)
	}
}

// settleClaim is S4: a claim that won ends the walk, one that was refused goes back to reading the slot.
func settleClaim(v *Variant, s state, j uint8, emit step) {
	t := s
	sl := &t.sealers[j]
	at := sl.pos
	switch sl.answer {
	case won:
		sl.answer = pending
		meetSeal(v, sl)
		emit(action{verb: "learns that it won", sealer: j + 1, slot: at}, t)
	case lost:
		sl.answer, sl.phase = pending, walking
		emit(action{verb: "learns that it was refused at", sealer: j + 1, slot: at}, t)
	}
}

// meetSeal takes in the Seal at pos, whoever wrote it.
func meetSeal(v *Variant, sl *sealer) {
	switch {
	case v.Claim == FillHoles:
		sl.run++
		sl.pos++
		sl.phase = walking
		if sl.run == v.StopAfter {
			sl.pos -= sl.run
			sl.run, sl.phase = 0, decided
		}
	case v.Reread:
		sl.phase = rereading
	default:
		sl.phase = decided
	}
}

// decide goes from knowing n to recording it: by S5, or at once in the variants that trust the sealer's own claim.
func decide(v *Variant, s state, j uint8, emit step) {
	t := s
	sl := &t.sealers[j]
	if v.Claim == ListMax {
		present := (s.data | s.seal).prefix()
		if present < sl.pos && !v.Truncate {
			sl.phase = sawHole
			emit(action{verb: "finds a hole at", sealer: j + 1, slot: present}, t)
			return
		}
		sl.pos = min(sl.pos, present)
		sl.kept = below(sl.pos)
	}
	if !v.Adopt {
		n := sl.pos
		finish(&t, j, false)
		emit(action{verb: "trusts its claim and writes SEALED with n =", sealer: j + 1, slot: n}, t)
		return
	}
	if s.recovered {
		sl.pos, sl.kept = s.recoveredN, s.recoveredLog
	} else {
		t.recovered, t.recoveredN, t.recoveredLog = true, sl.pos, sl.kept
	}
	sl.phase = recorded
	emit(action{verb: "writes or adopts the recovery object with n =", sealer: j + 1, slot: sl.pos}, t)
}

// finish is S6: the first sealer writes SEALED, a later one adopts it or, if it does not, must agree.
func finish(t *state, j uint8, adopt bool) {
	sl := &t.sealers[j]
	if t.phase != sealed {
		t.phase, t.n, t.log = sealed, sl.pos, sl.kept
	}
	agrees := t.n == sl.pos && t.log == sl.kept
	sl.phase = done
	if !agrees && !adopt {
		sl.phase = disagreed
	}
}
