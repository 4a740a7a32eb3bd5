package metadata

import (
	"context"
	"fmt"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/wal"
)

const (
	// claimBatch partitions take two comparisons and three writes each, and two comparisons are of lives: 120 of etcd's 128.
	claimBatch = 40
	// claimBytes keeps a transaction below etcd's 1.5 MiB even when histories are long.
	claimBytes = 512 << 10
)

// listing is all partitions at one revision.
type listing struct {
	states  []PartitionState
	orphans map[protocol.TopicID]bool
}

// Partitions lists the ownership records of all partitions of existing topics, as of one revision.
func (s *Store) Partitions(ctx context.Context) ([]PartitionState, error) {
	l, err := s.listPartitions(ctx)
	return l.states, err
}

func (s *Store) listPartitions(ctx context.Context) (listing, error) {
	l := listing{orphans: map[protocol.TopicID]bool{}}
	bounded, cancel := s.bound(ctx)
	head, err := s.read(bounded, "list partitions", clientv3.OpGet(s.keys.cluster()))
	cancel()
	if err != nil {
		return l, err
	}
	rev := head.Header.Revision
	counts := map[string]int32{}
	manifests := map[string]*mvccpb.KeyValue{}
	var bad error
	err = s.page(ctx, s.keys.topics(), rev, func(kv *mvccpb.KeyValue) {
		v, err := decode[topicValue](string(kv.Key), kv.Value)
		if err != nil {
			bad = err
		}
		counts[strings.TrimPrefix(string(kv.Key), s.keys.topics())] = v.Partitions
	})
	if err == nil {
		err = s.page(ctx, s.keys.allManifests(), rev, func(kv *mvccpb.KeyValue) {
			manifests[strings.TrimPrefix(string(kv.Key), s.keys.allManifests())] = kv
		})
	}
	if err == nil {
		err = s.page(ctx, s.keys.allParts(), rev, func(kv *mvccpb.KeyValue) {
			name := strings.TrimPrefix(string(kv.Key), s.keys.allParts())
			if err := l.add(name, kv, manifests[name], counts); err != nil {
				bad = err
			}
		})
	}
	if err == nil {
		err = bad
	}
	for name := range manifests {
		if id, err := orphan("", name); err == nil && counts[id.String()] == 0 {
			l.orphans[id] = true
		}
	}
	return l, err
}

func (l *listing) add(name string, kv, manifest *mvccpb.KeyValue, counts map[string]int32) error {
	id, err := parsePartition(name)
	if err != nil {
		return fmt.Errorf("key %s: %w", kv.Key, err)
	}
	count, ok := counts[id.Topic.String()]
	if !ok {
		l.orphans[id.Topic] = true
	}
	if id.Partition >= count {
		return nil
	}
	st, err := partitionState(id, kv, manifest)
	if err != nil {
		return err
	}
	l.states = append(l.states, st)
	return nil
}

// Claim moves partitions of sealed lives to an open one (O2b, S7), in batches. ErrStale: a partition, its manifest or a
// life is not as the claim says; ErrFenced: to is not OPEN. After an error some may have moved: list again.
func (s *Store) Claim(ctx context.Context, to wal.Life, claims []Claim) error {
	var last int64
	for len(claims) > 0 {
		n, rev, err := s.claimSome(ctx, to, claims)
		if err != nil {
			return err
		}
		claims, last = claims[n:], max(last, rev)
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	s.seen(ctx, last)
	return nil
}

// claimSome moves the first few partitions, all from one life, and says how many.
func (s *Store) claimSome(ctx context.Context, to wal.Life, claims []Claim) (int, int64, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	old, op := claims[0].OldLife, newOp()
	what := fmt.Sprintf("claim partitions of life %s from %s", old, claims[0].ID)
	w, n := claimWrite(what, op, to, claims, s.keys)
	// A claim is not idempotent by its arguments, so the lives are read first; comparing their revisions keeps the answer.
	r, err := s.read(ctx, what, append(s.gets(old), s.gets(to)...)...)
	if err != nil {
		return 0, 0, err
	}
	from, err := s.stream(old, kvAt(r, 0), kvAt(r, 1))
	if err != nil {
		return 0, 0, err
	}
	into, err := s.stream(to, kvAt(r, 2), kvAt(r, 3))
	switch {
	case err != nil:
		return 0, 0, err
	case from.Phase != wal.PhaseSealed:
		return 0, 0, fmt.Errorf("%s: %w: it is not SEALED (S7)", what, ErrStale)
	case into.Phase != wal.PhaseOpen:
		return 0, 0, fmt.Errorf("%s to %s: %w", what, to, ErrFenced)
	}
	w.when = append(w.when, revIs(s.keys.state(old), from.Rev), revIs(s.keys.state(to), into.Rev))
	w.orElse = []clientv3.Op{clientv3.OpGet(s.keys.part(claims[0].ID))}
	w.mine = func(r *clientv3.TxnResponse) bool { return opAt(r, 0, op) }
	r, ok, err := s.commit(ctx, w)
	if err != nil {
		return 0, 0, err
	}
	if !ok {
		return 0, 0, fmt.Errorf("%s: %w", what, ErrStale)
	}
	rev := r.Header.Revision
	if !r.Succeeded {
		rev = revAt(r, 0)
	}
	return n, rev, nil
}

// claimWrite puts as many claims from one life into a transaction as fit, and says how many.
func claimWrite(what, op string, to wal.Life, claims []Claim, k keys) (write, int) {
	w := write{what: what}
	n, size := 0, 0
	for n < len(claims) && n < claimBatch && size < claimBytes && claims[n].OldLife == claims[0].OldLife {
		c := claims[n]
		value := encodePart(op, to, c.LeaderEpoch, c.Start, c.History)
		w.when = append(w.when, revIs(k.part(c.ID), c.Rev), revIs(k.manifest(c.ID), c.ManifestRev))
		w.then = append(w.then, clientv3.OpPut(k.part(c.ID), value), clientv3.OpDelete(k.intent(c.ID)))
		if c.Manifest != nil {
			w.then = append(w.then, clientv3.OpPut(k.manifest(c.ID), encodeManifest(op, *c.Manifest)))
		}
		size += len(value)
		n++
	}
	return w, n
}

// CommitManifests replaces manifest heads of partitions that life owns, in batches. ErrStale: a partition has another
// owner, or its head is not at PrevVersion. A head that is already the wanted one counts as done. After an error some may
// be replaced.
func (s *Store) CommitManifests(ctx context.Context, life wal.Life, updates []ManifestUpdate) error {
	for len(updates) > 0 {
		n := min(claimBatch, len(updates))
		if err := s.commitSome(ctx, life, updates[:n]); err != nil {
			return err
		}
		updates = updates[n:]
	}
	return nil
}

func (s *Store) commitSome(ctx context.Context, life wal.Life, updates []ManifestUpdate) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	what := fmt.Sprintf("commit manifests of life %s from %s", life, updates[0].ID)
	var gets []clientv3.Op
	for _, u := range updates {
		gets = append(gets, clientv3.OpGet(s.keys.part(u.ID)), clientv3.OpGet(s.keys.manifest(u.ID)))
	}
	r, err := s.read(ctx, what, gets...)
	if err != nil {
		return err
	}
	op := newOp()
	w := write{what: what, mine: func(r *clientv3.TxnResponse) bool { return opAt(r, 0, op) }}
	for i, u := range updates {
		done, err := manifestDone(life, u, kvAt(r, 2*i), kvAt(r, 2*i+1))
		if err != nil {
			return err
		}
		if done {
			continue
		}
		w.when = append(w.when, revIs(s.keys.part(u.ID), revAt(r, 2*i)), revIs(s.keys.manifest(u.ID), revAt(r, 2*i+1)))
		w.then = append(w.then, clientv3.OpPut(s.keys.manifest(u.ID), encodeManifest(op, u.Pointer)))
		w.orElse = []clientv3.Op{clientv3.OpGet(s.keys.manifest(u.ID))}
	}
	if len(w.then) == 0 {
		return nil
	}
	_, ok, err := s.commit(ctx, w)
	if err == nil && !ok {
		err = fmt.Errorf("%s: %w", what, ErrStale)
	}
	return err
}

// manifestDone judges one update by the partition's records: already made, to be made (false), or stale.
func manifestDone(life wal.Life, u ManifestUpdate, part, manifest *mvccpb.KeyValue) (bool, error) {
	if part == nil {
		return false, fmt.Errorf("commit manifest of %s: %w", u.ID, ErrUnknownTopic)
	}
	p, err := decode[partValue](string(part.Key), part.Value)
	if err != nil {
		return false, err
	}
	if p.Owner != life.String() {
		return false, fmt.Errorf("commit manifest of %s: %w: its owner is %s", u.ID, ErrStale, p.Owner)
	}
	var now ManifestPointer
	if manifest != nil {
		m, err := decode[manifestValue](string(manifest.Key), manifest.Value)
		if err != nil {
			return false, err
		}
		now = m.pointer()
	}
	if now == u.Pointer {
		return true, nil
	}
	if now.Version != u.PrevVersion {
		return false, fmt.Errorf("commit manifest of %s: %w: version is %d, not %d", u.ID, ErrStale, now.Version, u.PrevVersion)
	}
	return false, nil
}
