package partition

import (
	"errors"
	"fmt"

	"github.com/tidemill/tidemill/internal/memory"
	"github.com/tidemill/tidemill/protocol/record"
	"github.com/tidemill/tidemill/wal"
)

// AppendInput is one batch to append.
type AppendInput struct {
	// Batch is one whole batch that was checked, its checksum too. Append stamps its base offset and leader epoch in place; the bytes must not change
	// until done was called.
	Batch record.Batch
	// Origin tells who speaks. Sequence numbers are checked for clients only.
	Origin Origin
	// Block is the memory that Batch lies in, if it may be stored from there: nothing in it may change any more, also after
	// done. nil: Batch is copied.
	Block *memory.Block
	// LogAppendTime is the broker time in ms that the caller has stamped into the batch, or -1 when its topic keeps CreateTime. It is
	// only echoed in the result.
	LogAppendTime int64
}

// Origin tells who sends a batch.
type Origin uint8

// Origins of a batch.
const (
	OriginClient Origin = iota
	OriginCoordinator
)

// AppendResult answers an append. LogStart is set also when the log refused the batch (3.2.12).
type AppendResult struct {
	// BaseOffset is the offset of the batch's first record, -1 when it was refused.
	BaseOffset int64
	// LogAppendTime is the one of the input; for a duplicate the max timestamp of the stored batch (3.13).
	LogAppendTime int64
	// LogStart is the log start offset.
	LogStart int64
	// Duplicate: the batch was stored by an earlier append, whose offset this is (P2).
	Duplicate bool
}

// Done receives the outcome of an append. It must not block.
type Done = func(AppendResult, error)

// pendingAppend is an append that waits for its slot. Pending appends are in offset order.
type pendingAppend struct {
	batch         ProducerBatch
	size          int32
	sum           uint64
	producer      int64
	producerEpoch int16
	logAppendTime int64
	done          Done
}

// pendingDuplicate is an append that repeats one whose slot is not committed yet.
type pendingDuplicate struct {
	batch ProducerBatch
	done  Done
}

func (x *ProducerBatch) base() int64 { return x.LastOffset - int64(x.Delta) }

// Append sequences one batch and hands it to the write-ahead log. It is memory only and never blocks. done is called exactly once,
// without locks: before Append returns when the batch is refused or repeats a committed one, else when the batch is committed, or
// with ErrNotLeader when the life is fenced first. Errors: ErrOutOfOrderSequence, ErrInvalidProducerEpoch, ErrUnknownPartition,
// ErrNotLeader, ErrCorrupt, ErrStorage.
func (l *Log) Append(in AppendInput, done Done) {
	if res, wait, err := l.append(in, done); !wait {
		done(res, err)
	}
}

func (l *Log) append(in AppendInput, done Done) (res AppendResult, wait bool, err error) {
	var now int64
	if in.Batch.ProducerID() >= 0 {
		now = l.set.opts.Now().UnixMilli()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.moving != nil && l.ended == nil && !l.set.opts.Faults.AppendWhileMoving {
		l.moving.parked = append(l.moving.parked, parkedAppend{in, done})
		return AppendResult{}, true, nil
	}
	return l.appendLocked(in, done, now)
}

func (l *Log) appendLocked(in AppendInput, done Done, now int64) (res AppendResult, wait bool, err error) {
	b := in.Batch
	id := b.ProducerID()
	res = AppendResult{BaseOffset: -1, LogAppendTime: -1, LogStart: l.logStart}
	if l.ended != nil {
		return res, false, l.ended
	}
	l.traffic.count(len(b)) // refused or not by what follows, it came over the network and was looked at
	var p *producer
	if id >= 0 {
		var dup *ProducerBatch
		if p, dup, err = l.checkProducerLocked(b, in.Origin, now); err != nil {
			return res, false, fmt.Errorf("producer %d epoch %d sequence %d: %w", id, b.ProducerEpoch(), b.BaseSequence(), err)
		}
		if dup != nil {
			return l.repeatLocked(*dup, done)
		}
	}
	if err = l.sequenceLocked(b, in.Block); err != nil {
		return res, false, err
	}
	x := batchOf(b)
	if id >= 0 {
		if p == nil {
			p = l.addProducerLocked(id)
		}
		p.epoch, p.lastSeq, p.lastWrite = b.ProducerEpoch(), x.LastSeq, now
		p.inflight++
	}
	l.end = x.LastOffset + 1
	l.pushPendingLocked(pendingAppend{
		batch: x, size: int32(len(b)), sum: batchSum(b), producer: id, producerEpoch: b.ProducerEpoch(), logAppendTime: in.LogAppendTime, done: done,
	})
	l.set.metrics.appendBytes.Add(float64(len(b)))
	return res, true, nil
}

// sequenceLocked stamps the batch and hands it on, in one critical section: offset order is the order in the write-ahead log.
func (l *Log) sequenceLocked(b record.Batch, block *memory.Block) error {
	b.SetBaseOffset(l.end)
	b.SetPartitionLeaderEpoch(l.epoch)
	err := l.set.opts.WAL.Append(wal.Entry{
		Partition: l.id, LeaderEpoch: l.epoch, BaseOffset: l.end, LastOffset: b.LastOffset(), MaxTimestamp: b.MaxTimestamp(), Data: b,
		Block: block, TailLen: len(b) - record.CoveredFrom, TailCRC: b.CRC(),
	})
	switch {
	case err == nil:
		return nil
	case errors.Is(err, wal.ErrFenced), errors.Is(err, wal.ErrClosed):
		return fmt.Errorf("%w: append to %v: %w", ErrNotLeader, l.id, err)
	}
	return fmt.Errorf("%w: append to %v: %w", ErrStorage, l.id, err)
}

// repeatLocked answers a duplicate, or lets it wait for the batch it repeats: what is not committed answers nobody (W5).
func (l *Log) repeatLocked(x ProducerBatch, done Done) (AppendResult, bool, error) {
	l.set.metrics.duplicates.Inc()
	if x.LastOffset < l.hw {
		return l.duplicateResultLocked(&x), false, nil
	}
	l.duplicates = append(l.duplicates, pendingDuplicate{batch: x, done: done})
	return AppendResult{}, true, nil
}

func (l *Log) duplicateResultLocked(x *ProducerBatch) AppendResult {
	return AppendResult{BaseOffset: x.base(), LogAppendTime: x.MaxTimestamp, LogStart: l.logStart, Duplicate: true}
}

func (l *Log) pushPendingLocked(a pendingAppend) {
	if l.pendingHead > 32 && l.pendingHead*2 >= len(l.pending) {
		n := copy(l.pending, l.pending[l.pendingHead:])
		clear(l.pending[n:])
		l.pending, l.pendingHead = l.pending[:n], 0
	}
	l.pending = append(l.pending, a)
}

// popPendingLocked moves appends below the high watermark to out, producers' windows with them, counts them for the rolls, and returns
// the sum of their hashes.
func (l *Log) popPendingLocked(out []outcome) (_ []outcome, sum uint64) {
	for l.pendingHead < len(l.pending) && l.pending[l.pendingHead].batch.LastOffset < l.hw {
		a := &l.pending[l.pendingHead]
		if p := l.producers[a.producer]; p != nil {
			p.commit(a.producerEpoch, a.batch)
			p.inflight--
		}
		sum += a.sum
		l.rolls = appendRoll(l.rolls, l.policy, a.batch.base(), a.batch.LastOffset, l.timeOf(a.batch.MaxTimestamp), int64(a.size))
		res := AppendResult{BaseOffset: a.batch.base(), LogAppendTime: a.logAppendTime, LogStart: l.logStart}
		out = append(out, outcome{done: a.done, res: res})
		*a = pendingAppend{}
		l.pendingHead++
	}
	if l.pendingHead == len(l.pending) {
		l.pending, l.pendingHead = l.pending[:0], 0
	}
	if len(l.duplicates) == 0 {
		return out, sum
	}
	kept := l.duplicates[:0]
	for _, d := range l.duplicates {
		if d.batch.LastOffset < l.hw {
			out = append(out, outcome{done: d.done, res: l.duplicateResultLocked(&d.batch)})
			continue
		}
		kept = append(kept, d)
	}
	clear(l.duplicates[len(kept):])
	l.duplicates = kept
	return out, sum
}

// timeOf returns a timestamp, or the present for records that have none: retention is by when they came, then.
func (l *Log) timeOf(timestamp int64) int64 {
	if timestamp < 0 {
		return l.set.opts.Now().UnixMilli()
	}
	return timestamp
}

// outcome is a Done that is due, with its argument.
type outcome struct {
	done Done
	res  AppendResult
	err  error
}
