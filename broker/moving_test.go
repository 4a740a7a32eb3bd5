package broker

import (
	"testing"
	"time"
)

// TestComplaint: work that fails is told of at once, and then now and then.
func TestComplaint(t *testing.T) {
	var c complaint
	now := time.Now()
	for i, tt := range []struct {
		after time.Duration
		want  bool
	}{{0, true}, {ownershipRetry, false}, {complainEvery - ownershipRetry, true}, {complainEvery - 1, false}, {1, true}} {
		now = now.Add(tt.after)
		if got := c.news(now); got != tt.want {
			t.Errorf("%d: after %v it is news: %v", i, tt.after, got)
		}
	}
	c = complaint{}
	if !c.news(now) {
		t.Error("a failure after a success is no news")
	}
}
