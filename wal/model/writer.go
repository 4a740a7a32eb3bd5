package model

// A step receives each successor of a state with the action that leads there.
type step func(what action, next state)

// writerSteps are the actions of the broker that owns the log (W2 to W6).
func writerSteps(v *Variant, s state, emit step) {
	if s.writer != running {
		return
	}
	firstUnresolved := (s.resolved | s.skipped).prefix()
	if s.next < v.Slots && s.next < firstUnresolved+v.Window {
		t := s
		t.puts = t.puts.with(s.next)
		t.next++
		emit(action{verb: "writer sends", slot: s.next}, t)
	}
	for i := range s.next {
		if !(s.resolved | s.skipped).has(i) {
			resolveSteps(v, s, i, emit)
		}
	}
	if s.crashes > 0 {
		t := s
		t.writer = crashed
		t.crashes--
		emit(action{verb: "writer crashes", slot: none}, t)
	}
}

// resolveSteps are what the writer may conclude about its unresolved slot i.
func resolveSteps(v *Variant, s state, i uint8, emit step) {
	if s.ok.has(i) {
		t := s
		t.resolved = t.resolved.with(i)
		emit(action{verb: "writer learns it is its own and resolves", slot: i, acked: t.acked(v) &^ s.acked(v)}, t)
	}
	if s.taken.has(i) {
		take412(v, s, i, emit)
	}
	if s.foreign.has(i) {
		t := s
		t.writer = fenced
		emit(action{verb: "writer is fenced at", slot: i}, t)
	}
	if v.GiveUp {
		t := s
		t.skipped = t.skipped.with(i)
		emit(action{verb: "writer gives up", slot: i}, t)
	}
	if v.Reissue && s.again == 0 && s.next < v.Slots {
		t := s
		t.again, t.againAt = i+1, s.next
		emit(action{verb: "writer will issue in its next slot again what is in", slot: i}, t)
	}
}

// take412 is what the writer makes of a 412 at slot i.
func take412(v *Variant, s state, i uint8, emit step) {
	t := s
	switch v.On412 {
	case TakeAsOwn:
		t.resolved = t.resolved.with(i)
		emit(action{verb: "writer takes the 412 for success at", slot: i, acked: t.acked(v) &^ s.acked(v)}, t)
	case TakeFence:
		t.writer = fenced
		if s.data.has(i) {
			t.writer = fencedByItself
		}
		emit(action{verb: "writer takes the 412 for a fence at", slot: i}, t)
	default:
		t.taken = t.taken.less(i)
		switch {
		case s.data.has(i):
			t.ok = t.ok.with(i)
			emit(action{verb: "writer reads its own data at", slot: i}, t)
		case s.seal.has(i):
			t.foreign = t.foreign.with(i)
			emit(action{verb: "writer reads a Seal at", slot: i}, t)
		default:
			emit(action{verb: "writer reads nothing at", slot: i}, t)
		}
	}
}

// networkSteps deliver and double data PUTs.
func networkSteps(s state, emit step) {
	for i := range s.next {
		switch {
		case s.puts.has(i):
			t := s
			t.puts = t.puts.less(i)
			if s.absent(i) {
				t.data, t.ok = t.data.with(i), t.ok.with(i)
				emit(action{verb: "PUT lands (200) at", slot: i}, t)
			} else {
				t.taken = t.taken.with(i)
				emit(action{verb: "PUT is refused (412) at", slot: i}, t)
			}
		case s.doubles > 0:
			t := s
			t.doubles--
			t.puts = t.puts.with(i)
			emit(action{verb: "another copy of the PUT is under way to", slot: i}, t)
		}
	}
}
