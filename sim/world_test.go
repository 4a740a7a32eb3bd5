package sim

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"hash"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/tidemill/tidemill/metadata"
)

// world is one seeded run of a cluster. The code under test runs in goroutines of a synctest bubble, but only one thing happens at a
// time: the world performs an event, lets everybody run until all wait, takes what they ask for in an order of its own, and turns that
// into later events. So a seed names one run, whatever the scheduler of the machine does.
type world struct {
	*clock
	cfg config
	rng *rand.Rand

	hash    hash.Hash64
	verbose bool
	lines   []string
	// reached counts what was traced, if set.
	reached map[string]int

	// calm: no faults, before the chaos and after it.
	calm      bool
	violation *violation
	// looked is when to look again whether the cluster is well.
	looked time.Duration
	// ended is when the run ended.
	ended time.Duration

	// seen is the newest image, as of a revision.
	seen    *metadata.Image
	bucket  *bucket
	etcd    *etcd
	truth   *truth
	brokers []*broker
	// living is what alive returns, nil when it has to look.
	living  []*node
	lives   uint64 // numbers processes
	clients []*producer
	readers []*reader
}

// violation is the first invariant that broke.
type violation struct {
	kind string
	text string
}

// runUntil performs events until the time comes or, if quiet is given, it holds.
func (w *world) runUntil(at time.Duration, quiet func() bool) {
	for w.violation == nil {
		w.settle()
		if quiet != nil && quiet() {
			return
		}
		switch next := w.upcoming(at); {
		case next > w.at:
			w.sleep(next)
		case len(w.queue) > 0 && w.queue[0].at <= w.at:
			e := w.pop()
			if e.to != nil {
				e.to.deliver(e.run)
			} else {
				e.run()
			}
		default:
			return
		}
	}
}

func (w *world) violate(kind, format string, args ...any) {
	if w.violation == nil {
		w.violation = &violation{kind, fmt.Sprintf(format, args...)}
		w.trace("violation", "%s: %s", kind, w.violation.text)
	}
}

// trace feeds the run's hash and, if asked for, its log. Arguments must print the same in every run of a seed.
func (w *world) trace(what, format string, args ...any) {
	var at [8]byte
	binary.LittleEndian.PutUint64(at[:], uint64(w.now()))
	w.hash.Write(at[:])
	w.hash.Write([]byte(what))
	if w.reached != nil {
		w.reached[what]++
	}
	if w.verbose {
		w.lines = append(w.lines, fmt.Sprintf("%12v %-12s ", w.now().Round(time.Microsecond), what)+fmt.Sprintf(format, args...))
	}
}

func (w *world) chance(p float64) bool { return p > 0 && w.rng.Float64() < p }

// faulty reports whether a fault of probability p strikes now.
func (w *world) faulty(p float64) bool { return !w.calm && w.chance(p) }

// between draws a duration from [lo, hi).
func (w *world) between(lo, hi time.Duration) time.Duration {
	return lo + time.Duration(w.rng.Int64N(int64(max(hi-lo, 1))))
}

// delay draws a request's one-way delay, with a heavy tail.
func (w *world) delay() time.Duration {
	if w.faulty(w.cfg.slow) {
		return w.between(100*time.Millisecond, 12*time.Second)
	}
	return w.between(time.Millisecond, 20*time.Millisecond)
}

// look lets somebody see the state of something that changes nothing by it, and then answers. What is seen is that of the moment of the
// call or of the answer, which is nearer: the earliest and the latest tell readers as much as what is between, in one event.
func (w *world) look(there, back time.Duration, see func() (answer func())) {
	if there < back {
		w.after(there+back, see())
		return
	}
	w.after(there+back, func() { see()() })
}

// pick draws one of some.
func pick[T any](w *world, of []T) (x T, ok bool) {
	if len(of) == 0 {
		return x, false
	}
	return of[w.rng.IntN(len(of))], true
}

// sortedKeys makes the order of a map's keys the same in every run.
func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
