package compact

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/tidemill/tidemill/protocol/record"
)

// An AbortedTxn is a transaction that was aborted: First is the offset of its first record, Last that of its marker.
type AbortedTxn struct{ ProducerID, First, Last int64 }

// The types of a control record that end a transaction.
const (
	markerAbort  = 0
	markerCommit = 1
)

// txns follows the transactions of a range from batch to batch, in the order of their offsets (C6).
type txns struct {
	// aborted[:begun] are at or before the batch at hand.
	aborted []AbortedTxn
	begun   int
	// aborting holds the last one of each producer that has begun, committing the producers with data of a transaction that
	// was not aborted and whose marker is ahead. Both are made when first needed.
	aborting   map[int64]abortion
	committing map[int64]struct{}
	// kept are the aborted transactions whose marker was seen behind data of theirs.
	kept []AbortedTxn
	// end is the offset behind the last batch.
	end int64
}

type abortion struct {
	AbortedTxn
	// data says that a batch of the transaction was seen.
	data bool
}

// begin moves on to b.
func (t *txns) begin(b record.Batch) {
	t.end = b.LastOffset() + 1
	for ; t.begun < len(t.aborted) && t.aborted[t.begun].First <= b.LastOffset(); t.begun++ {
		if t.aborting == nil {
			t.aborting = make(map[int64]abortion)
		}
		next := t.aborted[t.begun]
		t.aborting[next.ProducerID] = abortion{AbortedTxn: next}
	}
}

// abortionOf returns the aborted transaction that b is part of. One that ended before b is not: its marker may be gone while it
// is still listed.
func (t *txns) abortionOf(b record.Batch) (abortion, bool) {
	a, ok := t.aborting[b.ProducerID()]
	return a, ok && b.BaseOffset() <= a.Last
}

// discards moves on to a batch that is not a control batch, and reports whether its transaction was aborted.
func (t *txns) discards(b record.Batch) bool {
	t.begin(b)
	if !b.IsTransactional() {
		return false
	}
	if a, ok := t.abortionOf(b); ok {
		a.data = true
		t.aborting[b.ProducerID()] = a
		return true
	}
	if t.committing == nil {
		t.committing = make(map[int64]struct{})
	}
	t.committing[b.ProducerID()] = struct{}{}
	return false
}

// ends moves on to a control batch, and reports whether nothing is left of what it is about: no batch of the transaction it
// ends was seen, or its own record is gone already.
func (t *txns) ends(b record.Batch, data []byte) (bool, error) {
	t.begin(b)
	var s scanner
	s.reset(b, data)
	ok, err := s.next()
	if err != nil {
		return false, err
	}
	if !ok {
		return true, nil
	}
	if len(s.key) < 4 {
		return false, fmt.Errorf("control record with a key of %d bytes: %w", len(s.key), record.ErrInvalid)
	}
	switch binary.BigEndian.Uint16(s.key[2:]) {
	case markerAbort:
		a, ok := t.abortionOf(b)
		delete(t.aborting, b.ProducerID())
		if ok && a.data {
			t.kept = append(t.kept, a.AbortedTxn)
		}
		return !ok || !a.data, nil
	case markerCommit:
		_, ok := t.committing[b.ProducerID()]
		delete(t.committing, b.ProducerID())
		return !ok, nil
	}
	return false, nil
}

// left returns the aborted transactions of which there was something, or may be behind the last batch, by first offset.
func (t *txns) left() []AbortedTxn {
	out := slices.Concat(t.kept, t.aborted[t.begun:])
	for _, a := range t.aborting {
		if a.Last >= t.end {
			out = append(out, a.AbortedTxn)
		}
	}
	slices.SortFunc(out, func(a, b AbortedTxn) int { return cmp.Compare(a.First, b.First) })
	return out
}
