package partition

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/tidemill/tidemill/metadata"
	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/wal"
)

// A Transfer sends a partition to another life.
type Transfer struct {
	ID protocol.PartitionID
	To wal.Life
}

// moving is a log's way to another owner: appends wait meanwhile.
type moving struct {
	parked []parkedAppend
	// drained is closed once all that was admitted is committed, or the log has ended. done says that it is.
	drained chan struct{}
	done    bool
}

type parkedAppend struct {
	in   AppendInput
	done Done
}

// advance notes whether everything admitted is committed. m may be nil.
func (m *moving) advance(drained bool) {
	if m != nil && drained && !m.done {
		m.done = true
		close(m.drained)
	}
}

const (
	// settlePause is the time between questions about a move of unknown outcome.
	settlePause = 200 * time.Millisecond
	// moveTimeout bounds the transactions of one HandOver, and the questions about those of unknown outcome. It is their own: a caller
	// whose time ends in the middle would leave partitions that nobody serves.
	moveTimeout = 10 * time.Second
)

// HandOver gives partitions to other lives (O2a): no append is admitted any more, what was admitted is committed, and a transaction
// names the new owner, who finds everything in the manifest that goes with it. Appends that come meanwhile wait: they get ErrNotLeader
// once the partition is the other's, and go on here if it stays. It returns those that are not ours any more; an error says why others
// stay. Slots and segments stay where they are, for the new owner to read; nothing is copied.
func (s *Set) HandOver(ctx context.Context, transfers []Transfer) (moved []protocol.PartitionID, err error) {
	// Coordinators are asked while their appends are still admitted: they answer when these are committed.
	var asked sync.WaitGroup
	for _, t := range transfers {
		if l, ok := s.Get(t.ID); ok && s.opts.Coordinator != nil {
			asked.Go(func() { l.keepCoordinator(l.coordinatorNow()) })
		}
	}
	asked.Wait()
	// Taken first, so that appends do not wait for a checkpoint.
	if err := s.acquire(ctx); err != nil {
		return nil, err
	}
	defer s.release()
	targets := make(map[*Log]wal.Life, len(transfers))
	logs := make([]*Log, 0, len(transfers))
	for _, t := range transfers {
		if l, ok := s.Get(t.ID); ok && t.To != s.opts.Life && l.beginMoving() {
			logs, targets[l] = append(logs, l), t.To
		}
	}
	defer func() {
		for _, l := range logs {
			l.endMoving()
		}
	}()
	for _, l := range logs {
		if err := l.drain(ctx); err != nil {
			return nil, err
		}
	}
	ours, err := s.settle(ctx, logs)
	if err != nil {
		return nil, err
	}
	var snapshots []*snapshot
	for _, l := range ours {
		if x := l.snapshot(0); x != nil {
			snapshots = append(snapshots, x)
		}
	}
	objects, err := s.writeManifests(ctx, snapshots)
	defer func() {
		for _, o := range objects {
			s.objects.abandon(o.id(), s.opts.Now())
		}
	}()
	if err != nil {
		return nil, err
	}
	return s.moveAll(ctx, snapshots, targets)
}

// keepCoordinator keeps a coordinator's state for the next manifest.
func (l *Log) keepCoordinator(c *coordinatorState) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c != nil && c.offset <= l.hw && (l.coordinator == nil || c.offset >= l.coordinator.offset) {
		l.coordinator = c
	}
}

// moveAll lets metadata name the new owners. The caller holds Set.ckpt.
func (s *Set) moveAll(ctx context.Context, snapshots []*snapshot, targets map[*Log]wal.Life) (moved []protocol.PartitionID, err error) {
	moves := make([]metadata.Move, 0, len(snapshots))
	for _, x := range snapshots {
		x.log.expectHead(x)
		to := targets[x.log]
		m := metadata.Move{ID: x.log.id, To: to, LeaderEpoch: x.log.epoch + 1, Start: x.end, Manifest: x.pointer, PrevVersion: x.prevVersion}
		for _, e := range mergeEpochs(x.epochs, []Epoch{{Epoch: m.LeaderEpoch, Life: s.lives.id(to), Start: x.end}}) {
			m.History = append(m.History, metadata.EpochStart{Epoch: e.Epoch, Start: e.Start, Life: s.lives.life(e.Life)})
		}
		moves = append(moves, m)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), moveTimeout)
	defer cancel()
	var failed []error
	for i, outcome := range s.opts.Manifests.Move(ctx, s.opts.Life, moves) {
		x := snapshots[i]
		if outcome != nil && !errors.Is(outcome, metadata.ErrUnavailable) {
			outcome = s.settleMove(ctx, &moves[i], outcome)
		}
		switch {
		case outcome == nil:
			s.depart(x)
			moved = append(moved, x.log.id)
		case errors.Is(outcome, metadata.ErrUnknownOutcome):
			// Neither owner nor not: see SettleMoves.
			s.lend(x)
			x.log.moveUnknown.Store(true)
			x.log.stop(fmt.Errorf("%w: %w", ErrNotLeader, outcome))
			failed = append(failed, outcome)
		default:
			x.log.dropHead(x)
			failed = append(failed, outcome)
		}
	}
	if len(failed) > 0 {
		return moved, fmt.Errorf("hand over %d of %d partitions: %w", len(failed), len(moves), failed[0])
	}
	return moved, nil
}

// settleMove finds out about a move that was refused, or whose outcome is not known. That an attempt is refused does not tell whether an
// earlier one was applied, which may be why: the record does, by its leader epoch, as the partition may be back by now. When an attempt was
// refused and the record is as before, those under way will be refused too: they compare the same.
func (s *Set) settleMove(ctx context.Context, m *metadata.Move, outcome error) error {
	unknown := func(err error) bool {
		return errors.Is(err, metadata.ErrUnavailable) || errors.Is(err, metadata.ErrUnknownOutcome)
	}
	for {
		states, err := s.opts.Manifests.States(ctx, []protocol.PartitionID{m.ID})
		switch {
		case err != nil:
		case len(states) == 0 || states[0].Owner != s.opts.Life || states[0].LeaderEpoch >= m.LeaderEpoch:
			return nil // moved, and perhaps further, or back; or deleted
		case !unknown(outcome):
			return outcome
		default:
			if outcome = s.opts.Manifests.Move(ctx, s.opts.Life, []metadata.Move{*m})[0]; outcome == nil {
				return nil
			}
			if !unknown(outcome) {
				continue
			}
		}
		if err := pause(ctx, settlePause); err != nil {
			return fmt.Errorf("%w: %w", metadata.ErrUnknownOutcome, err)
		}
	}
}

// SettleMoves finds out about the moves of unknown outcome. A log that has moved leaves. One that has not goes on once metadata has
// accepted a newer manifest of it: a move that may still be under way compares the one before, so it cannot be applied any more. It returns
// the partitions that left and those that go on.
func (s *Set) SettleMoves(ctx context.Context) (left, stay []protocol.PartitionID, err error) {
	logs := slices.DeleteFunc(s.all(), func(l *Log) bool { return !l.moveUnknown.Load() })
	if len(logs) == 0 {
		return nil, nil, nil
	}
	if err := s.acquire(ctx); err != nil {
		return nil, nil, err
	}
	defer s.release()
	ours, err := s.settle(ctx, logs)
	if err != nil {
		return nil, nil, err
	}
	for _, l := range logs {
		if gone, _ := l.left(); gone {
			left = append(left, l.id)
		}
	}
	if err := s.commitHeads(ctx, ours); err != nil {
		return left, nil, fmt.Errorf("settle %d moves: %w", len(ours), err)
	}
	for _, l := range ours {
		if l.goOn() {
			stay = append(stay, l.id)
		}
	}
	return left, stay, nil
}

// goOn lets a log lead again that was stopped for a move of unknown outcome.
func (l *Log) goOn() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.moveUnknown.Load() || l.gone {
		return false
	}
	l.ended = l.set.fencedError()
	l.moveUnknown.Store(false)
	return l.ended == nil
}

// Ended reports whether the log takes no appends any more: its partition is another's, or may be, or this life has ended.
func (l *Log) Ended() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ended != nil
}

// MoveUnknown reports whether a move of the log's partition has an unknown outcome: see SettleMoves.
func (l *Log) MoveUnknown() bool { return l.moveUnknown.Load() }

// Settled reports whether the log is certainly its partition's: it is neither on its way to another owner nor gone.
func (l *Log) Settled() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.moving == nil && !l.gone && !l.moveUnknown.Load()
}

// beginMoving lets appends wait from now on. It reports false when the log has ended or is moving already.
func (l *Log) beginMoving() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended != nil || l.moving != nil {
		return false
	}
	l.moving = &moving{drained: make(chan struct{})}
	l.moving.advance(l.hw == l.end || l.set.opts.Faults.MoveUndrained)
	return true
}

// drain waits until everything admitted is committed.
func (l *Log) drain(ctx context.Context) error {
	l.mu.Lock()
	m := l.moving
	l.mu.Unlock()
	if m == nil {
		return nil
	}
	select {
	case <-m.drained:
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.ended
	case <-ctx.Done():
		return fmt.Errorf("hand over %v: wait for its appends to be durable: %w", l.id, ctx.Err())
	}
}

// endMoving admits the appends that have waited, in their order, unless the log has ended.
func (l *Log) endMoving() {
	var work commitWork
	l.mu.Lock()
	m := l.moving
	l.moving = nil
	if m != nil {
		now := l.set.opts.Now().UnixMilli()
		for _, p := range m.parked {
			if res, wait, err := l.appendLocked(p.in, p.done, now); !wait {
				work.outcomes = append(work.outcomes, outcome{done: p.done, res: res, err: err})
			}
		}
	}
	l.mu.Unlock()
	work.finish()
}

// refuseParkedLocked answers the appends that wait for the end of a move, now that the log has ended.
func (l *Log) refuseParkedLocked(work *commitWork) {
	if l.moving == nil {
		return
	}
	res := AppendResult{BaseOffset: -1, LogAppendTime: -1, LogStart: l.logStart}
	for _, p := range l.moving.parked {
		work.outcomes = append(work.outcomes, outcome{done: p.done, res: res, err: l.ended})
	}
	l.moving.parked = nil
}

// stop ends the log; what it holds stays.
func (l *Log) stop(err error) {
	var work commitWork
	l.mu.Lock()
	l.endLocked(err, &work)
	l.mu.Unlock()
	work.finish()
}

// depart lets go of a log whose partition another life owns.
func (s *Set) depart(x *snapshot) {
	s.lend(x)
	s.forsake(x.log)
}

// lend notes the slots of this life that a snapshot's manifest names, before the log forgets them: see neededSlots.
func (s *Set) lend(x *snapshot) {
	for _, e := range x.extents {
		if e.Life == s.life {
			s.lent.add(x.log.id, e.Seq)
			break
		}
	}
}

// forsake takes a log out of the set whose partition another life owns.
func (s *Set) forsake(l *Log) {
	s.mu.Lock()
	if s.logs[l.id] == l {
		delete(s.logs, l.id)
	}
	if s.departed == nil {
		s.departed = map[protocol.PartitionID]int32{}
	}
	s.departed[l.id] = max(s.departed[l.id], l.epoch)
	s.mu.Unlock()
	var work commitWork
	l.mu.Lock()
	l.endLocked(fmt.Errorf("%w: the partition has moved", ErrNotLeader), &work)
	if !l.gone {
		l.gone = true
		refs := l.referencesLocked()
		l.parts, l.recent, l.retired, l.heads, l.size = nil, nil, nil, nil, 0
		s.objects.lend(refs, s.opts.Now())
	}
	l.mu.Unlock()
	work.finish()
	s.metrics.moved.Inc()
}

// Adopt opens the logs of partitions that their owners have given to this life (O2a), from the manifests that came with them. Those that
// are open already, and those of other owners, are left out. A damaged partition stays closed: the error wraps ErrCorrupt.
func (s *Set) Adopt(ctx context.Context, states []metadata.PartitionState) (adopted []protocol.PartitionID, err error) {
	var all []*opening
	for _, st := range states {
		if _, open := s.Get(st.ID); !open && st.Owner == s.opts.Life {
			all = append(all, &opening{state: st})
		}
	}
	if err := s.loadManifests(ctx, all); err != nil {
		return nil, fmt.Errorf("load manifests: %w", err)
	}
	for _, o := range all {
		if o.err == nil && o.log.hw != o.state.Start {
			o.err = corruptf("epoch %d begins at %d, but the log ends at %d", o.state.LeaderEpoch, o.state.Start, o.log.hw)
		}
	}
	if err := s.checkCurrent(ctx, all); err != nil {
		return nil, err
	}
	var damaged []error
	for _, o := range all {
		l := o.log
		if o.err != nil {
			damaged = append(damaged, fmt.Errorf("adopt %v: %w", o.state.ID, o.err))
			continue
		}
		l.epoch, l.end = o.state.LeaderEpoch, l.hw
		l.refer()
		if s.install(l) {
			adopted = append(adopted, l.id)
		}
	}
	return adopted, errors.Join(damaged...)
}

// install puts a log into the set, unless there is one of the partition, or one of its epoch has left already: two would give the same
// offsets to different records.
func (s *Set) install(l *Log) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, open := s.logs[l.id]
	if last, left := s.departed[l.id]; open || left && l.epoch <= last {
		l.ended, l.gone = ErrNotLeader, true
		l.letGoLocked()
		return false
	}
	s.logs[l.id] = l
	l.ended = s.fenced
	if len(l.recent) > 0 { // what lies in another life's slots is to be rewritten, though nothing is appended
		l.dirty = true
		s.dirty.add([]*Log{l}, nil)
	}
	s.metrics.adopted.Inc()
	return true
}

// referencesLocked returns what the log has counted in the table of objects.
func (l *Log) referencesLocked() []reference {
	all := slices.Concat(l.retired, l.heads)
	for i := range l.parts {
		all = append(all, l.parts[i].reference())
	}
	for i := range l.recent {
		if l.recent[i].Life != l.set.life {
			all = append(all, l.recent[i].reference())
		}
	}
	return all
}
