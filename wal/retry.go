package wal

import "time"

// Retry bounds of a slot PUT: full jitter between 0 and a limit that doubles. The first is about
// what a PUT takes; the last leaves a store in trouble about two attempts a second.
const (
	retryFirst = 50 * time.Millisecond
	retryMax   = time.Second
)

// wait schedules the next attempt: full jitter, doubling to retryMax, without end (W4, W7).
func (c *core) wait(now time.Duration, f *flight, next flightState) {
	limit := min(retryMax, retryFirst<<min(f.failures, 10))
	f.failures++
	f.state, f.next = flightWaiting, next
	f.retryAt = now + time.Duration(c.rng.Int64N(int64(limit)))
}

// retry starts the attempts that are due and returns when the next one is. After a PUT that failed the oldest slot is put again alone,
// and each that gets through lets twice as many follow: a link that is too slow to carry all of them within their time carries one.
// The younger could not be committed before it either (W5).
func (c *core) retry(now time.Duration) (again time.Duration) {
	again = never
	older := 0 // slots that are being put again, or are about to be
	for _, f := range c.flights {
		again = min(again, c.retryOne(now, f, older))
		if f.failures > 0 && (f.state == flightPutting || f.state == flightWaiting && f.next == flightPutting) {
			older++
		}
	}
	return again
}

func (c *core) retryOne(now time.Duration, f *flight, older int) (again time.Duration) {
	switch {
	case f.state != flightWaiting, f.next == flightPutting && older >= c.together: // what becomes of an older one wakes us
		return never
	case now < f.retryAt:
		return f.retryAt
	}
	c.send(f, f.next)
	return never
}
