package wal

import (
	"testing"
	"time"
)

func TestFlushPolicy(t *testing.T) {
	const ms = time.Millisecond
	free := flushPolicy{window: 4, slotBytes: 1000, interval: 100 * ms}
	cheap := free
	cheap.putsPerSecond = 2
	eager := cheap
	eager.eagerBytes = 600
	now := time.Hour
	for _, c := range []struct {
		name   string
		policy flushPolicy
		state  flushState
		cut    bool
		again  time.Duration
	}{
		{"idle log has no timer", free, flushState{now: now}, false, never},
		{"idle log sends a complete request at once", free, flushState{openBytes: 1, openSince: now, nudged: true, lastCut: now}, true, 0},
		{"incomplete request waits for its rest", free, flushState{openBytes: 1, openSince: now, lastCut: now - time.Minute}, false, now + 100*ms},
		{"incomplete request does not wait for ever", free, flushState{openBytes: 1, openSince: now - 100*ms}, true, 0},
		{"busy log gathers", free, flushState{openBytes: 1, openSince: now, nudged: true, inFlight: 1, lastCut: now - 40*ms}, false, now + 60*ms},
		{"busy log flushes when the interval is over", free, flushState{openBytes: 1, openSince: now, nudged: true, inFlight: 1, lastCut: now - 100*ms}, true, 0},
		{"full slot goes", free, flushState{openBytes: 1000, openSince: now, inFlight: 3, lastCut: now}, true, 0},
		{"full slot waits for the window", free, flushState{openBytes: 5000, inFlight: 4}, false, never},
		{"full producers go", free, flushState{openBytes: 1, openSince: now, nudged: true, inFlight: 2, windowsFull: true, lastCut: now}, true, 0},
		{"full producers wait for the window", free, flushState{openBytes: 1, nudged: true, inFlight: 4, windowsFull: true}, false, never},
		{"budget lets a request go", cheap, flushState{openBytes: 1, openSince: now, nudged: true, lastCut: now, tokens: 1}, true, 0},
		{"budget holds an idle log", cheap, flushState{openBytes: 1, openSince: now, nudged: true, lastCut: now, tokens: .5}, false, now + 250*ms + 1},
		{"budget holds full producers", cheap, flushState{openBytes: 1, openSince: now, nudged: true, inFlight: 1, windowsFull: true, lastCut: now, tokens: 0}, false, now + 500*ms},
		{"budget stretches the interval", cheap, flushState{openBytes: 1, openSince: now, nudged: true, inFlight: 1, lastCut: now - 100*ms}, false, now + 400*ms},
		{"debt does not starve the interval", cheap, flushState{openBytes: 1, openSince: now, nudged: true, inFlight: 1, lastCut: now - 500*ms, tokens: -2}, true, 0},
		{"budget is the pace while slots are in flight", cheap, flushState{openBytes: 1, openSince: now, nudged: true, inFlight: 3, lastCut: now, tokens: 1}, true, 0},
		{"enough goes without a token", eager, flushState{openBytes: 600, openSince: now, nudged: true, inFlight: 3, lastCut: now - 25*ms, tokens: -2}, true, 0},
		{"enough too soon after the last slot waits", eager, flushState{openBytes: 600, openSince: now, nudged: true, inFlight: 1, lastCut: now - 10*ms, tokens: -2}, false, now + 15*ms},
		{"enough of full producers goes at once", eager, flushState{openBytes: 600, openSince: now, nudged: true, inFlight: 1, windowsFull: true, lastCut: now, tokens: -2}, true, 0},
		{"too little of full producers waits for a token", eager, flushState{openBytes: 599, openSince: now, nudged: true, inFlight: 1, windowsFull: true, lastCut: now, tokens: -2}, false, now + 500*ms},
		{"not enough waits for a token", eager, flushState{openBytes: 599, openSince: now, nudged: true, inFlight: 1, lastCut: now - 100*ms, tokens: -2}, false, now + 400*ms},
		{"budget does not hold a full slot", cheap, flushState{openBytes: 1000, lastCut: now, tokens: -2}, true, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.state.now, c.state.tokensPerSecond = now, c.policy.putsPerSecond
			if cut, again := c.policy.decide(c.state); cut != c.cut || again != c.again {
				t.Errorf("got %v, %v, want %v, %v", cut, again, c.cut, c.again)
			}
		})
	}
}

// TestBudgetBoundsPuts: whatever arrives, early cuts stay within the budget.
func TestBudgetBoundsPuts(t *testing.T) {
	p := flushPolicy{window: 4, slotBytes: 1 << 20, interval: time.Millisecond, putsPerSecond: 10}
	b := newPutBudget(p.putsPerSecond, 0)
	cuts, last := 0, -time.Hour
	for now := time.Duration(0); now < time.Minute; now += time.Millisecond {
		b.refill(now)
		if cut, _ := p.decide(flushState{now: now, openBytes: 1, openSince: now, nudged: true, lastCut: last, tokens: b.tokens, tokensPerSecond: b.rate()}); cut {
			b.take()
			cuts, last = cuts+1, now
		}
	}
	if cuts < 590 || cuts > 620 {
		t.Errorf("%d cuts in a minute, the budget is 600 and a burst of 10", cuts)
	}
}

// TestBytesEarnPuts: what is written adds to the budget, and at most doubles it.
func TestBytesEarnPuts(t *testing.T) {
	for _, c := range []struct {
		bytes int64 // each millisecond; 1,000 earn a token
		want  float64
	}{{0, 10}, {5, 15}, {10, 20}, {1000, 20}} {
		b := newPutBudget(10, 1000)
		spent := 0.0
		for now := time.Duration(0); now < time.Minute; now += time.Millisecond {
			b.earn(c.bytes)
			b.refill(now)
			for b.tokens >= 1 {
				b.take()
				spent++
			}
		}
		if perSecond := spent / 60; perSecond < c.want-.5 || perSecond > c.want+.5 {
			t.Errorf("%d bytes a millisecond: %.1f PUTs a second, want %v", c.bytes, perSecond, c.want)
		}
	}
}

func TestBudgetDebtIsBounded(t *testing.T) {
	b := newPutBudget(5, 0)
	for range 1000 {
		b.take()
	}
	b.refill(2 * time.Second)
	if b.tokens < 1 {
		t.Errorf("after 1000 full slots and 2 s there are %v tokens", b.tokens)
	}
}

func TestWindows(t *testing.T) {
	steps := func(do ...func(*Windows)) *Windows {
		w := &Windows{}
		for _, f := range do {
			f(w)
		}
		return w
	}
	enter := func(conn uint64) func(*Windows) { return func(w *Windows) { w.Enter(conn) } }
	leave := func(conn uint64) func(*Windows) { return func(w *Windows) { w.Leave(conn) } }
	many := func(n int, f ...func(*Windows)) func(*Windows) {
		return func(w *Windows) {
			for range n {
				for _, g := range f {
					g(w)
				}
			}
		}
	}
	for _, c := range []struct {
		name string
		w    *Windows
		want bool
	}{
		{"nobody", steps(), false},
		{"one request at a time", steps(enter(1)), true},
		{"idle connections do not count", steps(enter(1), leave(1), enter(2)), true},
		{"a learned window is not full yet", steps(many(5, enter(1)), many(5, leave(1)), enter(1)), false},
		{"a learned window is full", steps(many(5, enter(1)), many(5, leave(1)), many(5, enter(1))), true},
		{"one of two is not full", steps(many(2, enter(1)), leave(1), enter(2)), false},
		{"a slower producer is learned anew", steps(many(5, enter(1)), many(5, leave(1)), many(2*windowMemory, enter(1), leave(1)), enter(1)), true},
		{"closed connections do not count", steps(many(2, enter(1)), leave(1), enter(2), func(w *Windows) { w.Forget(1) }), true},
		{"late answers of closed connections", steps(enter(1), func(w *Windows) { w.Forget(1) }, leave(1)), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := c.w.Full(); got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
	if (*Windows)(nil).Full() {
		t.Error("no windows are full")
	}
}
