package partition

import (
	"context"
	"errors"
	"fmt"

	"github.com/tidemill/tidemill/objectstore"
	"github.com/tidemill/tidemill/protocol/record"
)

// Isolation is the isolation level of a read.
type Isolation uint8

// Isolation levels, numbered as on the wire.
const (
	ReadUncommitted Isolation = iota
	ReadCommitted
)

// ReadInput says what to read.
type ReadInput struct {
	// Offset is the first wanted offset. The batch that holds it comes first, whole (F3).
	Offset int64
	// MaxBytes bounds the result.
	MaxBytes int
	// AtLeastOne returns the first batch even when it is larger than MaxBytes (F2).
	AtLeastOne bool
	// Isolation bounds the result by the high watermark or the last stable offset.
	Isolation Isolation
	// Reserve, if not nil, is asked before anything is read that may be in the store only: it may lower MaxBytes.
	Reserve func(maxBytes int) int
}

// ReadResult is what a read found.
type ReadResult struct {
	// Batches are the bytes of whole batches in offset order; each element holds one or more adjacent batches. They alias cached memory:
	// read them until Release, never write to them.
	Batches [][]byte
	// Bytes is the total length of Batches.
	Bytes int
	// State is the log at the moment the read was planned. It is also set next to an error, except ErrUnknownPartition.
	State

	held []held
	// next is the offset after the last batch, 0 if there is none.
	next int64
}

// Release lets the memory of Batches be used again. A result that is never released costs that reuse and nothing else. It is called
// once.
func (r *ReadResult) Release() {
	for _, h := range r.held {
		h.Release()
	}
	r.Batches, r.held = nil, nil
}

// nearMax is how much of segments in a store that is near is read at once, whole blocks: about four. What is loaded is then sent soon, and
// the other costs of a request hardly count.
const nearMax = 4*pieceMax - pieceMax/4

// planMax bounds the extents of one read: enough to fill a response from tiny chunks, few enough to load them all at once.
const planMax = 256

// Read returns committed batches from in.Offset on. A result may be shorter than what is there; it is empty at the high watermark, and
// when the first batch exceeds MaxBytes without AtLeastOne: nothing is loaded when MaxBytes alone says so. Errors: ErrOffsetOutOfRange, ErrUnknownPartition, ErrStorage, ErrCorrupt
// or that of ctx; one that concerns what lies behind the first batch shortens the result instead.
func (l *Log) Read(ctx context.Context, in ReadInput) (ReadResult, error) {
	res, err := l.read(ctx, in, false)
	if errors.Is(err, objectstore.ErrNotFound) { // what was planned with was rewritten meanwhile, and deleted
		res, err = l.read(ctx, in, true)
	}
	l.traffic.count(res.Bytes)
	if err != nil && !errors.Is(err, ErrUnknownPartition) && !errors.Is(err, ErrOffsetOutOfRange) {
		return res, fmt.Errorf("read %v at %d: %w", l.id, in.Offset, err)
	}
	return res, err
}

// read reads; stored: from segments, also what is in slots in memory.
func (l *Log) read(ctx context.Context, in ReadInput, stored bool) (ReadResult, error) {
	var buf [4]Extent
	plan, old, res, err := l.plan(in, stored, buf[:0])
	if err != nil || in.Offset >= res.HighWatermark || in.MaxBytes <= 0 && !in.AtLeastOne {
		return res, err
	}
	if in.Reserve != nil && (len(old.parts) > 0 || !l.set.allInTail(plan)) {
		in.MaxBytes, in.Reserve = min(in.MaxBytes, in.Reserve(in.MaxBytes)), nil
		return l.read(ctx, in, stored)
	}
	if len(old.parts) > 0 {
		if plan, err = l.planFromParts(ctx, in, &old); err != nil {
			return res, err
		}
	}
	err = l.gather(ctx, in, plan, &res)
	if err != nil && res.Bytes == 0 {
		res.Release()
		return res, err
	}
	if old.scanned && res.Bytes > 0 && !l.set.cache.near {
		l.readAhead(ctx, in.Offset, res.next, old)
	}
	return res, nil
}

// oldData is where a read that begins in segments goes on: in the extents behind those that it took, in the parts behind these, and in
// the slots behind all parts.
type oldData struct {
	scanned bool
	behind  []Extent
	parts   []Part
	recent  []Extent
}

// plan appends the extents that the read may need to buf. When they lie in segments, it returns the parts from the one that holds the
// offset on in their place, with what lies behind all parts.
func (l *Log) plan(in ReadInput, stored bool, buf []Extent) ([]Extent, oldData, ReadResult, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.gone {
		return nil, oldData{}, ReadResult{}, l.ended
	}
	res := ReadResult{State: l.stateLocked()}
	if in.Offset < l.logStart || in.Offset > l.end {
		return nil, oldData{}, res, fmt.Errorf("%w: %d is not in %d-%d of %v", ErrOffsetOutOfRange, in.Offset, l.logStart, l.end, l.id)
	}
	if n := len(l.parts); n > 0 && in.Offset <= l.parts[n-1].Last && (stored || !l.inTailLocked(in.Offset)) {
		// recent is only appended to in place, so its present elements may be read without the lock.
		recent := l.recent[l.unwrittenLocked():len(l.recent):len(l.recent)]
		return nil, oldData{scanned: true, parts: l.parts[findPart(l.parts, in.Offset):], recent: recent}, res, nil
	}
	left := in.MaxBytes
	return appendPlan(buf, l.recent, in.Offset, &left), oldData{}, res, nil
}

// inTailLocked reports whether the record at offset is in a slot in memory that still is what the log holds: compaction changes segments
// only.
func (l *Log) inTailLocked(offset int64) bool {
	i := findExtent(l.recent, offset)
	if i == len(l.recent) || l.recent[i].Base > offset {
		return false
	}
	e := &l.recent[i]
	return e.Life == l.set.life && e.Base >= l.compactedTo && l.set.tail.has(e.Seq)
}

// planFromParts returns the extents that the read may need, from the first part on, and leaves in old what lies behind them. Only an
// index that the first batch depends on fails the read.
func (l *Log) planFromParts(ctx context.Context, in ReadInput, old *oldData) (plan []Extent, err error) {
	left := in.MaxBytes
	if l.set.cache.near {
		left = min(left, nearMax)
	}
	for len(old.parts) > 0 && (left > 0 || len(plan) == 0) && len(plan) < planMax {
		p := &old.parts[0]
		if len(old.parts) > 1 && p.Bytes < int64(left) {
			key, load := l.set.indexOf(l.id, &old.parts[1])
			l.set.cache.prefetch(ctx, key, load, false)
		}
		extents, err := l.set.index(ctx, l.id, p)
		if err != nil && len(plan) == 0 {
			return nil, err
		}
		if err != nil {
			return plan, nil
		}
		was := len(plan)
		plan = appendPlan(plan, extents, in.Offset, &left)
		old.parts = old.parts[1:]
		old.behind = extents[findExtent(extents, in.Offset)+len(plan)-was:]
	}
	if len(old.parts) == 0 && len(old.behind) == 0 && left > 0 && len(plan) < planMax {
		plan = appendPlan(plan, old.recent, in.Offset, &left)
	}
	return plan, nil
}

// appendPlan appends the extents from offset on until they fill left bytes. One that begins before the offset may contribute anything:
// it does not count.
func appendPlan(plan, extents []Extent, offset int64, left *int) []Extent {
	for i := findExtent(extents, offset); i < len(extents) && len(plan) < planMax; i++ {
		plan = append(plan, extents[i])
		if offset <= extents[i].Base {
			*left -= int(extents[i].Len)
		}
		if *left <= 0 {
			break
		}
	}
	return plan
}

// gather loads the extents of plan, all at once, and adds their batches to res in order.
func (l *Log) gather(ctx context.Context, in ReadInput, plan []Extent, res *ReadResult) error {
	res.Batches = make([][]byte, 0, len(plan))
	if len(plan) > 1 {
		for i := range plan {
			l.set.prefetch(ctx, &plan[i], false)
		}
	}
	for i := range plan {
		if l.endsNear(&plan[i], in.MaxBytes, res.Bytes) {
			return nil
		}
		r, err := l.set.openChunk(ctx, &plan[i])
		if err != nil {
			return err
		}
		full := false
		if r.trusted && in.Offset <= r.e.Base && int(r.e.Len) <= in.MaxBytes-res.Bytes {
			res.Batches = r.appendRange(res.Batches, 0, r.e.Len)
			res.Bytes += int(r.e.Len)
			res.next = r.e.Last + 1
		} else {
			full, err = r.collect(ctx, in, res)
		}
		res.held = append(res.held, r.held...)
		if full || err != nil {
			return err
		}
	}
	return nil
}

// endsNear reports whether a read that has so many bytes of the most allowed ends before a block: one that does not fit whole, of a store
// that is near, is left to the next read, which then begins with it, rather than loaded for the little of it that fits and once more.
func (l *Log) endsNear(e *Extent, most, has int) bool {
	return l.set.cache.near && e.Kind == KindSegment && int(e.Len) > most-has && has > 0 && has >= most/2
}

// collect adds the chunk's batches from in.Offset on to res until it is full. Neighbours in memory become one element.
func (r *chunkReader) collect(ctx context.Context, in ReadInput, res *ReadResult) (full bool, err error) {
	var from, end uint32 // what is taken of a chunk in memory
	err = r.walk(ctx, in.Offset, func(b record.Batch, pos uint32) bool {
		if res.Bytes+len(b) > in.MaxBytes && (res.Bytes > 0 || !in.AtLeastOne) {
			full = true
			return false
		}
		res.Bytes += len(b)
		res.next = b.LastOffset() + 1
		if !r.inMemory() {
			res.Batches = append(res.Batches, b)
			return true
		}
		if end == 0 {
			from = pos
		}
		end = pos + uint32(len(b))
		return true
	})
	res.Batches = r.appendRange(res.Batches, from, end-from)
	return full, err
}
