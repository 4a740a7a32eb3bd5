package partition

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"

	"github.com/tidemill/tidemill/internal/memory"
	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/wal"
)

var _ wal.Sink = (*Set)(nil)

// A Set is all logs of one broker life. It is the wal.Sink of that life's writer. All methods may be called concurrently.
type Set struct {
	opts    Options
	metrics *metrics
	lives   lifeTable
	// life is the number of opts.Life in lives.
	life  uint32
	tail  tailCache
	cache blockCache
	// objects are those that the logs need, and those that nobody needs any more.
	objects objectTable
	// pool lends memory for what is read from the store and laid out for it.
	pool *memory.Pool
	// segmentSeq numbers this life's segments.
	segmentSeq atomic.Int64

	mu   sync.RWMutex
	logs map[protocol.PartitionID]*Log
	// leaving are deleted logs whose last appends the write-ahead log still holds.
	leaving map[protocol.PartitionID]*Log
	fenced  error
	// departed are the partitions that went from this life to others and exist, with the leader epoch of the log that left last: none of them
	// is new any more, and no log of that epoch or before is theirs, whatever metadata said when it was read.
	departed map[protocol.PartitionID]int32

	// lent are the slots of this life that partitions of other owners need.
	lent lentSlots

	// unclaimed are the logs of the last Open, until Claimed says that they are ours. unsettled are manifest objects that a claim of
	// unknown outcome may yet make a partition's. Both are guarded by ckpt.
	unclaimed []*Log
	unsettled []reference

	// committed is the last committed slot whose chunks have all reached their logs, -1 before the first.
	committed atomic.Int64
	// work is owned by the goroutine that calls Committed and Fenced.
	work commitWork

	// rewrites is held by the one who writes checkpoints, and ckpt by the one who writes manifests, both across I/O. They guard the
	// fields below; rewrites comes first.
	rewrites  chan struct{}
	ckpt      chan struct{}
	objectSeq int64
	streamRev int64
	// slotsDoomed is how far this life's slots were given up for deletion; inSlots are logs that kept it from going further.
	slotsDoomed int64
	inSlots     map[*Log]bool
	// behind: the last rewrite left something for the next.
	behind bool
	// trouble: the last commit of manifests failed.
	trouble atomic.Bool
	// closing ends when Close begins.
	closing context.Context
	close   context.CancelFunc

	due   checkpointDue
	dirty dirtyList
}

// poolKept is how much memory that nobody uses is kept for the next read or rewrite.
const poolKept = 16 << 20

// NewSet returns an empty set. It starts nothing: see Run.
func NewSet(o Options) (*Set, error) {
	s := &Set{opts: o.withDefaults(), logs: map[protocol.PartitionID]*Log{}, leaving: map[protocol.PartitionID]*Log{}, ckpt: make(chan struct{}, 1), rewrites: make(chan struct{}, 1)}
	s.due.c = make(chan struct{}, 1)
	s.pool = memory.NewPool(poolKept)
	s.inSlots = map[*Log]bool{}
	s.closing, s.close = context.WithCancel(context.Background())
	s.life = s.lives.id(o.Life)
	s.objects.init(s.life)
	s.committed.Store(-1)
	s.metrics = unread()
	if o.Registerer != nil {
		s.metrics = newMetrics()
		if err := s.metrics.register(s, o.Registerer); err != nil {
			return nil, fmt.Errorf("register partition metrics: %w", err)
		}
	}
	s.tail.init(s.opts.TailBytes)
	s.cache.init(s.opts, s.pool, s.metrics)
	return s, nil
}

// UseWAL sets Options.WAL. It must be called before the first append.
func (s *Set) UseWAL(w WAL) { s.opts.WAL = w }

// Get returns the log of a partition that this life owns.
func (s *Set) Get(id protocol.PartitionID) (*Log, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	l, ok := s.logs[id]
	return l, ok
}

// Create adds the empty log of a new partition, or returns the one that is there. It returns nil for a partition that this life has given
// away: who calls it new looks at metadata of before.
func (s *Set) Create(id protocol.PartitionID, leaderEpoch int32) *Log {
	policy := s.opts.Policy(id.Topic)
	s.mu.Lock()
	defer s.mu.Unlock()
	if l, ok := s.logs[id]; ok {
		return l
	}
	if _, left := s.departed[id]; left {
		return nil
	}
	l := &Log{
		set: s, id: id, epoch: leaderEpoch, ended: s.fenced, epochs: []Epoch{{Epoch: leaderEpoch, Life: s.life}}, policy: policy,
	}
	s.logs[id] = l
	return l
}

// Delete drops a log whose partition does not exist any more: its long polls wake, and appends and reads fail with ErrUnknownPartition.
// Appends that wait are answered so when their slot is committed: until then the write-ahead log reads their bytes.
func (s *Set) Delete(id protocol.PartitionID) {
	s.mu.Lock()
	delete(s.departed, id)
	l, ok := s.logs[id]
	if ok {
		delete(s.logs, id)
		s.leaving[id] = l
	}
	s.mu.Unlock()
	if !ok {
		return
	}
	var work commitWork
	l.mu.Lock()
	l.endLocked(ErrUnknownPartition, &work)
	l.ended, l.gone = ErrUnknownPartition, true
	l.letGoLocked()
	settled := l.settledLocked()
	l.mu.Unlock()
	if settled {
		s.leave(id)
	}
	work.finish()
}

// letGoLocked drops every reference of a log that is gone; nothing of it may be read any more.
func (l *Log) letGoLocked() {
	gone := l.referencesLocked()
	l.parts, l.recent, l.retired, l.heads, l.size = nil, nil, nil, nil, 0
	l.set.objects.release(gone, l.set.opts.Now())
}

// leave forgets a deleted log that owes no answer any more.
func (s *Set) leave(id protocol.PartitionID) {
	s.mu.Lock()
	delete(s.leaving, id)
	s.mu.Unlock()
}

// holder returns the log that appends of a partition belong to, also a deleted one.
func (s *Set) holder(id protocol.PartitionID) (l *Log, leaving bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if l := s.logs[id]; l != nil {
		return l, false
	}
	return s.leaving[id], true
}

// Committed implements wal.Sink: it caches the slot, moves high watermarks, and then answers producers and wakes long polls.
func (s *Set) Committed(slot *wal.Slot) {
	s.tail.add(slot)
	life := s.life
	if slot.Life != s.opts.Life {
		life = s.lives.id(slot.Life)
	}
	w := &s.work
	for i := range slot.Chunks {
		c := &slot.Chunks[i]
		l, leaving := s.holder(c.Partition)
		if l == nil {
			continue // deleted since the append
		}
		l.mu.Lock()
		l.commitLocked(c, slot.Seq, life, w)
		leaving = leaving && l.settledLocked()
		l.mu.Unlock()
		if leaving {
			s.leave(c.Partition)
		}
	}
	s.dirty.add(w.dirty, w.broken)
	s.committed.Store(slot.Seq)
	if w.broken != nil {
		s.opts.Logger.Error("partition stopped", "slot", slot.Key, "error", w.broken)
	}
	w.finish()
	s.due.count(s.opts, int64(slot.Object.Size()))
}

// Fenced implements wal.Sink: appends that wait get ErrNotLeader, and so do all later ones. What is committed stays readable (W6).
func (s *Set) Fenced(err error) {
	err = fmt.Errorf("%w: %w", ErrNotLeader, err)
	s.mu.Lock()
	s.fenced = err
	logs := s.allLocked()
	for _, l := range s.leaving {
		logs = append(logs, l)
	}
	s.mu.Unlock()
	for _, l := range logs {
		l.mu.Lock()
		l.endLocked(err, &s.work)
		l.failLocked(math.MaxInt64, &s.work)
		l.mu.Unlock()
	}
	s.work.finish()
}

func (s *Set) allLocked() []*Log {
	logs := make([]*Log, 0, len(s.logs))
	for _, l := range s.logs {
		logs = append(logs, l)
	}
	return logs
}

func (s *Set) fencedError() error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.fenced
}

// expireProducers forgets producers of all logs that have not written for long (P8).
func (s *Set) expireProducers() {
	now := s.opts.Now().UnixMilli()
	s.mu.RLock()
	logs := s.allLocked()
	s.mu.RUnlock()
	for _, l := range logs {
		l.mu.Lock()
		l.expireLocked(now)
		l.mu.Unlock()
	}
}

// SetPolicy changes what a topic's logs keep, from now on.
func (l *Log) SetPolicy(p *Policy) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.policy = p
}

// Close writes the last manifests and waits for reads from the store, until ctx ends. What is in slots stays there, for the next owner
// to rewrite: a stop must not wait for segments. Call it when the writer is closed and before the stream is marked as sealed (W8). An
// error means that not everything is in manifests: the life must not be marked as closed.
func (s *Set) Close(ctx context.Context) error {
	s.close()
	err := s.checkpoint(ctx, false)
	return errors.Join(err, s.cache.close(ctx))
}

// all returns the logs as they are now.
func (s *Set) all() []*Log {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.allLocked()
}
