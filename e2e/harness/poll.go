package harness

import (
	"testing"
	"time"
)

// pollInterval is short against any wait of these tests and long against the cost of one look.
const pollInterval = 50 * time.Millisecond

// Eventually looks until cond returns nil, and fails the test with its last error when that takes longer than limit.
// It must be called from the test's goroutine.
func Eventually(t testing.TB, limit time.Duration, what string, cond func() error) {
	t.Helper()
	deadline := time.After(limit)
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		err := cond()
		if err == nil {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("%s: not within %v: %v", what, limit, err)
		case <-tick.C:
		}
	}
}
