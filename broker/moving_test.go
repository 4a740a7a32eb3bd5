package broker

import (
	"errors"
	"testing"
	"time"
)

// TestComplaint: a failure that stays the same is told now and then, another one at once.
func TestComplaint(t *testing.T) {
	var c complaint
	now := time.Now()
	for i, tt := range []struct {
		after time.Duration
		what  string
		want  bool
	}{{0, "a", true}, {ownershipRetry, "a", false}, {ownershipRetry, "b", true}, {complainEvery - 1, "b", false}, {1, "b", true}} {
		now = now.Add(tt.after)
		if got := c.news(errors.New(tt.what), now); got != tt.want {
			t.Errorf("%d: %s after %v is news: %v", i, tt.what, tt.after, got)
		}
	}
}
