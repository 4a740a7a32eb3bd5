package controller

import (
	"time"

	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/wal"
)

// stuckAfter is how long a plan waits for a move to be carried out, or a log to be ended, before it evens out the rest: long for what goes
// well, even at many partitions, and short for a broker that waits for its share.
const stuckAfter = 2 * time.Minute

// waits are the partitions for which something is to happen, and since when.
type waits map[protocol.PartitionID]wait

type wait struct {
	owner, target wal.Life
	since         time.Time
	// stuck: it was so for an earlier target already, or is now. It stays so until it arrives, lest balance wait for each target anew.
	stuck bool
}

// mark says which partitions of s are stuck, and how many, and returns those that wait now.
func (w waits) mark(s *State, now time.Time) (waiting waits, stuck int) {
	live := make(map[wal.Life]bool, len(s.Brokers))
	for _, b := range s.Brokers {
		live[b.Life] = true
	}
	for i := range s.Partitions {
		p := &s.Partitions[i]
		if leaves := !p.Target.IsZero() && p.Target != p.Owner; !leaves && live[p.Owner] {
			continue
		}
		here := wait{owner: p.Owner, target: p.Target, since: now}
		if was, ok := w[p.ID]; ok && was.owner == here.owner {
			here.stuck = was.stuck
			if was.target == here.target {
				here.since = was.since
			}
		}
		p.Overdue = now.Sub(here.since) >= stuckAfter
		here.stuck = here.stuck || p.Overdue
		if p.Stuck = here.stuck; p.Stuck {
			stuck++
		}
		if waiting == nil {
			waiting = waits{}
		}
		waiting[p.ID] = here
	}
	return waiting, stuck
}
