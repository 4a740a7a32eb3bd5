package sim

import (
	"cmp"
	"container/heap"
	"encoding/binary"
	"fmt"
	"hash"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing/synctest"
	"time"

	"github.com/tidemill/tidemill/metadata"
)

// world is one seeded run of a cluster. The code under test runs in goroutines of a synctest bubble, but only one thing happens at a
// time: the world performs an event, lets everybody run until all wait, takes what they ask for in an order of its own, and turns that
// into later events. So a seed names one run, whatever the scheduler of the machine does.
type world struct {
	cfg   config
	rng   *rand.Rand
	begun time.Time
	queue eventQueue
	seq   uint64

	mu     sync.Mutex
	posted []post // guarded by mu
	wake   chan struct{}
	alarm  *time.Timer

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
	lives   uint64 // numbers processes
	clients []*producer
	readers []*reader
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
	old[len(old)-1] = event{}
	*q = old[:len(old)-1]
	return e
}

// post is what a goroutine asks the world to do. what orders those that come at the same moment.
type post struct {
	what string
	run  func()
}

func (w *world) now() time.Duration { return time.Since(w.begun) }

// post may be called by any goroutine; run is called by the world, and only makes events.
func (w *world) post(what string, run func()) {
	w.mu.Lock()
	w.posted = append(w.posted, post{what, run})
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// after performs f when d has passed.
func (w *world) after(d time.Duration, f func()) {
	w.seq++
	heap.Push(&w.queue, event{w.now() + max(d, 0), w.seq, f})
}

// settle lets everybody run until all wait, and takes what they posted.
func (w *world) settle() {
	for {
		synctest.Wait()
		w.mu.Lock()
		posted := w.posted
		w.posted = nil
		w.mu.Unlock()
		if len(posted) == 0 {
			return
		}
		slices.SortStableFunc(posted, func(a, b post) int { return strings.Compare(a.what, b.what) })
		for _, p := range posted {
			p.run()
		}
	}
}

// runUntil performs events until the time comes or, if quiet is given, it holds.
func (w *world) runUntil(at time.Duration, quiet func() bool) {
	for w.violation == nil {
		w.settle()
		if quiet != nil && quiet() {
			return
		}
		now, next := w.now(), at
		if len(w.queue) > 0 {
			next = min(next, w.queue[0].at)
		}
		switch {
		case next > now:
			w.sleep(next - now)
		case len(w.queue) > 0 && w.queue[0].at <= now:
			heap.Pop(&w.queue).(event).run()
		default:
			return
		}
	}
}

// sleep lets time pass until somebody posts.
func (w *world) sleep(d time.Duration) {
	w.alarm.Reset(d)
	select {
	case <-w.alarm.C:
	case <-w.wake:
		w.alarm.Stop()
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
