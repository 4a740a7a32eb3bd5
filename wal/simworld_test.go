package wal

import (
	"container/heap"
	"encoding/binary"
	"fmt"
	"hash"
	"hash/fnv"
	"math/rand/v2"
	"time"
)

// world is a seeded, single-threaded simulation of one life: its writer, its sealers, a store and a registry. Nothing
// in it runs concurrently, so a seed names one run exactly.
type world struct {
	cfg   simConfig
	rng   *rand.Rand
	now   time.Duration
	queue eventQueue
	seq   uint64

	hash    hash.Hash64
	verbose bool
	lines   []string
	// reached counts what was traced, if set.
	reached map[string]int

	healed    bool
	violation *violation

	store    *simStore
	registry *simRegistry
	model    *model
	writer   *simWriter
	sealers  []*simSealer
}

// violation is the first invariant that broke.
type violation struct {
	kind string
	text string
}

type event struct {
	at  time.Duration
	seq uint64
	run func()
}

type eventQueue []event

func (q eventQueue) Len() int { return len(q) }
func (q eventQueue) Less(i, j int) bool {
	return q[i].at < q[j].at || q[i].at == q[j].at && q[i].seq < q[j].seq
}
func (q eventQueue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *eventQueue) Push(x any)   { *q = append(*q, x.(event)) }
func (q *eventQueue) Pop() any {
	old := *q
	e := old[len(old)-1]
	*q = old[:len(old)-1]
	return e
}

// after runs f when d has passed.
func (w *world) after(d time.Duration, f func()) {
	w.seq++
	heap.Push(&w.queue, event{w.now + max(d, 0), w.seq, f})
}

// runUntil runs events until the time comes or, if quiet is given, it holds.
func (w *world) runUntil(at time.Duration, quiet func() bool) {
	for len(w.queue) > 0 && w.queue[0].at <= at && w.violation == nil {
		if quiet != nil && quiet() {
			return
		}
		e := heap.Pop(&w.queue).(event)
		w.now = e.at
		e.run()
	}
	if quiet == nil || !quiet() {
		w.now = max(w.now, at)
	}
}

func (w *world) violate(kind, format string, args ...any) {
	if w.violation == nil {
		w.violation = &violation{kind, fmt.Sprintf(format, args...)}
		w.trace("violation: "+w.violation.text, 0, 0)
	}
}

// trace feeds the run's hash and, if asked for, its log.
func (w *world) trace(what string, a, b int64) {
	var buf [24]byte
	binary.LittleEndian.PutUint64(buf[:], uint64(w.now))
	binary.LittleEndian.PutUint64(buf[8:], uint64(a))
	binary.LittleEndian.PutUint64(buf[16:], uint64(b))
	w.hash.Write(buf[:])
	w.hash.Write([]byte(what))
	if w.reached != nil {
		w.reached[what]++
	}
	if w.verbose {
		w.lines = append(w.lines, fmt.Sprintf("%14v %s %d %d", w.now, what, a, b))
	}
}

func (w *world) chance(p float64) bool { return p > 0 && w.rng.Float64() < p }

// between draws a duration from [lo, hi).
func (w *world) between(lo, hi time.Duration) time.Duration {
	return lo + time.Duration(w.rng.Int64N(int64(hi-lo)))
}

// delay draws a request's one-way delay, with a heavy tail.
func (w *world) delay() time.Duration {
	d := w.between(time.Millisecond, 30*time.Millisecond)
	if !w.healed && w.chance(w.cfg.slow) {
		d = w.between(100*time.Millisecond, 12*time.Second)
	}
	return d
}

// faulty reports whether a fault of probability p strikes now.
func (w *world) faulty(p float64) bool { return !w.healed && w.chance(p) }

// simConfig is what a seed draws: a random subset of faults and a random configuration.
type simConfig struct {
	window    int
	slotBytes int
	interval  time.Duration
	puts      float64
	entries   int
	span      time.Duration // in which the entries come

	putLost, putAppliedError, putLate, putTwice, putSelfConflict, putConflict409, putDenied float64
	getError, getTruncated, getFlipped                                                      float64
	slow                                                                                    float64
	regLost, regAppliedError, regLate                                                       float64

	trims, writerCrash, writerPause, writerClose, sealerCrash, sealerPause bool
	sealers                                                                int

	writerFaults coreFaults
	sealerFaults sealFaults
	trimAlways   bool // variant 5
	deleteSeal   bool // variant 8
}

func drawConfig(r *rand.Rand) simConfig {
	pick := func(p float64) float64 {
		if r.IntN(2) == 0 {
			return 0
		}
		return p * r.Float64()
	}
	yes := func() bool { return r.IntN(2) == 0 }
	c := simConfig{
		window:    1 + r.IntN(MaxWindow),
		slotBytes: []int{1, 40, 120, 400}[r.IntN(4)],
		interval:  []time.Duration{1, 5 * time.Millisecond, 100 * time.Millisecond}[r.IntN(3)],
		puts:      []float64{0, 0, 5, 50}[r.IntN(4)],
		entries:   5 + r.IntN(40),
		span:      []time.Duration{50 * time.Millisecond, time.Second, 20 * time.Second}[r.IntN(3)],
		trims:     yes(), writerCrash: r.IntN(4) == 0, writerPause: yes(), writerClose: r.IntN(4) == 0,
		sealerCrash: yes(), sealerPause: yes(), sealers: r.IntN(4),
	}
	if r.IntN(4) == 0 {
		return c // a quarter of the runs sees no fault of store or registry
	}
	c.putLost, c.putAppliedError, c.putLate = pick(.4), pick(.4), pick(.3)
	c.putTwice, c.putSelfConflict, c.putConflict409, c.putDenied = pick(.3), pick(.3), pick(.5), pick(.1)
	c.getError, c.getTruncated, c.getFlipped, c.slow = pick(.4), pick(.2), pick(.2), pick(.2)
	c.regLost, c.regAppliedError, c.regLate = pick(.3), pick(.3), pick(.2)
	return c
}

func newWorld(seed uint64, change func(*simConfig), verbose bool) *world {
	rng := rand.New(rand.NewPCG(seed, 0x7469646d))
	w := &world{cfg: drawConfig(rng), rng: rng, hash: fnv.New64a(), verbose: verbose}
	if change != nil {
		change(&w.cfg)
	}
	w.store = &simStore{w: w, objects: map[string][]byte{}, data: map[string][]byte{}}
	w.registry = &simRegistry{w: w, state: StreamState{Life: simLife, Phase: PhaseOpen, Rev: 1}}
	w.model = &model{w: w, acked: map[int64]bool{}}
	w.writer = newSimWriter(w)
	return w
}
