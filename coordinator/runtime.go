package coordinator

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// Options are the settings of a Runtime. The zero value works.
type Options struct {
	Workers       int           // goroutines that run machines; 0 means 4
	BatchBytesMax int           // records of several outputs share a batch up to this size; 0 means 1 MiB
	WaitingMax    int64         // bytes of records on their way beyond which SubmitWrite is refused; 0 means 16 MiB
	CommitTimeout time.Duration // a reply that waits longer for its commit is sent ErrUnavailable; 0 means 5 s, as in Kafka
	Clock         Clock         // nil means the system's
	Logger        *slog.Logger  // nil means none
	// Dropped is called when a shard was dropped because an append failed; err is what the journal said. Unless err
	// wraps ErrFenced the callee should Load the shard again. Called from any goroutine.
	Dropped func(shard int32, err error)
}

func (o Options) withDefaults() Options {
	if o.Workers <= 0 {
		o.Workers = 4
	}
	if o.BatchBytesMax <= 0 {
		o.BatchBytesMax = 1 << 20
	}
	if o.WaitingMax <= 0 {
		o.WaitingMax = 16 << 20
	}
	if o.CommitTimeout <= 0 {
		o.CommitTimeout = 5 * time.Second
	}
	if o.Clock == nil {
		o.Clock = systemClock{}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Dropped == nil {
		o.Dropped = func(int32, error) {}
	}
	return o
}

// A Clock tells and keeps time.
type Clock interface {
	Now() time.Time
	// Timer returns a channel that receives once, d from now, unless stop is called before.
	Timer(d time.Duration) (fired <-chan time.Time, stop func())
}

type systemClock struct{}

func (systemClock) Now() time.Time { return time.Now() }

func (systemClock) Timer(d time.Duration) (<-chan time.Time, func()) {
	t := time.NewTimer(d)
	return t.C, func() { t.Stop() }
}

// Runtime runs one machine per loaded shard. Its methods may be called concurrently.
type Runtime[M Machine] struct {
	journal    Journal
	newMachine func(shard int32) M
	o          Options

	rearmed   chan struct{} // has one element when the earliest timer changed
	replaying chan struct{} // bounds the replays that run at a time
	// waiting is the bytes of records that the journal was given and has not committed.
	waiting atomic.Int64

	// mu is held for moments: no call leaves the package under it.
	mu struct {
		sync.Mutex
		work   *sync.Cond // ready, loads or closed changed
		shards map[int32]*shard[M]
		ready  []*shard[M] // shards with events that no worker has
		loads  []*shard[M] // shards that no loader has
		timers Timers[int32]
		closed bool
	}
}

// New returns a runtime that makes machines with newMachine. Nothing runs until Run is called.
func New[M Machine](journal Journal, newMachine func(shard int32) M, o Options) *Runtime[M] {
	r := &Runtime[M]{
		journal:    journal,
		newMachine: newMachine,
		o:          o.withDefaults(),
		rearmed:    make(chan struct{}, 1),
		replaying:  make(chan struct{}, replaysMax),
	}
	r.mu.work = sync.NewCond(&r.mu.Mutex)
	r.mu.shards = make(map[int32]*shard[M])
	return r
}

// Run does all work until ctx ends. Then it drops every shard (ErrNotCoordinator) and returns nil. It runs once.
func (r *Runtime[M]) Run(ctx context.Context) error {
	var g errgroup.Group
	for range r.o.Workers {
		g.Go(r.runWorker)
	}
	g.Go(func() error { return r.runLoads(ctx) })
	g.Go(func() error { return r.runTimers(ctx) })
	<-ctx.Done()
	r.close()
	return g.Wait()
}

// Submit lets op run on the machine of the shard, after all that was submitted before. If the shard is not served, op
// is not run and fail is called instead, perhaps before Submit returns, with ErrNotCoordinator or ErrLoading. The queue
// is bounded by the callers: a connection waits for the answer before it asks again.
func (r *Runtime[M]) Submit(shard int32, op func(m M, now time.Time, out *Output), fail func(error)) {
	if !r.send(shard, event[M]{kind: eventOp, op: op, fail: fail}) {
		fail(ErrNotCoordinator)
	}
}

// SubmitWrite is Submit for an op that writes what its caller asks for. It is refused with ErrUnavailable while more than WaitingMax waits to be
// committed: the callers of that are told so after CommitTimeout and ask again, and the records of all attempts would pile up in a journal
// that is stalled.
func (r *Runtime[M]) SubmitWrite(shard int32, op func(m M, now time.Time, out *Output), fail func(error)) {
	if !r.send(shard, event[M]{kind: eventOp, write: true, op: op, fail: fail}) {
		fail(ErrNotCoordinator)
	}
}

// Snapshot returns the state of the shard as of an offset that is committed when it returns.
func (r *Runtime[M]) Snapshot(ctx context.Context, shard int32) (Snapshot, error) {
	type result struct {
		snapshot Snapshot
		err      error
	}
	done := make(chan result, 1)
	sent := r.send(shard, event[M]{
		kind:     eventSnapshot,
		snapshot: func(s Snapshot) { done <- result{snapshot: s} },
		fail:     func(err error) { done <- result{err: err} },
	})
	if !sent {
		return Snapshot{}, ErrNotCoordinator
	}
	select {
	case res := <-done:
		return res.snapshot, res.err
	case <-ctx.Done():
		return Snapshot{}, ctx.Err()
	}
}

// Shards returns the shards that are loaded or loading, in no order.
func (r *Runtime[M]) Shards() []int32 {
	r.mu.Lock()
	defer r.mu.Unlock()
	ids := make([]int32, 0, len(r.mu.shards))
	for id, s := range r.mu.shards {
		if !s.unloading {
			ids = append(ids, id)
		}
	}
	return ids
}

// send queues e for the shard and reports whether there is such a shard.
func (r *Runtime[M]) send(shard int32, e event[M]) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.mu.shards[shard]
	if s == nil || s.unloading || r.mu.closed {
		return false
	}
	r.queueLocked(s, e)
	return true
}

// queueLocked gives e to the shard, whatever its state.
func (r *Runtime[M]) queueLocked(s *shard[M], e event[M]) {
	s.queue = append(s.queue, e)
	if !s.scheduled {
		s.scheduled = true
		r.mu.ready = append(r.mu.ready, s)
		r.mu.work.Broadcast()
	}
}

// close ends the work: what is queued is still done, nothing more is taken.
func (r *Runtime[M]) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.mu.shards {
		s.next = nil
		r.unloadLocked(s)
	}
	r.mu.closed = true
	r.mu.work.Broadcast()
}

// runWorker runs shards until the runtime is closed and no shard has anything left to do.
func (r *Runtime[M]) runWorker() error {
	for {
		r.mu.Lock()
		for len(r.mu.ready) == 0 && !r.mu.closed {
			r.mu.work.Wait()
		}
		if len(r.mu.ready) == 0 {
			r.mu.Unlock()
			return nil
		}
		s := r.mu.ready[0]
		r.mu.ready = r.mu.ready[1:]
		r.mu.Unlock()
		r.runShard(s)
	}
}

// runTimers wakes the shards whose machine has something to do.
func (r *Runtime[M]) runTimers(ctx context.Context) error {
	for {
		wait, ok := r.fireTimers()
		var fired <-chan time.Time
		stop := func() {}
		if ok {
			fired, stop = r.o.Clock.Timer(wait)
		}
		select {
		case <-ctx.Done():
			stop()
			return nil
		case <-r.rearmed:
		case <-fired:
		}
		stop()
	}
}

// fireTimers queues a tick for every shard that is due, and returns how long the next one is away.
func (r *Runtime[M]) fireTimers() (wait time.Duration, ok bool) {
	now := r.o.Clock.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, due := r.mu.timers.Pop(now); due; id, due = r.mu.timers.Pop(now) {
		if s := r.mu.shards[id]; s != nil {
			s.wake = time.Time{}
			r.queueLocked(s, event[M]{kind: eventTick})
		}
	}
	next, ok := r.mu.timers.Next()
	return next.Sub(now), ok
}

// rearmLocked makes the timer of the shard fire at wake; the zero time means never.
func (r *Runtime[M]) rearmLocked(s *shard[M], wake time.Time) {
	if wake.Equal(s.wake) {
		return
	}
	s.wake = wake
	if wake.IsZero() {
		r.mu.timers.Cancel(s.id)
		return
	}
	r.mu.timers.Set(s.id, wake)
	if first, _ := r.mu.timers.Next(); first.Equal(wake) {
		select {
		case r.rearmed <- struct{}{}:
		default:
		}
	}
}
