package metadata

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/wal"
)

const (
	// batchOps keeps a transaction within etcd's 128 operations for each of its three lists.
	batchOps = 100
	// createAttempts bounds how often a topic is created anew because a sweep took its unfinished records.
	createAttempts = 3
)

// CreateTopics creates topics, each atomically and by itself; owner names the life that owns partition i of a spec, which must be
// OPEN. It returns one result for each spec, in order. Errors: ErrTopicExists, ErrTopicCollides, ErrPartitionCount,
// ErrStale when an owner is not OPEN.
func (s *Store) CreateTopics(ctx context.Context, specs []TopicSpec, owner func(spec int, i int32) wal.Life) []CreateResult {
	results := make([]CreateResult, len(specs))
	var last int64
	for i, spec := range specs {
		var rev int64
		results[i].Topic, rev, results[i].Err = s.createTopic(ctx, spec, func(p int32) wal.Life { return owner(i, p) })
		last = max(last, rev)
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	s.seen(ctx, last)
	return results
}

func (s *Store) createTopic(ctx context.Context, spec TopicSpec, owner func(i int32) wal.Life) (*Topic, int64, error) {
	what := "create topic " + spec.Name
	if spec.Partitions < 1 {
		return nil, 0, fmt.Errorf("%s with %d partitions: %w", what, spec.Partitions, ErrPartitionCount)
	}
	for range createAttempts {
		open, err := s.beforeTopic(ctx, what, spec, owner)
		if err != nil {
			return nil, 0, err
		}
		var id protocol.TopicID
		rand.Read(id[:]) // crypto/rand.Read never fails
		n := newParts{topic: id, to: spec.Partitions, owner: owner, replicas: spec.Replicas}
		parts, err := s.putParts(ctx, what, n, []clientv3.Cmp{revIs(s.keys.topic(id), 0)})
		if err != nil {
			return nil, 0, err
		}
		topic, rev, err := s.publishTopic(ctx, what, spec, id, parts[0].Rev, open)
		if topic == nil && !errors.Is(err, ErrUnknownOutcome) && !errors.Is(err, ErrUnavailable) {
			s.sweepNow(ctx, id) // many may create one name at once, and one of them does
		}
		if err != nil {
			return nil, 0, err
		}
		if topic != nil {
			topic.Partitions = parts
			return topic, rev, nil
		}
	}
	return nil, 0, fmt.Errorf("%s: %w", what, ErrStale)
}

// beforeTopic looks before the work; the last transaction decides. It returns comparisons that hold while the owners are OPEN.
func (s *Store) beforeTopic(ctx context.Context, what string, spec TopicSpec, owner func(i int32) wal.Life) ([]clientv3.Cmp, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	r, err := s.read(ctx, what, clientv3.OpGet(s.keys.name(spec.Name)))
	if err != nil {
		return nil, err
	}
	if kvAt(r, 0) != nil {
		return nil, s.nameTaken(r, spec.Name)
	}
	return s.openStates(ctx, what, owner, 0, spec.Partitions)
}

// publishTopic makes a topic visible whose partitions are written. It returns nil without an error when a sweep took them.
func (s *Store) publishTopic(ctx context.Context, what string, spec TopicSpec, id protocol.TopicID, firstRev int64, open []clientv3.Cmp) (*Topic, int64, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	op, now := newOp(), time.Now()
	record := topicValue{
		header: newHeader(op), Name: spec.Name, Partitions: spec.Partitions, Factor: spec.ReplicationFactor,
		Internal: spec.Internal, Configs: spec.Configs, Created: now.UnixMilli(),
	}
	name := s.keys.name(spec.Name)
	first := s.keys.part(protocol.PartitionID{Topic: id})
	r, ok, err := s.commit(ctx, write{
		what: what,
		// Partition 0 stands for all: a sweep and a deletion remove it first. So a late attempt cannot revive the topic.
		when: append([]clientv3.Cmp{revIs(name, 0), revIs(s.keys.topic(id), 0), revIs(first, firstRev)}, open...),
		then: []clientv3.Op{
			clientv3.OpPut(s.keys.topic(id), encode(record)),
			clientv3.OpPut(name, encode(nameValue{newHeader(op), spec.Name, id.String()})),
		},
		orElse: []clientv3.Op{clientv3.OpGet(name), clientv3.OpGet(s.keys.topic(id)), clientv3.OpGet(first)},
		mine:   func(r *clientv3.TxnResponse) bool { return opAt(r, 0, op) },
	})
	switch {
	case err != nil:
		return nil, 0, err
	case !ok && kvAt(r, 0) != nil:
		return nil, 0, s.nameTaken(r, spec.Name)
	case !ok && revAt(r, 2) == firstRev:
		return nil, 0, fmt.Errorf("%s: %w: an owner is no longer OPEN", what, ErrStale)
	case !ok:
		return nil, 0, nil
	}
	rev := r.Header.Revision
	if !r.Succeeded {
		rev = revAt(r, 1)
	}
	return &Topic{
		Name: spec.Name, ID: id, ReplicationFactor: spec.ReplicationFactor, Internal: spec.Internal,
		Configs: spec.Configs, Created: time.UnixMilli(now.UnixMilli()), Rev: rev,
	}, rev, nil
}

func (s *Store) nameTaken(r *clientv3.TxnResponse, name string) error {
	v, err := decode[nameValue](s.keys.name(name), kvAt(r, 0).Value)
	switch {
	case err != nil:
		return err
	case v.Name == name:
		return fmt.Errorf("create topic %s: %w", name, ErrTopicExists)
	}
	return fmt.Errorf("create topic %s: %w: %s", name, ErrTopicCollides, v.Name)
}

// openStates returns comparisons that hold while all owners of partitions from..to are OPEN: a partition given to a life
// that is already sealed would have missed its takeover (O2).
func (s *Store) openStates(ctx context.Context, what string, owner func(i int32) wal.Life, from, to int32) ([]clientv3.Cmp, error) {
	var open []clientv3.Cmp
	known := map[wal.Life]bool{}
	for i := from; i < to; i++ {
		life := owner(i)
		if known[life] {
			continue
		}
		known[life] = true
		st, err := s.load(ctx, life)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", what, err)
		}
		if st.Phase != wal.PhaseOpen {
			return nil, fmt.Errorf("%s: %w: owner %s is not OPEN", what, ErrStale, life)
		}
		open = append(open, revIs(s.keys.state(life), st.Rev))
	}
	return open, nil
}

// newParts are the partitions from..to of a topic that are to be written.
type newParts struct {
	topic    protocol.TopicID
	from, to int32
	owner    func(i int32) wal.Life
	replicas [][]int32 // their pins, that of from first; nil: none
}

// putParts writes the first ownership records of partitions, and their pins, in batches that hold while the comparisons do. They show only
// once the topic's record counts them.
func (s *Store) putParts(ctx context.Context, what string, n newParts, when []clientv3.Cmp) ([]Partition, error) {
	parts := make([]Partition, 0, n.to-n.from)
	batch := int32(batchOps)
	if n.replicas != nil {
		batch /= 2
	}
	for from := n.from; from < n.to; {
		end := min(from+batch, n.to)
		op := newOp()
		var puts []clientv3.Op
		for i := from; i < end; i++ {
			id, life := protocol.PartitionID{Topic: n.topic, Partition: i}, n.owner(i)
			puts = append(puts, clientv3.OpPut(s.keys.part(id), encodePart(op, life, 0, 0, []EpochStart{{Epoch: 0, Start: 0, Life: life}})))
			if n.replicas != nil {
				puts = append(puts, clientv3.OpPut(s.keys.pin(id), encode(pinValue{newHeader(op), n.replicas[i-n.from]})))
			}
			parts = append(parts, Partition{Owner: life})
		}
		r, err := s.writeBatch(ctx, write{what: what, when: when, then: puts})
		if err != nil {
			return nil, err
		}
		for i := from; i < end; i++ {
			parts[i-n.from].Rev = r.Header.Revision
		}
		from = end
	}
	return parts, nil
}

// writeBatch makes one of many transactions, in a time of its own. ErrStale: a comparison does not hold.
func (s *Store) writeBatch(ctx context.Context, w write) (*clientv3.TxnResponse, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	r, ok, err := s.commit(ctx, w)
	if err == nil && !ok {
		err = fmt.Errorf("%s: %w", w.what, ErrStale)
	}
	return r, err
}

// DeleteTopic removes a topic: it vanishes in one transaction, its other records follow. What an
// interrupted call leaves is removed by Sweep. ErrUnknownTopic when it is not there.
func (s *Store) DeleteTopic(ctx context.Context, id protocol.TopicID) error {
	if err := s.hideTopic(ctx, id); err != nil {
		return err
	}
	s.sweepNow(ctx, id)
	return nil
}

// hideTopic removes the records that show a topic, and waits until the Image does not.
func (s *Store) hideTopic(ctx context.Context, id protocol.TopicID) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	what := "delete topic " + id.String()
	for {
		v, rev, err := s.topicRecord(ctx, what, id)
		if err != nil {
			return err
		}
		_, ok, err := s.commit(ctx, write{
			what: what,
			when: []clientv3.Cmp{revIs(s.keys.topic(id), rev)},
			then: []clientv3.Op{
				clientv3.OpDelete(s.keys.topic(id)), clientv3.OpDelete(s.keys.name(v.Name)),
				clientv3.OpDelete(s.keys.part(protocol.PartitionID{Topic: id})),
			},
			orElse: []clientv3.Op{clientv3.OpGet(s.keys.topic(id))},
			// Gone after an attempt of ours, by whomever: what was asked for holds.
			mine: func(r *clientv3.TxnResponse) bool { return kvAt(r, 0) == nil },
		})
		if err != nil {
			return err
		}
		if ok {
			s.until(ctx, func(i *Image) bool { return i.TopicsByID[id] == nil })
			return nil
		}
	}
}

// sweepNow removes the records of a topic that does not exist. What is left is invisible and the next Sweep's.
func (s *Store) sweepNow(ctx context.Context, id protocol.TopicID) {
	if err := s.sweepTopic(ctx, id); err != nil {
		s.config.Logger.LogAttrs(ctx, slog.LevelWarn, "records of a topic that does not exist remain", slog.Any("error", err))
	}
}

func (s *Store) topicRecord(ctx context.Context, what string, id protocol.TopicID) (topicValue, int64, error) {
	r, err := s.read(ctx, what, clientv3.OpGet(s.keys.topic(id)))
	if err != nil {
		return topicValue{}, 0, err
	}
	kv := kvAt(r, 0)
	if kv == nil {
		return topicValue{}, 0, fmt.Errorf("%s: %w", what, ErrUnknownTopic)
	}
	v, err := decode[topicValue](string(kv.Key), kv.Value)
	return v, kv.ModRevision, err
}
