package partition

import (
	"encoding/binary"
	"math"
	"sort"
)

// Policy is what the settings of a topic say about what its logs keep, in Kafka's units and with Kafka's defaults and meanings.
type Policy struct {
	// Delete and Compact are cleanup.policy.
	Delete, Compact bool
	// RetentionMs and RetentionBytes are limits of age and size, -1 for none (C1).
	RetentionMs, RetentionBytes int64
	// SegmentBytes and SegmentMs say when a segment that users see rolls (C2).
	SegmentBytes, SegmentMs int64
	// The others are of compaction (C3, C4), in ms.
	DeleteRetentionMs, MinCompactionLagMs, MaxCompactionLagMs int64
	MinCleanableRatio                                         float64
}

// DefaultPolicy returns the policy of a topic without settings.
func DefaultPolicy() Policy {
	const day = 24 * 3600 * 1000
	return Policy{
		Delete: true, RetentionMs: 7 * day, RetentionBytes: -1, SegmentBytes: 1 << 30, SegmentMs: 7 * day,
		DeleteRetentionMs: day, MaxCompactionLagMs: math.MaxInt64, MinCleanableRatio: 0.5,
	}
}

// rollMs is after how long a segment rolls. On a compacted topic max.compaction.lag.ms bounds it, as in Kafka.
func (p *Policy) rollMs() int64 {
	if p.Compact && p.MaxCompactionLagMs > 0 {
		return min(p.SegmentMs, p.MaxCompactionLagMs)
	}
	return p.SegmentMs
}

// A Roll is a segment as users of Kafka see it: retention deletes whole ones, and compaction spares the last one, which is active (C1-C3).
// Where data lies has nothing to do with it.
type Roll struct {
	// Base is its first offset. It ends where the next one begins.
	Base int64
	// FirstTimestamp is the largest timestamp of its first batch, which segment.ms counts from; MaxTimestamp that of all. In ms.
	FirstTimestamp, MaxTimestamp int64
	// Bytes are its batches' sizes.
	Bytes int64
}

func (r *Roll) put(b []byte) {
	be := binary.BigEndian
	be.PutUint64(b, uint64(r.Base))
	be.PutUint64(b[8:], uint64(r.FirstTimestamp))
	be.PutUint64(b[16:], uint64(r.MaxTimestamp))
	be.PutUint64(b[24:], uint64(r.Bytes))
}

func getRoll(b []byte) Roll {
	be := binary.BigEndian
	return Roll{int64(be.Uint64(b)), int64(be.Uint64(b[8:])), int64(be.Uint64(b[16:])), int64(be.Uint64(b[24:]))}
}

// appendRoll counts a batch for the active roll, or for a new one when it is due (C2). It changes rolls in place.
func appendRoll(rolls []Roll, p *Policy, base, last, maxTimestamp, size int64) []Roll {
	if n := len(rolls); n > 0 {
		r := &rolls[n-1]
		full := r.Bytes+size > p.SegmentBytes || last-r.Base > math.MaxInt32
		old := r.FirstTimestamp >= 0 && maxTimestamp-r.FirstTimestamp > p.rollMs()
		if r.Bytes == 0 {
			r.FirstTimestamp, r.MaxTimestamp = maxTimestamp, maxTimestamp
		}
		if r.Bytes == 0 || !full && !old {
			r.Bytes += size
			r.MaxTimestamp = max(r.MaxTimestamp, maxTimestamp)
			return rolls
		}
	}
	return append(rolls, Roll{Base: base, FirstTimestamp: maxTimestamp, MaxTimestamp: maxTimestamp, Bytes: size})
}

// trimRolls drops the rolls that end at or before start. The active one stays.
func trimRolls(rolls []Roll, start int64) []Roll {
	i := 0
	for i+1 < len(rolls) && rolls[i+1].Base <= start {
		i++
	}
	return rolls[i:]
}

// findRoll returns the index of the roll that holds offset. Rolls are not empty and the offset is not below the first.
func findRoll(rolls []Roll, offset int64) int {
	return sort.Search(len(rolls), func(i int) bool { return rolls[i].Base > offset }) - 1
}

// expired returns where the log begins when what the policy lets go is gone: at the first roll that stays, or at end when none does (C1).
// now is in ms.
func (p *Policy) expired(rolls []Roll, end, now int64) int64 {
	if !p.Delete || len(rolls) == 0 {
		return 0
	}
	var size int64
	for i := range rolls {
		size += rolls[i].Bytes
	}
	start := rolls[0].Base
	over := size - p.RetentionBytes
	for i := range rolls {
		r := &rolls[i]
		// The difference may overflow neither way: retention.ms may be the largest number there is, a timestamp the smallest.
		aged := p.RetentionMs >= 0 && r.MaxTimestamp < now && uint64(now-r.MaxTimestamp) > uint64(p.RetentionMs)
		large := p.RetentionBytes >= 0 && over >= r.Bytes
		if !aged && !large || r.Bytes == 0 && i == len(rolls)-1 {
			return start // an active one that is empty has nothing to let go
		}
		over -= r.Bytes
		if start = end; i+1 < len(rolls) {
			start = rolls[i+1].Base
		}
	}
	return start
}
