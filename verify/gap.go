package verify

import (
	"slices"
	"time"
)

// AllPartitions is in a Gap that is none of a single partition.
const AllPartitions int32 = -1

// A Gap is a time in which nothing was acknowledged.
type Gap struct {
	Partition int32
	From, To  time.Duration
}

// Length is how long it lasted.
func (g Gap) Length() time.Duration { return g.To - g.From }

// LongestGap returns the longest time between from and to in which no record was acknowledged. The edges of the window
// are edges of gaps.
func (h *History) LongestGap(from, to time.Duration) Gap {
	all := make([]time.Duration, 0, len(h.Sends))
	for i := range h.Sends {
		if h.Sends[i].Outcome == Acknowledged {
			all = append(all, h.Sends[i].End)
		}
	}
	return longest(all, AllPartitions, from, to)
}

// LongestPartitionGap returns the longest time between from and to in which one partition that was sent to by then had
// nothing acknowledged. Acknowledgements of others do not hide it.
func (h *History) LongestPartitionGap(from, to time.Duration) Gap {
	acked := map[int32][]time.Duration{}
	for i := range h.Sends {
		s := &h.Sends[i]
		if s.Begin >= to {
			continue
		}
		times := acked[s.Partition]
		if s.Outcome == Acknowledged {
			times = append(times, s.End)
		}
		acked[s.Partition] = times // also a partition that never answered counts
	}
	worst := Gap{Partition: AllPartitions}
	for partition, times := range acked {
		g := longest(times, partition, from, to)
		if g.Length() > worst.Length() || g.Length() == worst.Length() && g.Partition < worst.Partition {
			worst = g
		}
	}
	return worst
}

func longest(acked []time.Duration, partition int32, from, to time.Duration) Gap {
	slices.Sort(acked)
	g := Gap{Partition: partition, From: from, To: from}
	last := from
	for _, at := range append(acked, to) {
		at = min(max(at, from), to)
		if at-last > g.Length() {
			g.From, g.To = last, at
		}
		last = at
	}
	return g
}

// window is the time from the first send to the last outcome.
func (h *History) window() (from, to time.Duration) {
	for i := range h.Sends {
		s := &h.Sends[i]
		if i == 0 || s.Begin < from {
			from = s.Begin
		}
		to = max(to, s.End)
	}
	return from, to
}
