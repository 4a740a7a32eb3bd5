// Package coordinator runs deterministic state machines over a replayed journal. A journal has shards; each shard has
// one machine, which turns inputs into records and replies. The runtime appends the records, waits, replies, keeps
// time, loads and unloads.
//
// Invariants:
//   - The machine of a shard sees one input at a time, in the order of submission, and sees the effects of every
//     earlier input, committed or not.
//   - Nothing leaves a shard before everything written ahead of it is committed. So a reply never shows state that a
//     crash could take back, reads included, and replies leave in the order in which the machine gave them.
//   - The records of one output are appended in one batch and apply together, unless the machine allowed a split.
//   - When an append fails the machine is dropped with all its state; every reply that waits is sent the error.
//   - A machine has no clock, no goroutine and does no I/O.
package coordinator

import (
	"context"
	"errors"
	"time"
)

var (
	// ErrNotCoordinator means that this process does not run the shard; the caller looks for the coordinator again.
	ErrNotCoordinator = errors.New("not the coordinator of the shard")
	// ErrLoading means that the shard's journal is being replayed; the caller tries again here.
	ErrLoading = errors.New("coordinator shard is loading")
	// ErrUnavailable means that what was asked may or may not have been done; the caller tries again.
	ErrUnavailable = errors.New("coordinator shard is not available")
	// ErrFenced is what a Journal answers when this process no longer owns the shard.
	ErrFenced = errors.New("journal shard is owned by another")
)

// A Record is one entry of a journal. A nil Value is a tombstone: it removes Key.
type Record struct {
	Key, Value []byte
}

// A Journal is the durable, compacted log of every shard.
type Journal interface {
	// Append adds records to the shard as one batch with the given timestamp, and calls done once when the batch is
	// committed (with its first offset) or will never be known to be. It does not block, keeps the order of calls
	// and may call done before it returns. An error that wraps ErrFenced says that the shard has another owner.
	Append(shard int32, records []Record, now time.Time, done func(baseOffset int64, err error))
	// Replay calls fn for each record of the shard from the offset on, in order, and returns the offset after the
	// last one. Every append that was called before is replayed, or is known never to be. fn may keep what it gets.
	Replay(ctx context.Context, shard int32, from int64, fn func(offset int64, r Record) error) (end int64, err error)
}

// A Snapshot is the state of a shard as of an offset: replaying Blob and then the journal from Offset on is replaying
// the journal from its start. The zero value is the start of a journal.
type Snapshot struct {
	Offset int64
	Blob   []byte
}

// A Machine is the state of one shard. The runtime calls it from one goroutine at a time and never keeps what it gets
// through Output after the machine was dropped.
type Machine interface {
	// Apply replays one record, from a snapshot or the journal. An error stops the load.
	Apply(r Record) error
	// Loaded is the first call after the replay.
	Loaded(now time.Time, out *Output)
	// Tick does what is due at now. It may be called early or late.
	Tick(now time.Time, out *Output)
	// NextTick says when Tick has something to do, and whether it ever has.
	NextTick() (time.Time, bool)
	// Records yields the present state as the records that would replay to it.
	Records(yield func(Record) bool)
	// Drop gives a reply for every caller that the machine keeps waiting. It is the last call.
	Drop(out *Output)
}

// Output collects what a machine wants done for one input.
type Output struct {
	records []Record
	replies []Reply
	split   bool
}

// A Reply answers a caller: err is nil, or one of ErrNotCoordinator, ErrLoading and ErrUnavailable, in which case what
// the machine meant to say must not be said. It is called once, from any goroutine, and does not block.
type Reply func(err error)

// Append adds a record to the journal. The machine has already applied it. It must not change r afterwards.
func (o *Output) Append(r Record) { o.records = append(o.records, r) }

// Reply sends r once all records appended so far, to this output and before, are committed.
func (o *Output) Reply(r Reply) { o.replies = append(o.replies, r) }

// AllowSplit lets the runtime cut the records of this output into several batches, for outputs of which any prefix
// is a state as good as the whole.
func (o *Output) AllowSplit() { o.split = true }

// Records returns what was appended so far. It belongs to the output.
func (o *Output) Records() []Record { return o.records }

// Replies returns the replies given so far. It belongs to the output.
func (o *Output) Replies() []Reply { return o.replies }
