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
	// eagerBytes are enough to cut early without a token, and earn a part of one; 0: never.
	eagerBytes int64
}

// Pacing for object stores whose PUTs have a price; docs/decisions/0004 has the measurements.
const (
	// LatencyPutsPerSecond and LatencyEagerBytes keep a slot's wait to a fraction of its PUT: produce within 110 ms (p50) and
	// 280 ms (p99) on S3 Standard at 30 MB/s. The price per GB falls with the rate.
	LatencyPutsPerSecond = 24
	LatencyEagerBytes    = 2 << 20
	// CostPutsPerSecond stays below 150 PUTs per GB from 30 MB/s on.
	CostPutsPerSecond = 3
)

// eagerGap is the least time between two slots that are cut for being eagerBytes long: at rates that fill a slot sooner, a
// larger one costs less and is hardly later.
const eagerGap = 25 * time.Millisecond

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
	// tokensPerSecond is how fast they come at the moment.
	tokensPerSecond float64
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
	if p.eagerBytes > 0 && s.openBytes >= p.eagerBytes {
		if s.nudged && s.windowsFull {
			return true, 0 // this slot cannot become larger, and waits for nothing
		}
		due = min(due, s.lastCut+eagerGap)
	}
	if s.now >= due {
		return true, 0
	}
	if !s.nudged {
		return false, due
	}
	if p.putsPerSecond > 0 {
		// The budget is the pace: waiting for slots in flight would only make this one larger and later.
		if s.tokens >= 1 {
			return true, 0
		}
		return false, min(due, s.now+time.Duration((1-s.tokens)/s.tokensPerSecond*float64(time.Second))+1)
	}
	if s.inFlight > 0 && !s.windowsFull {
		return false, due
	}
	return true, 0
}

// longest returns how long a batch may wait while the window is open. The budget stretches the interval, or else a
// trickle would spend more than the budget.
func (p flushPolicy) longest() time.Duration {
	if p.putsPerSecond <= 0 {
		return p.interval
	}
	return max(p.interval, time.Duration(float64(time.Second)/p.putsPerSecond))
}

// putBudget is a token bucket over PUTs. Every cut takes a token; cuts that may not wait can leave it in debt. What is written
// earns tokens too, at most as many as time gives: objects of a busy log then stay small enough to be quick.
type putBudget struct {
	perSecond float64
	perToken  float64 // bytes that earn one; 0: none do
	tokens    float64
	earned    float64 // tokens that time has not paid out yet
	at        time.Duration
}

func newPutBudget(perSecond float64, bytesPerToken int64) putBudget {
	b := putBudget{perSecond: perSecond, perToken: float64(bytesPerToken)}
	b.tokens = b.burst()
	return b
}

// burst is a second's worth: enough to serve a short request sequence at low latency.
func (b *putBudget) burst() float64 { return max(1, b.perSecond) }

// earn notes bytes that came to be written.
func (b *putBudget) earn(bytes int64) {
	if b.perToken > 0 {
		b.earned = min(b.burst(), b.earned+float64(bytes)/b.perToken)
	}
}

func (b *putBudget) refill(now time.Duration) {
	if now <= b.at {
		return
	}
	given := b.perSecond * (now - b.at).Seconds()
	extra := min(b.earned, given)
	b.earned -= extra
	b.tokens = min(b.burst(), b.tokens+given+extra)
	b.at = now
}

// rate returns how many tokens per second come until there is one.
func (b *putBudget) rate() float64 {
	if b.earned >= (1-b.tokens)/2 {
		return 2 * b.perSecond
	}
	return b.perSecond
}

// take spends a token. The debt is bounded, so that a burst of full slots does not slow the log for long.
func (b *putBudget) take() { b.tokens = max(b.tokens-1, -b.burst()) }
