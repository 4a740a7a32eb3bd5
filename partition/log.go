package partition

import (
	"sync"
	"sync/atomic"

	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/wal"
)

// A Log is one partition on its owner. All methods may be called concurrently.
type Log struct {
	set     *Set
	id      protocol.PartitionID
	traffic traffic

	// mu guards everything below.
	mu sync.Mutex
	// ended is why appends fail: ErrUnknownPartition, ErrNotLeader or ErrCorrupt; nil on a live log.
	ended error
	// gone: the log left the Set, because its topic was deleted or another life owns it now. Its references were let go, and nothing of
	// it may be read or written any more.
	gone bool
	// moving is not nil while the log is on its way to another owner.
	moving *moving
	// moveUnknown: nobody could say whether the partition has moved.
	moveUnknown atomic.Bool
	epoch       int32
	// dirty: the log is on the Set's list of logs whose manifest is behind.
	dirty bool
	// attempt is the last commit of the log's manifest while its outcome is unknown.
	attempt *snapshot
	// logStart <= hw <= end. Parts and the extents behind them cover at least [logStart, hw) without holes.
	logStart, hw, end int64
	// size is the bytes of the parts and of the extents behind them.
	size int64
	// parts are what is in segments. The slice is replaced, never changed.
	parts []Part
	// recent are the extents in slots: those behind the parts, and before them those that are in memory still, from where they are
	// read sooner. They are appended at commit and cut by the holder of Set.ckpt.
	recent []Extent
	// rolls are the segments that users see; compactedTo is where compaction goes on (C3).
	rolls       []Roll
	compactedTo int64
	aborted     []AbortedTxn
	policy      *Policy
	// rewriting: a merge or a compaction has parts of the log in hand.
	rewriting bool
	// uncleanable: compaction met data that it cannot read.
	uncleanable bool
	// unmergeableTo is behind the last part that merging could not read. stuck: a checkpoint could not move what is in slots.
	unmergeableTo int64
	stuck         bool
	// retired are objects that the log needs no more, but its manifest in storage still does. heads are the manifest objects that may
	// hold that manifest, the newest last.
	retired, heads []reference
	// scans are the readers that go through old data, see readAhead.
	scans           []scan
	epochs          []Epoch
	manifestVersion int64
	producers       map[int64]*producer
	// pending[pendingHead:] are appends that wait for their slots.
	pending     []pendingAppend
	pendingHead int
	duplicates  []pendingDuplicate
	watches     []*watch
	// coordinator is kept from the manifest until the hook offers newer state; nil on most logs.
	coordinator *coordinatorState
}

type coordinatorState struct {
	offset int64
	blob   []byte
}

// State is a log at one moment.
type State struct {
	// LogStart is the first readable offset.
	LogStart int64
	// HighWatermark is the offset after the last committed record.
	HighWatermark int64
	// LastStable is the offset that read_committed may read up to. Without transactions it is the high watermark.
	LastStable int64
	// EndOffset is the offset that the next append gets. What lies from HighWatermark on is not durable yet.
	EndOffset   int64
	LeaderEpoch int32
}

// ID returns the partition.
func (l *Log) ID() protocol.PartitionID { return l.id }

// State returns the log's offsets and leader epoch.
func (l *Log) State() State {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stateLocked()
}

func (l *Log) stateLocked() State {
	return State{LogStart: l.logStart, HighWatermark: l.hw, LastStable: l.hw, EndOffset: l.end, LeaderEpoch: l.epoch}
}

// SizeBytes returns the bytes of the batches that the log keeps, at or behind the log start and before it in the same part of a
// segment.
func (l *Log) SizeBytes() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.size
}

// Coordinator returns the coordinator state that the log's newest manifest holds: the machine after all records below offset. ok is
// false when there is none; then the whole log has to be replayed. See Options.Coordinator.
func (l *Log) Coordinator() (offset int64, blob []byte, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.coordinator == nil {
		return 0, nil, false
	}
	return l.coordinator.offset, l.coordinator.blob, true
}

// commitLocked makes a chunk of a committed slot readable and adds to work what is due because of it (W5).
func (l *Log) commitLocked(c *wal.Chunk, seq int64, life uint32, work *commitWork) {
	if l.ended != nil {
		l.failLocked(c.LastOffset+1, work)
		return
	}
	if c.BaseOffset != l.hw || c.LastOffset < c.BaseOffset || c.LastOffset >= l.end {
		err := corruptf("slot %d commits offsets %d-%d of %v, want them from %d and below %d", seq, c.BaseOffset, c.LastOffset, l.id, l.hw, l.end)
		l.endLocked(err, work)
		l.failLocked(c.LastOffset+1, work)
		work.broken = err
		return
	}
	l.recent = append(l.recent, Extent{
		Base: c.BaseOffset, Last: c.LastOffset, MaxTimestamp: c.MaxTimestamp, Seq: seq, Life: life, Pos: c.Pos, Len: c.Len, CRC: c.CRC,
	})
	l.size += int64(c.Len)
	l.hw = c.LastOffset + 1
	l.moving.advance(l.hw == l.end)
	work.outcomes, l.recent[len(l.recent)-1].Sum = l.popPendingLocked(work.outcomes)
	for _, x := range l.watches {
		if x.w.add(int64(c.Len)) {
			work.wake = append(work.wake, x.w)
		}
	}
	if !l.dirty {
		l.dirty = true
		work.dirty = append(work.dirty, l)
	}
}

// endLocked makes err the answer to all appends from now on and wakes who waits for more. Pending appends are answered when the
// write-ahead log is done with their bytes: see failLocked.
func (l *Log) endLocked(err error, work *commitWork) {
	if l.ended != nil {
		return
	}
	l.ended = err
	for _, x := range l.watches {
		work.wake = append(work.wake, x.w)
	}
	l.moving.advance(true)
	l.refuseParkedLocked(work)
}

// failLocked answers the pending appends below an offset of a log that has ended. The log is done with the bytes of what was
// committed, and, once the life is fenced, with all.
func (l *Log) failLocked(below int64, work *commitWork) {
	res := AppendResult{BaseOffset: -1, LogAppendTime: -1, LogStart: l.logStart}
	for l.pendingHead < len(l.pending) && l.pending[l.pendingHead].batch.LastOffset < below {
		work.outcomes = append(work.outcomes, outcome{done: l.pending[l.pendingHead].done, res: res, err: l.ended})
		l.pending[l.pendingHead] = pendingAppend{}
		l.pendingHead++
	}
	kept := l.duplicates[:0]
	for _, d := range l.duplicates {
		if d.batch.LastOffset < below {
			work.outcomes = append(work.outcomes, outcome{done: d.done, res: res, err: l.ended})
			continue
		}
		kept = append(kept, d)
	}
	clear(l.duplicates[len(kept):])
	l.duplicates = kept
}

// settledLocked reports whether the log has ended and owes no answer.
func (l *Log) settledLocked() bool { return l.ended != nil && l.pendingHead == len(l.pending) }

// left reports whether the log is gone, and why.
func (l *Log) left() (gone bool, why error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.gone, l.ended
}

// commitWork is what a commit leaves to be done without locks.
type commitWork struct {
	outcomes []outcome
	wake     []*Waiter
	dirty    []*Log
	broken   error
}

// finish calls who waits and empties w for the next slot.
func (w *commitWork) finish() {
	for i := range w.outcomes {
		o := &w.outcomes[i]
		o.done(o.res, o.err)
	}
	for _, x := range w.wake {
		x.signal()
	}
	clear(w.outcomes)
	clear(w.wake)
	clear(w.dirty)
	*w = commitWork{outcomes: w.outcomes[:0], wake: w.wake[:0], dirty: w.dirty[:0]}
}
