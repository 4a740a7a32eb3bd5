package wal

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/tidemill/tidemill/objectstore"
)

// badHeaderMax is how often in a row the object in our way may read as the same nonsense before we believe it and
// stop: a truncated or flipped read is gone at the next attempt.
const badHeaderMax = 5

// core is the writer's state machine (W2-W8). It does no I/O, reads no clock and starts nothing: its driver feeds it
// what happened and performs the actions it returns. It is owned by one goroutine.
type core struct {
	policy  flushPolicy
	budget  putBudget
	windows *Windows
	encoder slotEncoder
	rng     *rand.Rand
	faults  coreFaults

	open []Entry
	// unused is an empty slice with the memory of earlier open batches.
	unused    []Entry
	openBytes int64
	openSince time.Duration
	nudged    bool

	nextSeq   int64
	committed int64
	// flights are the slots above committed, in order: sent, or resolved while an earlier one is not (W3, W5).
	flights []*flight
	lastCut time.Duration
	// together is how many slots may be put again at a time.
	together int

	closing bool
	closed  bool
	// closedPrev is the digest of the slot before CLOSE.
	closedPrev Digest
	fenced     error

	actions []action
}

// coreFaults are the violations that simulations must find. Production code never sets them.
type coreFaults struct {
	ackAlone       bool // variant 3
	conflictIsMine bool // variant 9
	giveUp         bool // variant 11
}

// flight is a slot between its cut and its commit.
type flight struct {
	slot   Slot
	digest Digest
	kind   Kind
	state  flightState
	// attempts counts PUTs, failures the attempts of any kind that did not decide anything since the slot was cut.
	attempts int
	failures int
	// badHeader is the unreadable header read last, and badHeaders how often in a row.
	badHeader  []byte
	badHeaders int
	// retryAt is when state becomes next, while waiting.
	retryAt time.Duration
	next    flightState
	cutAt   time.Duration
	since   time.Duration
	trouble error
}

type flightState uint8

const (
	flightPutting flightState = iota
	flightReading
	flightWaiting
	flightMine
)

type actionKind uint8

const (
	// actPut: store flight's object under its key; answer by putDone.
	actPut actionKind = iota
	// actRead: read the first HeaderLen bytes of the object under flight's key; answer by readDone.
	actRead
	// actCommit: tell the sink.
	actCommit
	// actFenced: tell the sink; nothing follows.
	actFenced
	// actClosed: CLOSE is durable; nothing follows.
	actClosed
	// actAlarm: log err, which no correct store causes.
	actAlarm
)

type action struct {
	kind   actionKind
	flight *flight
	err    error
}

func newCore(life Life, o Options, rng *rand.Rand) *core {
	return &core{
		policy: flushPolicy{
			window: o.Window, slotBytes: int64(o.SlotBytes), interval: o.FlushInterval, putsPerSecond: o.PutsPerSecond,
			eagerBytes: o.EagerBytes,
		},
		budget:    newPutBudget(o.PutsPerSecond, o.EagerBytes),
		windows:   o.Windows,
		encoder:   newSlotEncoder(o.Cluster, life, o.Memory),
		rng:       rng,
		committed: -1,
		together:  1,
		// A log that never cut a slot owes its first batch no wait.
		lastCut: -time.Hour,
	}
}

// append adds entries to the open batches and takes over the slice.
func (c *core) append(now time.Duration, entries []Entry) {
	for i := range entries {
		c.openBytes += int64(len(entries[i].Data))
		c.budget.earn(int64(len(entries[i].Data)))
	}
	if len(c.open) > 0 {
		c.open = append(c.open, entries...)
		clear(entries)
		c.unused = entries[:0]
		return
	}
	c.openSince = now
	c.unused = c.open
	c.open = entries
}

// spare returns an empty slice to append entries to.
func (c *core) spare() []Entry {
	s := c.unused
	c.unused = nil
	return s
}

// nudge notes that the appends of a request are complete.
func (c *core) nudge() { c.nudged = len(c.open) > 0 }

// close asks for CLOSE once everything is committed.
func (c *core) close() { c.closing = true }

// done reports whether the machine has stopped for good.
func (c *core) done() bool { return c.closed || c.fenced != nil }

// take returns the actions that came up since the last take. They must be performed in order.
func (c *core) take() []action {
	a := c.actions
	c.actions = nil
	return a
}

// step does what is due and returns when to call it again though nothing happened.
func (c *core) step(now time.Duration) (again time.Duration) {
	if c.done() {
		return never
	}
	again = c.retry(now)
	for {
		cut, at := c.decide(now)
		if !cut {
			again = min(again, at)
			break
		}
		c.cut(now)
	}
	if c.closing && len(c.open) == 0 && len(c.flights) == 0 {
		c.cutClose(now)
	}
	return again
}

func (c *core) decide(now time.Duration) (bool, time.Duration) {
	if c.closing && len(c.open) > 0 {
		return len(c.flights) < c.policy.window, never
	}
	c.budget.refill(now)
	return c.policy.decide(flushState{
		now: now, openBytes: c.openBytes, openSince: c.openSince, nudged: c.nudged, inFlight: len(c.flights),
		windowsFull: c.openBytes > 0 && c.windows.Full(), lastCut: c.lastCut,
		tokens: c.budget.tokens, tokensPerSecond: c.budget.rate(),
	})
}

// cut fixes the bytes of the next slot (W2) and sends it. decide has checked the window (W3).
func (c *core) cut(now time.Duration) {
	n, size := 0, int64(0)
	for n < len(c.open) && (n == 0 || size+int64(len(c.open[n].Data)) <= c.policy.slotBytes) {
		size += int64(len(c.open[n].Data))
		n++
	}
	object, chunks, h := c.encoder.data(c.nextSeq, c.open[:n])
	since := c.openSince
	c.open = slices.Delete(c.open, 0, n)
	c.openBytes -= size
	c.openSince = now
	c.nudged = c.nudged && len(c.open) > 0
	c.budget.take()
	c.launch(now, since, object, chunks, h)
}

func (c *core) cutClose(now time.Duration) {
	object, h := c.encoder.close(c.nextSeq)
	c.closedPrev = h.Prev
	c.launch(now, now, object, nil, h)
}

func (c *core) launch(now, since time.Duration, object *Object, chunks []Chunk, h Header) {
	f := &flight{
		slot:   Slot{Life: h.Life, Seq: h.Seq, Key: SlotKey(h.Life, h.Seq), Object: object, Chunks: chunks},
		digest: h.Digest, kind: h.Kind, cutAt: now, since: since,
	}
	c.nextSeq++
	c.lastCut = now
	c.flights = append(c.flights, f)
	c.send(f, flightPutting)
}

// send starts an attempt. There is at most one attempt per slot at a time; hedges are the store's business.
func (c *core) send(f *flight, what flightState) {
	f.state = what
	if what == flightReading {
		c.act(actRead, f, nil)
		return
	}
	f.attempts++
	c.act(actPut, f, nil)
}

func (c *core) act(kind actionKind, f *flight, err error) {
	c.actions = append(c.actions, action{kind, f, err})
}

// putDone takes the outcome of a PUT (W4).
func (c *core) putDone(now time.Duration, f *flight, err error) {
	if c.done() || f.state != flightPutting {
		return
	}
	f.trouble = nil
	switch {
	case err == nil:
		c.mine(now, f)
	case errors.Is(err, objectstore.ErrConflict):
		// Ours or not: only the object says. A conflict outranks whatever else the error wraps, as for a pair of
		// hedged PUTs.
		if c.faults.conflictIsMine {
			c.mine(now, f)
			return
		}
		c.send(f, flightReading)
	default:
		// Unknown, or denied with earlier attempts unknown: the same bytes again, never others, never the next slot.
		if errors.Is(err, objectstore.ErrDenied) || errors.Is(err, objectstore.ErrNoBucket) {
			f.trouble = err
		}
		if c.faults.giveUp {
			c.forget(now, f)
			return
		}
		c.together = 1
		c.wait(now, f, flightPutting)
	}
}

// readDone takes the header of the object in our way.
func (c *core) readDone(now time.Duration, f *flight, header []byte, err error) {
	if c.done() || f.state != flightReading {
		return
	}
	switch {
	case err == nil && f.slot.Object.begins(header):
		c.mine(now, f)
	case err == nil:
		c.judge(now, f, header)
	case errors.Is(err, objectstore.ErrNotFound):
		// Taken, yet absent: the store contradicts itself, or the slot was deleted after our end was decided. Our
		// bytes may take it: at or behind a Seal the key cannot be absent (G3).
		c.act(actAlarm, f, corruptf("slot %d conflicts but is absent", f.slot.Seq))
		c.wait(now, f, flightPutting)
	case errors.Is(err, objectstore.ErrRange):
		c.badHeader(now, f, nil, corruptf("object at slot %d is shorter than a header", f.slot.Seq))
	default:
		c.wait(now, f, flightReading)
	}
}

// judge looks at a header that is not byte for byte ours.
func (c *core) judge(now time.Duration, f *flight, header []byte) {
	h, err := DecodeHeader(header)
	if err != nil {
		c.badHeader(now, f, header, err)
		return
	}
	c.fence(&FencedError{Seq: f.slot.Seq, Found: h})
}

// badHeader reads again, since reads can be torn; if the object stays unreadable it is not ours, and the log cannot
// go on behind it.
func (c *core) badHeader(now time.Duration, f *flight, header []byte, err error) {
	c.act(actAlarm, f, err)
	if !bytes.Equal(header, f.badHeader) {
		f.badHeader, f.badHeaders = header, 0
	}
	f.badHeaders++
	if f.badHeaders >= badHeaderMax {
		c.fence(&FencedError{Seq: f.slot.Seq, Cause: err})
		return
	}
	c.wait(now, f, flightReading)
}

// mine resolves a slot as ours and commits the prefix that became complete (W5).
func (c *core) mine(now time.Duration, f *flight) {
	if f.failures > 0 {
		c.together = min(2*c.together, MaxWindow)
	}
	f.state, f.trouble = flightMine, nil
	if c.faults.ackAlone && f.kind == KindData {
		c.act(actCommit, f, nil)
	}
	n := 0
	for n < len(c.flights) && c.flights[n].state == flightMine {
		done := c.flights[n]
		n++
		if done.kind == KindClose {
			c.closed = true
			c.act(actClosed, done, nil)
			continue
		}
		// CLOSE does not count: trim may rise to the slot after committed, but never over an end (G3).
		c.committed = done.slot.Seq
		if !c.faults.ackAlone {
			c.act(actCommit, done, nil)
		}
	}
	c.retire(n)
}

// retire removes the first n flights.
func (c *core) retire(n int) {
	c.flights = slices.Delete(c.flights, 0, n)
	if n > 0 && len(c.flights) == 0 {
		c.nudge()
	}
}

// forget is fault 11: the slot is taken as failed and the log goes on behind it.
func (c *core) forget(now time.Duration, f *flight) {
	i := slices.Index(c.flights, f)
	c.flights = slices.Delete(c.flights, i, i+1)
	if len(c.flights) > 0 && i == 0 && c.flights[0].state == flightMine {
		c.mine(now, c.flights[0])
	}
}

// fence stops the machine (W6).
func (c *core) fence(err error) {
	c.fenced = err
	c.act(actFenced, nil, err)
}
