package sim

import (
	"math/rand/v2"
	"time"

	"github.com/tidemill/tidemill/partition"
)

// config is what a seed draws: a shape of the cluster and a subset of faults.
type config struct {
	brokers, partitions, producers, batches, pipeline int
	pace                                              time.Duration // between a producer's batches
	span                                              time.Duration // of the chaos

	window, slotBytes      int
	interval               time.Duration
	tailBytes              int64
	checkpoint             time.Duration
	deleteDelay, sweep     time.Duration
	tidy                   time.Duration
	slow                   float64
	putLost, putApplied    float64
	putLate, putTwice      float64
	getError               float64
	txnLost, txnApplied    float64
	txnLate, watchLost     float64
	cut                    float64
	moves                  float64
	policy                 partition.Policy
	trims                  int // DeleteRecords
	crashes, pauses        int
	leases, outages, seals int

	mistakes mistakes
}

// mistakes are violations of the rules that runs must find.
type mistakes struct {
	partition partition.Faults
	// anyEpoch: a reader is answered whatever leader epoch it believes in.
	anyEpoch bool
	// freshFenced: the end of a partition is answered without a proof.
	freshFenced bool
	// unsealed: partitions of a life that is being sealed are claimed.
	unsealed bool
	// noRecovery: what was not in manifests when a life ended is left where it lies.
	noRecovery bool
}

func drawConfig(r *rand.Rand) config {
	rate := func(p float64) float64 {
		if r.IntN(2) == 0 {
			return 0
		}
		return p * r.Float64()
	}
	c := config{
		brokers: 2 + r.IntN(2), partitions: 1 + r.IntN(3), producers: 1 + r.IntN(3), batches: 3 + r.IntN(10), pipeline: 1 + r.IntN(3),
		pace: []time.Duration{10 * time.Millisecond, 500 * time.Millisecond, 2 * time.Second}[r.IntN(3)],
		// Half are long: mistakes of those who were away are found in them alone, and they take but half as much again.
		span: []time.Duration{4 * time.Second, 12 * time.Second, 25 * time.Second, 25 * time.Second}[r.IntN(4)],

		window: 1 + r.IntN(8), slotBytes: []int{1, 400, 1 << 20}[r.IntN(3)],
		interval:  []time.Duration{time.Millisecond, 50 * time.Millisecond}[r.IntN(2)],
		tailBytes: []int64{1, 1 << 20}[r.IntN(2)],
		// Odd, so that timers of one process do not meet.
		checkpoint:  []time.Duration{1_700_000_001, 4_300_000_003, time.Hour}[r.IntN(3)],
		deleteDelay: []time.Duration{time.Second, 20 * time.Second}[r.IntN(2)],
		sweep:       []time.Duration{time.Second, time.Second, 7 * time.Second, 23 * time.Second}[r.IntN(4)],
		tidy:        []time.Duration{700_000_001, 9_700_000_001}[r.IntN(2)],
		// Who pauses and goes on does more harm than who is gone, and costs less.
		moves: r.Float64(), crashes: []int{0, 0, 1, 2}[r.IntN(4)], pauses: r.IntN(5), leases: r.IntN(2), outages: r.IntN(2), seals: r.IntN(3),
	}
	c.policy, c.trims = drawPolicy(r), r.IntN(3)
	if r.IntN(4) == 0 {
		return c // a quarter of the runs sees no fault of bucket or etcd
	}
	c.putLost, c.putApplied, c.putLate, c.putTwice = rate(.3), rate(.3), rate(.2), rate(.3)
	c.getError, c.slow = rate(.2), rate(.15)
	c.txnLost, c.txnApplied, c.txnLate, c.watchLost, c.cut = rate(.2), rate(.3), rate(.2), rate(.3), rate(.08)
	return c
}

// drawPolicy draws what logs keep: everything, the newest few bytes, or the newest record of each key.
func drawPolicy(r *rand.Rand) partition.Policy {
	p := partition.DefaultPolicy()
	switch r.IntN(4) {
	case 0:
		p.SegmentBytes, p.RetentionBytes = 300, 600
	case 1:
		p.Delete, p.Compact, p.SegmentBytes, p.MinCleanableRatio = false, true, 300, 0
	}
	return p
}

// loses reports whether records may go that nobody deletes.
func (c *config) loses() bool { return c.policy.RetentionBytes >= 0 }

// sweepTime is how long it may take until what nobody needs is gone, if it is not for the first sweep of a process that just began.
func (c *config) sweepTime() time.Duration { return 2*(c.sweep+c.deleteDelay+c.tidy) + 20*time.Second }
