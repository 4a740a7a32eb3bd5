package metadata

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"

	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/wal"
)

// Move is a partition that its owner gives to another open life (O2a). The owner has stopped admitting appends, everything that it
// admitted is committed, and the manifest covers it.
type Move struct {
	ID protocol.PartitionID
	To wal.Life
	// LeaderEpoch, Start and History are the new values; History ends with the new epoch.
	LeaderEpoch int32
	Start       int64
	History     []EpochStart
	// Manifest replaces the head at PrevVersion in the same transaction.
	Manifest    ManifestPointer
	PrevVersion int64
}

// moveBatchMax moves take three reads, two comparisons and three writes each, and some reads and comparisons are of lives: 125 of
// etcd's 128.
const moveBatchMax = 36

// epochBytes is more than one epoch takes in a record.
const epochBytes = 128

// moveLives bounds how many lives one transaction gives partitions to: each is compared.
const moveLives = 16

// movesAtOnce is how many transactions of moves are under way at a time.
const movesAtOnce = 4

// Move carries moves out in transactions of moveBatchMax, and says how each ended: nil is moved. ErrStale, ErrUnknownTopic: the partition is
// not the owner's any more, its manifest is not the one, or the target is not OPEN; it was not moved. ErrUnknownOutcome: perhaps.
func (s *Store) Move(ctx context.Context, from wal.Life, moves []Move) []error {
	outcomes := make([]error, len(moves))
	var last atomic.Int64
	var g errgroup.Group
	g.SetLimit(movesAtOnce)
	for done := 0; done < len(moves); {
		n := moveRun(moves[done:])
		batch, out := moves[done:done+n], outcomes[done:done+n]
		g.Go(func() error {
			s.moveBatch(ctx, from, batch, out, &last)
			return nil
		})
		done += n
	}
	_ = g.Wait() // outcomes hold the errors
	ctx, cancel := s.bound(ctx)
	defer cancel()
	s.seen(ctx, last.Load())
	return outcomes
}

// moveBatch makes one transaction, and if that is refused, as it is for all when it is for one, one for each.
func (s *Store) moveBatch(ctx context.Context, from wal.Life, moves []Move, outcomes []error, last *atomic.Int64) {
	rev, err := s.moveSome(ctx, from, moves)
	if refused := errors.Is(err, ErrStale) || errors.Is(err, ErrUnknownTopic); refused && len(moves) > 1 {
		for i := range moves {
			s.moveBatch(ctx, from, moves[i:i+1], outcomes[i:i+1], last)
			if err := outcomes[i]; errors.Is(err, ErrUnavailable) { // the batch may have been refused because it was applied before
				outcomes[i] = fmt.Errorf("%w: %s", ErrUnknownOutcome, err.Error()) // it is not ErrUnavailable any more
			}
		}
		return
	}
	for i := range outcomes {
		outcomes[i] = err
	}
	for seen := last.Load(); rev > seen && !last.CompareAndSwap(seen, rev); seen = last.Load() {
	}
}

// moveRun returns how many moves go into one transaction.
func moveRun(moves []Move) int {
	targets, size := map[wal.Life]bool{}, 0
	for i, m := range moves {
		targets[m.To] = true
		size += epochBytes * (len(m.History) + 1)
		if i == moveBatchMax || i > 0 && (len(targets) > moveLives || size > claimBytes) {
			return i
		}
	}
	return len(moves)
}

// moveSome moves partitions in one transaction.
func (s *Store) moveSome(ctx context.Context, from wal.Life, moves []Move) (int64, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	what := fmt.Sprintf("move %d partitions of life %s, from %s", len(moves), from, moves[0].ID)
	w, err := s.moveWrite(ctx, what, from, moves)
	if err != nil {
		return 0, err
	}
	r, ok, err := s.commit(ctx, w)
	if err != nil {
		return 0, err
	}
	if !ok {
		return 0, fmt.Errorf("%s: %w", what, ErrStale)
	}
	if !r.Succeeded {
		return revAt(r, 0), nil
	}
	return r.Header.Revision, nil
}

// moveWrite reads what the moves rely on, and makes a transaction that compares all of it.
func (s *Store) moveWrite(ctx context.Context, what string, from wal.Life, moves []Move) (write, error) {
	lives := []wal.Life{from}
	known := map[wal.Life]bool{from: true}
	for _, m := range moves {
		if !known[m.To] {
			known[m.To] = true
			lives = append(lives, m.To)
		}
	}
	var gets []clientv3.Op
	for _, m := range moves {
		gets = append(gets, clientv3.OpGet(s.keys.part(m.ID)), clientv3.OpGet(s.keys.manifest(m.ID)), clientv3.OpGet(s.keys.intent(m.ID)))
	}
	for _, l := range lives {
		gets = append(gets, clientv3.OpGet(s.keys.state(l)))
	}
	r, err := s.read(ctx, what, gets...)
	if err != nil {
		return write{}, err
	}
	op := newOp()
	w := write{
		what: what, orElse: []clientv3.Op{clientv3.OpGet(s.keys.part(moves[0].ID))},
		mine: func(r *clientv3.TxnResponse) bool { return opAt(r, 0, op) },
	}
	for i, l := range lives {
		st, err := s.stream(l, kvAt(r, 3*len(moves)+i), nil)
		if err == nil && st.Phase != wal.PhaseOpen {
			err = fmt.Errorf("life %s is not OPEN: %w", l, ErrStale)
		}
		if err != nil {
			return w, fmt.Errorf("%s: %w", what, err)
		}
		w.when = append(w.when, revIs(s.keys.state(l), st.Rev))
	}
	for i, m := range moves {
		if err := followsEpoch(m, kvAt(r, 3*i)); err != nil {
			return w, err
		}
		update := ManifestUpdate{ID: m.ID, Pointer: m.Manifest, PrevVersion: m.PrevVersion}
		if _, err := manifestDone(from, update, kvAt(r, 3*i), kvAt(r, 3*i+1)); err != nil {
			return w, err
		}
		w.when = append(w.when, revIs(s.keys.part(m.ID), revAt(r, 3*i)), revIs(s.keys.manifest(m.ID), revAt(r, 3*i+1)))
		w.then = append(w.then,
			clientv3.OpPut(s.keys.part(m.ID), encodePart(op, m.To, m.LeaderEpoch, m.Start, m.History)),
			clientv3.OpPut(s.keys.manifest(m.ID), encodeManifest(op, m.Manifest)))
		if done := s.intentDone(m, kvAt(r, 3*i+2)); done != nil {
			w.then = append(w.then, *done)
		}
	}
	return w, nil
}

// intentDone removes the intent that a move carries out. One that came meanwhile, or that sends the partition elsewhere, is the new
// owner's: a reassignment that was accepted is not lost.
func (s *Store) intentDone(m Move, intent *kvPair) *clientv3.Op {
	if intent == nil {
		return nil
	}
	if v, err := decode[intentValue](string(intent.Key), intent.Value); err == nil && v.To != m.To.String() {
		return nil
	}
	key := string(intent.Key)
	done := clientv3.OpTxn([]clientv3.Cmp{revIs(key, intent.ModRevision)}, []clientv3.Op{clientv3.OpDelete(key)}, nil)
	return &done
}

// followsEpoch makes sure that leader epochs rise by one.
func followsEpoch(m Move, part *kvPair) error {
	if part == nil {
		return fmt.Errorf("move %s: %w", m.ID, ErrUnknownTopic)
	}
	v, err := decode[partValue](string(part.Key), part.Value)
	if err == nil && v.Epoch+1 != m.LeaderEpoch {
		err = fmt.Errorf("move %s to epoch %d: %w: it is at epoch %d", m.ID, m.LeaderEpoch, ErrStale, v.Epoch)
	}
	return err
}

// States returns the ownership records and manifest heads of some partitions, in order, leaving out those that do not exist. Each is
// newer than the call, but not all of one moment.
func (s *Store) States(ctx context.Context, ids []protocol.PartitionID) ([]PartitionState, error) {
	var out []PartitionState
	for len(ids) > 0 {
		n := min(batchOps/2, len(ids))
		some, err := s.someStates(ctx, ids[:n])
		if err != nil {
			return nil, err
		}
		out, ids = append(out, some...), ids[n:]
	}
	return out, nil
}

func (s *Store) someStates(ctx context.Context, ids []protocol.PartitionID) ([]PartitionState, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	var gets []clientv3.Op
	for _, id := range ids {
		gets = append(gets, clientv3.OpGet(s.keys.part(id)), clientv3.OpGet(s.keys.manifest(id)))
	}
	r, err := s.read(ctx, fmt.Sprintf("read %d partitions from %s", len(ids), ids[0]), gets...)
	if err != nil {
		return nil, err
	}
	var out []PartitionState
	for i, id := range ids {
		kv := kvAt(r, 2*i)
		if kv == nil {
			continue
		}
		st, err := partitionState(id, kv, kvAt(r, 2*i+1))
		if err != nil {
			return nil, err
		}
		out = append(out, st)
	}
	return out, nil
}

// partitionState decodes a partition's record and its manifest head, which may be nil.
func partitionState(id protocol.PartitionID, kv, manifest *kvPair) (PartitionState, error) {
	v, err := decode[partValue](string(kv.Key), kv.Value)
	if err != nil {
		return PartitionState{}, err
	}
	st, err := v.state(id, kv.ModRevision)
	if err != nil || manifest == nil {
		return st, err
	}
	m, err := decode[manifestValue](string(manifest.Key), manifest.Value)
	if err != nil {
		return st, err
	}
	p := m.pointer()
	st.Manifest, st.ManifestRev = &p, manifest.ModRevision
	return st, nil
}
