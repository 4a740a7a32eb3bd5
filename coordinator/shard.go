package coordinator

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// A shard is one machine with what is queued for it and what waits for its journal.
type shard[M Machine] struct {
	id int32

	// Guarded by the runtime's mu.
	queue     []event[M]
	scheduled bool // a worker has it, or it is in ready
	unloading bool // its last event is queued
	next      *Snapshot
	wake      time.Time // what its timer is set to; zero means none
	cancel    context.CancelFunc

	// Owned by the worker that has the shard.
	phase     phase
	machine   M
	pending   []Record // of the batch that is not yet appended
	bytes     int      // of pending
	written   int64    // batches given to the journal
	committed int64    // batches known to be committed; at most written
	end       int64    // offset after the last committed batch
	held      []held   // in the order of seq

	// Owned by the loader.
	from Snapshot
}

type phase uint8

const (
	phaseLoading phase = iota
	phaseActive
	phaseDropped
)

// held is a reply that waits until batch number seq is committed.
type held struct {
	seq      int64
	deadline time.Time
	reply    Reply
}

type eventKind uint8

const (
	eventOp eventKind = iota
	eventTick
	eventSnapshot
	eventLoaded
	eventCommitted
	eventUnload
)

type event[M Machine] struct {
	kind     eventKind
	op       func(m M, now time.Time, out *Output)
	write    bool           // op
	fail     func(error)    // op, snapshot
	snapshot func(Snapshot) // snapshot
	machine  M              // loaded
	seq      int64          // committed
	end      int64          // loaded, committed
	err      error          // committed
}

// runShard handles all events that are queued, cuts a batch of what they wrote, and sets the timer.
func (r *Runtime[M]) runShard(s *shard[M]) {
	r.mu.Lock()
	events := s.queue
	s.queue = nil
	r.mu.Unlock()
	for _, e := range events {
		r.handle(s, e)
	}
	r.flush(s)
	wake := s.nextWake()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mu.shards[s.id] == s {
		r.rearmLocked(s, wake)
	}
	if s.scheduled = len(s.queue) > 0; s.scheduled {
		r.mu.ready = append(r.mu.ready, s)
		r.mu.work.Broadcast()
	}
}

func (r *Runtime[M]) handle(s *shard[M], e event[M]) {
	switch e.kind {
	case eventOp, eventSnapshot:
		switch {
		case s.phase == phaseLoading:
			e.fail(ErrLoading)
		case s.phase == phaseDropped:
			e.fail(ErrNotCoordinator)
		case e.write && r.waiting.Load() > r.o.WaitingMax:
			e.fail(ErrUnavailable)
		case e.kind == eventSnapshot:
			r.snapshot(s, e)
		default:
			r.step(s, func(now time.Time, out *Output) { e.op(s.machine, now, out) })
		}
	case eventTick:
		if s.phase == phaseActive {
			r.expireHeld(s)
			r.step(s, func(now time.Time, out *Output) { s.machine.Tick(now, out) })
		}
	case eventLoaded:
		if s.phase == phaseLoading {
			s.phase, s.machine, s.end = phaseActive, e.machine, e.end
			r.step(s, func(now time.Time, out *Output) { s.machine.Loaded(now, out) })
		}
	case eventCommitted:
		if s.phase == phaseActive {
			r.onCommitted(s, e)
		}
	case eventUnload:
		if s.phase != phaseDropped {
			r.drop(s, ErrNotCoordinator)
		}
	}
}

// step gives the machine one input and deals with its output.
func (r *Runtime[M]) step(s *shard[M], input func(now time.Time, out *Output)) {
	now := r.o.Clock.Now()
	var out Output
	input(now, &out)
	size := 0
	for _, rec := range out.records {
		size += recordBytes(rec)
	}
	if s.bytes+size > r.o.BatchBytesMax {
		r.flush(s)
	}
	for _, rec := range out.records {
		if out.split && s.bytes+recordBytes(rec) > r.o.BatchBytesMax {
			r.flush(s)
		}
		s.pending = append(s.pending, rec)
		s.bytes += recordBytes(rec)
	}
	for _, reply := range out.replies {
		r.hold(s, now, reply)
	}
}

// recordBytes is about what a record takes in a batch.
func recordBytes(rec Record) int { return len(rec.Key) + len(rec.Value) + recordOverhead }

// recordOverhead is the most that lengths, attributes and deltas add to key and value in a v2 record.
const recordOverhead = 32

// hold sends the reply when all that was written so far is committed. Nothing overtakes: a reply that depends on no
// record may still depend on state that another input has written.
func (r *Runtime[M]) hold(s *shard[M], now time.Time, reply Reply) {
	seq := s.written
	if len(s.pending) > 0 {
		seq++
	}
	if seq == s.committed {
		reply(nil)
		return
	}
	s.held = append(s.held, held{seq: seq, deadline: now.Add(r.o.CommitTimeout), reply: reply})
}

// flush appends what is pending as one batch.
func (r *Runtime[M]) flush(s *shard[M]) {
	if len(s.pending) == 0 || s.phase != phaseActive {
		return
	}
	records, size := s.pending, int64(s.bytes)
	s.pending, s.bytes = nil, 0
	r.waiting.Add(size)
	s.written++
	seq := s.written
	r.journal.Append(s.id, records, r.o.Clock.Now(), func(base int64, err error) {
		r.waiting.Add(-size)
		r.mu.Lock()
		defer r.mu.Unlock()
		r.queueLocked(s, event[M]{kind: eventCommitted, seq: seq, end: base + int64(len(records)), err: err})
	})
}

func (r *Runtime[M]) onCommitted(s *shard[M], e event[M]) {
	if e.err == nil && e.seq != s.committed+1 {
		e.err = fmt.Errorf("batch %d of shard %d committed after batch %d", e.seq, s.id, s.committed)
	}
	if e.err != nil {
		r.fail(s, e.err)
		return
	}
	s.committed, s.end = e.seq, e.end
	n := 0
	for n < len(s.held) && s.held[n].seq <= s.committed {
		s.held[n].reply(nil)
		n++
	}
	s.held = s.held[n:]
}

// fail drops the shard because its journal refused a batch. Whether batches behind that one will be committed is not
// known here: the state is rebuilt by a load.
func (r *Runtime[M]) fail(s *shard[M], err error) {
	r.o.Logger.Warn("coordinator shard dropped", "shard", s.id, "error", err)
	answer := ErrUnavailable
	if errors.Is(err, ErrFenced) {
		answer = ErrNotCoordinator
	}
	r.mu.Lock()
	chosen := s.unloading
	s.unloading = true
	r.mu.Unlock()
	r.drop(s, answer)
	if !chosen {
		r.o.Dropped(s.id, err)
	}
}

// expireHeld answers those who have waited too long for a commit.
func (r *Runtime[M]) expireHeld(s *shard[M]) {
	now := r.o.Clock.Now()
	n := 0
	for n < len(s.held) && !s.held[n].deadline.After(now) {
		s.held[n].reply(ErrUnavailable)
		n++
	}
	s.held = s.held[n:]
}

// snapshot answers with the state as it is once all that led to it is committed.
func (r *Runtime[M]) snapshot(s *shard[M], e event[M]) {
	r.flush(s)
	blob := encodeSnapshot(s.machine.Records)
	r.hold(s, r.o.Clock.Now(), func(err error) {
		if err != nil {
			e.fail(err)
			return
		}
		e.snapshot(Snapshot{Offset: s.end, Blob: blob})
	})
}

// nextWake says when the shard has something to do though nobody asks.
func (s *shard[M]) nextWake() time.Time {
	if s.phase != phaseActive {
		return time.Time{}
	}
	wake, ok := s.machine.NextTick()
	if !ok {
		wake = time.Time{}
	}
	if len(s.held) > 0 && (wake.IsZero() || s.held[0].deadline.Before(wake)) {
		wake = s.held[0].deadline
	}
	return wake
}
