package broker

import (
	"testing"
	"time"

	"github.com/tidemill/tidemill/protocol"
)

// TestArrivalIsWorthWaiting: a produce waits for what comes, a little for what may, and not for what this broker has just given away.
func TestArrivalIsWorthWaiting(t *testing.T) {
	var a arrivals
	given, other := protocol.PartitionID{Partition: 1}, protocol.PartitionID{Partition: 2}
	begun := time.Now()
	waiting := a.next()
	a.gaveAway([]protocol.PartitionID{given}, begun)
	select {
	case <-waiting:
	default:
		t.Error("who waits for what was given away is not woken")
	}
	for _, c := range []struct {
		what  string
		id    protocol.PartitionID
		ours  bool
		after time.Duration
		want  time.Duration
	}{
		{"ours by metadata", other, true, 0, arrivalMax},
		{"another's by metadata", other, false, 0, rumourMax},
		{"given away", given, false, 0, 0},
		{"given away, and ours again", given, true, 0, arrivalMax},
		{"given away just within", given, false, leftMax - 1, 0},
		{"given away long ago", given, false, leftMax, rumourMax},
	} {
		if got := a.worth(c.id, c.ours, begun.Add(c.after)); got != c.want {
			t.Errorf("%s: waits %v, want %v", c.what, got, c.want)
		}
	}
	a.gaveAway([]protocol.PartitionID{other}, begun.Add(leftMax))
	if _, remembered := a.left[given]; remembered || len(a.left) != 1 {
		t.Errorf("remembers %d partitions, want the last one", len(a.left))
	}
}
