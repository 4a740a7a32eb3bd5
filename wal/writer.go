package wal

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tidemill/tidemill/objectstore"
)

// A Writer appends to the log of one life. All methods may be called concurrently; Run is called once.
type Writer struct {
	store   objectstore.Store
	sink    Sink
	opts    Options
	core    *core // owned by Run
	started time.Time
	wake    chan struct{}
	results chan result
	ended   chan struct{}

	inbox inbox

	committed atomic.Int64
	// proven is when the youngest committed slot was cut, as time since started.
	proven atomic.Int64
	// openBytes counts appended bytes that are not cut.
	openBytes atomic.Int64
	// oldest is when the oldest uncommitted slot was cut, as time since started; -1 if there is none.
	oldest  atomic.Int64
	trouble atomic.Pointer[error]

	// Written by Run before it closes ended.
	outcome error
	end     struct {
		n      int64
		digest Digest
	}
}

// inbox is what Append hands to Run.
type inbox struct {
	sync.Mutex
	entries []Entry
	nudged  bool
	closing bool
	err     error
}

// result is the outcome of one attempt.
type result struct {
	flight *flight
	read   bool
	header []byte
	err    error
}

// NewWriter returns a writer for a life that the registry holds as OPEN (W1). It starts nothing: call Run. store
// should hedge slow PUTs; the writer retries by itself. Each slot's entries are read until they are cut.
func NewWriter(life Life, store objectstore.Store, sink Sink, o Options) *Writer {
	o = o.withDefaults()
	w := &Writer{
		store: store, sink: sink, opts: o,
		core:    newCore(life, o, rand.New(o.Random)),
		started: time.Now(),
		wake:    make(chan struct{}, 1),
		// One attempt per slot at a time: a send never blocks.
		results: make(chan result, MaxWindow),
		ended:   make(chan struct{}),
	}
	w.committed.Store(-1)
	w.oldest.Store(-1)
	o.Metrics.watch(w)
	return w
}

// Append adds entries to the open slot, in order and all or none. It never blocks on I/O and drops nothing: ask
// Stalled before admitting more. The writer reads entries' Data until their slot is cut; nobody may change it. Follow
// the appends of a request by Nudge. Errors: ErrFenced, ErrClosed, or an entry that no format can hold.
func (w *Writer) Append(entries ...Entry) error {
	var size int64
	for i := range entries {
		if err := entries[i].check(); err != nil {
			return err
		}
		size += int64(len(entries[i].Data))
	}
	w.inbox.Lock()
	if err := w.inbox.err; err != nil {
		w.inbox.Unlock()
		return err
	}
	first := len(w.inbox.entries) == 0
	w.inbox.entries = append(w.inbox.entries, entries...)
	w.openBytes.Add(size)
	w.inbox.Unlock()
	if first {
		w.awake()
	}
	return nil
}

// Nudge tells that a request's appends are complete: an idle log sends them at once.
func (w *Writer) Nudge() {
	w.inbox.Lock()
	w.inbox.nudged = true
	w.inbox.Unlock()
	w.awake()
}

func (w *Writer) awake() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// Backlog returns the bytes that are not cut yet and the age of the oldest slot that is not committed (0 if none).
func (w *Writer) Backlog() (openBytes int64, oldest time.Duration) {
	if at := w.oldest.Load(); at >= 0 {
		oldest = time.Since(w.started) - time.Duration(at)
	}
	return w.openBytes.Load(), oldest
}

// Stalled reports whether produce requests should not be admitted now: a slot is unresolved for too long, or too much
// waits for one (W7). It is cheap.
func (w *Writer) Stalled() bool {
	open, oldest := w.Backlog()
	return open > w.opts.MaxOpenBytes || oldest > w.opts.StallAfter
}

// Trouble returns the error of the latest attempt on the oldest slot while that needs a person (ErrDenied,
// ErrNoBucket), else nil.
func (w *Writer) Trouble() error {
	if err := w.trouble.Load(); err != nil {
		return *err
	}
	return nil
}

// Committed returns the sequence number of the last committed slot, or -1.
func (w *Writer) Committed() int64 { return w.committed.Load() }

// ProvenAt returns a moment at which the log had certainly not been ended by others: its youngest committed slot was put later.
func (w *Writer) ProvenAt() time.Time { return w.started.Add(time.Duration(w.proven.Load())) }

// Close ends the log (W8): it takes no more entries, waits until all are committed and writes CLOSE behind them. nil:
// hand End to Registry.FinishSeal next. ErrFenced: someone else ended the log first; what was committed stays so.
// After ctx ended the closing goes on until Run's context ends; Close may be called again.
func (w *Writer) Close(ctx context.Context) error {
	w.inbox.Lock()
	w.inbox.closing = true
	if w.inbox.err == nil {
		w.inbox.err = ErrClosed
	}
	w.inbox.Unlock()
	w.awake()
	select {
	case <-w.ended:
		return w.outcome
	case <-ctx.Done():
		return fmt.Errorf("close log: %w", ctx.Err())
	}
}

// End returns the number of slots and the digest of the last one. It is valid after Close returned nil.
func (w *Writer) End() (n int64, digest Digest) { return w.end.n, w.end.digest }

// Run writes slots until the writer is closed (nil), fenced (ErrFenced) or ctx ends (its error: as in a crash,
// nothing more is acknowledged). It calls the sink.
func (w *Writer) Run(ctx context.Context) error {
	attempts, cancel := context.WithCancel(ctx)
	var group sync.WaitGroup
	err := w.loop(ctx, func(a func(context.Context)) { group.Go(func() { a(attempts) }) })
	cancel()
	group.Wait()
	w.outcome = err
	close(w.ended)
	return err
}

// loop drives the core. spawn runs an attempt.
func (w *Writer) loop(ctx context.Context, spawn func(func(context.Context))) error {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		w.drain()
		open := w.core.openBytes
		again := w.core.step(w.now())
		w.openBytes.Add(w.core.openBytes - open)
		for _, a := range w.core.take() {
			w.perform(a, spawn)
		}
		w.observe()
		switch {
		case w.core.closed:
			return nil
		case w.core.fenced != nil:
			return w.core.fenced
		case again == never:
			timer.Stop()
		default:
			timer.Reset(again - w.now())
		}
		select {
		case <-w.wake:
		case r := <-w.results:
			w.settle(r)
		case <-timer.C:
		case <-ctx.Done():
			w.refuse(ErrClosed)
			return fmt.Errorf("write log: %w", ctx.Err())
		}
	}
}

func (w *Writer) now() time.Duration { return time.Since(w.started) }

// drain moves the inbox into the core.
func (w *Writer) drain() {
	w.inbox.Lock()
	entries, nudged, closing := w.inbox.entries, w.inbox.nudged, w.inbox.closing
	w.inbox.entries, w.inbox.nudged = w.core.spare(), false
	w.inbox.Unlock()
	w.core.append(w.now(), entries)
	if nudged {
		w.core.nudge()
	}
	if closing {
		w.core.close()
	}
}

func (w *Writer) settle(r result) {
	if r.read {
		w.core.readDone(w.now(), r.flight, r.header, r.err)
		return
	}
	w.core.putDone(w.now(), r.flight, r.err)
}

func (w *Writer) perform(a action, spawn func(func(context.Context))) {
	switch a.kind {
	case actPut:
		w.opts.Metrics.put(a.flight.attempts)
		spawn(func(ctx context.Context) { w.put(ctx, a.flight, w.timeout(a.flight)) })
	case actRead:
		w.opts.Metrics.conflict()
		spawn(func(ctx context.Context) { w.read(ctx, a.flight, w.timeout(a.flight)) })
	case actCommit:
		w.committed.Store(a.flight.slot.Seq)
		w.proven.Store(int64(a.flight.since))
		w.opts.Metrics.committed(&a.flight.slot, w.now()-a.flight.since)
		w.sink.Committed(&a.flight.slot)
		a.flight.slot.Object.Release()
	case actClosed:
		w.end.n, w.end.digest = a.flight.slot.Seq, w.core.closedPrev
	case actFenced:
		w.refuse(a.err)
		w.opts.Logger.Error("life is fenced", "committed", w.Committed(), "error", a.err)
		w.sink.Fenced(a.err)
	case actAlarm:
		w.opts.Metrics.alarm()
		w.opts.Logger.Error("object store contradicts itself", "key", a.flight.slot.Key, "error", a.err)
	}
}

// timeout bounds an attempt. It grows, or a link too slow for one slot would never get one through.
func (w *Writer) timeout(f *flight) time.Duration { return w.opts.AttemptTimeout << min(f.failures, 3) }

func (w *Writer) put(ctx context.Context, f *flight, timeout time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	w.results <- result{flight: f, err: objectstore.PutBody(ctx, w.store, f.slot.Key, f.slot.Object.body())}
}

func (w *Writer) read(ctx context.Context, f *flight, timeout time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	header := make([]byte, HeaderLen)
	err := w.store.ReadAt(ctx, f.slot.Key, header, 0)
	w.results <- result{flight: f, read: true, header: header, err: err}
}

// refuse makes every later Append fail with err.
func (w *Writer) refuse(err error) {
	w.inbox.Lock()
	w.inbox.err = err
	w.inbox.entries = nil
	w.inbox.Unlock()
}

// observe publishes the state of the core.
func (w *Writer) observe() {
	oldest, trouble := int64(-1), error(nil)
	if len(w.core.flights) > 0 {
		oldest = int64(w.core.flights[0].cutAt)
		trouble = w.core.flights[0].trouble
	}
	w.oldest.Store(oldest)
	switch old := w.Trouble(); {
	case trouble != nil && old == nil:
		w.opts.Logger.Error("object store refuses slots", "error", trouble)
		w.trouble.Store(&trouble)
	case trouble == nil && old != nil:
		w.opts.Logger.Info("object store takes slots again")
		w.trouble.Store(nil)
	}
	w.opts.Metrics.state(len(w.core.flights), w.openBytes.Load())
}

// check refuses what a slot cannot hold; only a bug makes such an entry.
func (e *Entry) check() error {
	if len(e.Data) == 0 || len(e.Data) > maxEntryBytes || e.BaseOffset < 0 || e.LastOffset < e.BaseOffset ||
		e.Partition.Partition < 0 {
		return fmt.Errorf("wal: entry of %s at offsets %d to %d with %d bytes", e.Partition, e.BaseOffset, e.LastOffset, len(e.Data))
	}
	return nil
}
