package sim

import (
	"cmp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing/synctest"
	"time"
)

// clock is the order in which things happen in a run: events of the world, and what goroutines of the code under test ask for. It lets
// the goroutines run only when one of them can: to see that nobody has anything to do costs as much as an event.
type clock struct {
	begun time.Time
	// at is the present, for the world; goroutines ask passed.
	at    time.Duration
	queue []event
	seq   uint64

	mu     sync.Mutex
	posted []post // guarded by mu
	asleep bool   // guarded by mu: whoever posts ends the world's sleep
	taken  []post
	alarm  *time.Timer
	// stirred: a goroutine may have something to do.
	stirred atomic.Bool
	// jobs goes to goroutines that have done what they were started for, whose stacks have grown already.
	jobs chan func()
}

// event is something that will happen.
type event struct {
	at  time.Duration
	seq uint64
	run func()
	// to, if set, is who it happens to: at once, when it goes on, or never.
	to *process
	// over, if set, tells that it need not happen any more.
	over *bool
}

func (e *event) before(f *event) bool {
	return e.at < f.at || e.at == f.at && e.seq < f.seq
}

func (e *event) void() bool { return e.to != nil && e.to.dead || e.over != nil && *e.over }

// post is what a goroutine of a process asks the world to do. what orders those that come at the same moment.
type post struct {
	from *process
	what string
	run  func()
}

func newClock() *clock {
	return &clock{begun: time.Now(), alarm: time.NewTimer(time.Hour), jobs: make(chan func())}
}

func (c *clock) now() time.Duration { return c.at }

// passed is the time that has passed, for any goroutine.
func (c *clock) passed() time.Duration { return time.Since(c.begun) }

// post may be called by any goroutine; run is called by the world for the process, and only makes events.
func (c *clock) post(from *process, what string, run func()) {
	c.mu.Lock()
	c.posted = append(c.posted, post{from, what, run})
	wake := c.asleep
	c.asleep = false
	c.mu.Unlock()
	if wake {
		c.alarm.Reset(0)
	}
}

// after performs f when d has passed.
func (c *clock) after(d time.Duration, f func()) { c.push(event{at: c.at + max(d, 0), run: f}) }

// push adds an event. The queue is a heap.
func (c *clock) push(e event) {
	c.seq++
	e.seq = c.seq
	q := append(c.queue, e)
	i := len(q) - 1
	for up := (i - 1) / 2; i > 0 && e.before(&q[up]); up = (i - 1) / 2 {
		q[i], i = q[up], up
	}
	q[i], c.queue = e, q
}

// pop takes the next event.
func (c *clock) pop() event {
	q := c.queue
	next, last := q[0], q[len(q)-1]
	q[len(q)-1] = event{}
	q = q[:len(q)-1]
	i := 0
	for kid := 1; kid < len(q); kid = 2*i + 1 {
		if kid+1 < len(q) && q[kid+1].before(&q[kid]) {
			kid++
		}
		if last.before(&q[kid]) {
			break
		}
		q[i], i = q[kid], kid
	}
	if len(q) > 0 {
		q[i] = last
	}
	c.queue = q
	return next
}

// upcoming drops events that need not happen and returns when the next one will, at most limit.
func (c *clock) upcoming(limit time.Duration) time.Duration {
	for len(c.queue) > 0 {
		if e := &c.queue[0]; !e.void() {
			return min(e.at, limit)
		}
		c.pop()
	}
	return limit
}

// settle lets everybody run until all wait, and takes what they posted.
func (c *clock) settle() {
	for c.stirred.Swap(false) {
		synctest.Wait()
		c.mu.Lock()
		c.posted, c.taken = c.taken[:0], c.posted
		c.mu.Unlock()
		slices.SortStableFunc(c.taken, func(a, b post) int {
			return cmp.Or(strings.Compare(a.from.name, b.from.name), strings.Compare(a.what, b.what))
		})
		for i := range c.taken {
			p := &c.taken[i]
			p.from.deliver(p.run)
			p.run = nil
		}
	}
}

// sleep lets time pass until a moment, or until somebody posts.
func (c *clock) sleep(until time.Duration) {
	c.mu.Lock()
	c.asleep = true
	c.mu.Unlock()
	c.alarm.Reset(until - c.at)
	<-c.alarm.C
	c.mu.Lock()
	c.asleep = false
	c.mu.Unlock()
	c.at = c.passed()
	c.stirred.Store(true)
}

// start runs f in a goroutine.
func (c *clock) start(f func()) {
	c.stirred.Store(true)
	select {
	case c.jobs <- f:
	default:
		go func() {
			f()
			for f := range c.jobs {
				f()
			}
		}()
	}
}
