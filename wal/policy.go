package wal

import "time"

// never is a time that does not come.
const never = time.Duration(1<<63 - 1)

// flushPolicy decides when the open batches become a slot. It is pure: times are durations since any
// fixed instant.
type flushPolicy struct {
	window    int
	slotBytes int64
	interval  time.Duration
	// putsPerSecond is the budget of early cuts; 0 is unlimited.
	putsPerSecond float64
}

// flushState is what the policy looks at.
type flushState struct {
	now       time.Duration
	openBytes int64
	// openSince is when the oldest open batch came.
	openSince time.Duration
	// nudged: the appends of a request are complete, or the last slot in flight was resolved.
	nudged bool
	// inFlight counts unresolved slots.
	inFlight int
	// windowsFull: no producer can send more before something is acknowledged.
	windowsFull bool
	lastCut     time.Duration
	tokens      float64
}

// decide returns whether to cut now and, if not, when to ask again though nothing happened (never: no timer).
func (p flushPolicy) decide(s flushState) (cut bool, again time.Duration) {
	if s.openBytes == 0 || s.inFlight >= p.window {
		return false, never
	}
	if s.openBytes >= p.slotBytes {
		return true, 0
	}
	// Batches that were not followed by a nudge wait a whole interval, so that a request is not torn apart for nothing.
	due := s.openSince + p.longest()
	if s.nudged {
		due = min(due, s.lastCut+p.longest())
	}
	if s.now >= due {
		return true, 0
	}
	if !s.nudged || s.inFlight > 0 && !s.windowsFull {
		return false, due
	}
	if p.putsPerSecond <= 0 || s.tokens >= 1 {
		return true, 0
	}
	return false, min(due, s.now+p.refillTime(1-s.tokens))
}

// longest returns how long a batch may wait while the window is open. The budget stretches the interval, or else a
// trickle would spend more than the budget.
func (p flushPolicy) longest() time.Duration {
	if p.putsPerSecond <= 0 {
		return p.interval
	}
	return max(p.interval, time.Duration(float64(time.Second)/p.putsPerSecond))
}

func (p flushPolicy) refillTime(tokens float64) time.Duration {
	return time.Duration(tokens/p.putsPerSecond*float64(time.Second)) + 1
}

// putBudget is a token bucket over PUTs. Every cut takes a token; cuts that may not wait can leave it in debt.
type putBudget struct {
	perSecond float64
	tokens    float64
	at        time.Duration
}

func newPutBudget(perSecond float64) putBudget {
	b := putBudget{perSecond: perSecond}
	b.tokens = b.burst()
	return b
}

// burst is a second's worth: enough to serve a short request sequence at low latency.
func (b *putBudget) burst() float64 { return max(1, b.perSecond) }

func (b *putBudget) refill(now time.Duration) {
	if now > b.at {
		b.tokens = min(b.burst(), b.tokens+b.perSecond*(now-b.at).Seconds())
		b.at = now
	}
}

// take spends a token. The debt is bounded, so that a burst of full slots does not slow the log for long.
func (b *putBudget) take() { b.tokens = max(b.tokens-1, -b.burst()) }
