package metadata

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/wal"
)

// CreatePartitions raises the number of a topic's partitions; owner names the life that owns partition i. replicas are the pins of the new
// ones, one for each and not empty, see Pin, or nil. Errors: ErrUnknownTopic; ErrPartitionCount when the topic has as many already;
// ErrStale when it has not the number that the call is from, is changed meanwhile, or an owner is not OPEN.
func (s *Store) CreatePartitions(ctx context.Context, id protocol.TopicID, from, to int32, owner func(i int32) wal.Life, replicas [][]int32) error {
	what := fmt.Sprintf("raise topic %s from %d to %d partitions", id, from, to)
	v, rev, open, err := s.beforePartitions(ctx, what, id, from, to, owner)
	if err != nil {
		return err
	}
	same := []clientv3.Cmp{revIs(s.keys.topic(id), rev)}
	if err := s.removePins(ctx, what, id, from, same); err != nil {
		return err
	}
	if _, err := s.putParts(ctx, what, newParts{topic: id, from: from, to: to, owner: owner, replicas: replicas}, same); err != nil {
		return err
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	v.Partitions = to
	return s.replaceTopic(ctx, what, id, v, rev, open)
}

// beforePartitions replaces a topic's record by itself and returns it with its new revision, which all that follows compares: who writes
// the same partitions at the same time, or late, is refused. The comparisons hold while the owners are OPEN.
func (s *Store) beforePartitions(ctx context.Context, what string, id protocol.TopicID, from, to int32, owner func(i int32) wal.Life) (topicValue, int64, []clientv3.Cmp, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	v, rev, err := s.topicRecord(ctx, what, id)
	switch {
	case err != nil:
		return v, 0, nil, err
	case to <= v.Partitions:
		return v, 0, nil, fmt.Errorf("%s: %w: it has %d", what, ErrPartitionCount, v.Partitions)
	case from != v.Partitions:
		s.seen(ctx, rev)
		return v, 0, nil, fmt.Errorf("%s: %w: it has %d", what, ErrStale, v.Partitions)
	}
	open, err := s.openStates(ctx, what, owner, from, to)
	if err != nil {
		return v, 0, nil, err
	}
	v.header = newHeader(newOp())
	rev, err = s.swap(ctx, what, s.keys.topic(id), v.Op, encode(v), []clientv3.Cmp{revIs(s.keys.topic(id), rev)})
	return v, rev, open, err
}

// removePins removes the pins that an interrupted CreatePartitions left of partitions that the topic does not have.
func (s *Store) removePins(ctx context.Context, what string, id protocol.TopicID, from int32, when []clientv3.Cmp) error {
	var left []clientv3.Op
	var bad error
	err := s.page(ctx, s.keys.pinsOf(id), 0, func(kv *mvccpb.KeyValue) {
		p, err := parsePartition(strings.TrimPrefix(string(kv.Key), s.keys.pins()))
		if err != nil {
			bad = fmt.Errorf("key %s: %w", kv.Key, err)
		} else if p.Partition >= from {
			left = append(left, clientv3.OpDelete(string(kv.Key)))
		}
	})
	if err = errors.Join(err, bad); err != nil {
		return err
	}
	for some := range slices.Chunk(left, batchOps) {
		if _, err := s.writeBatch(ctx, write{what: what, when: when, then: some}); err != nil {
			return err
		}
	}
	return nil
}

// SetTopicConfigs replaces a topic's configs if its record is still at rev, else ErrStale.
func (s *Store) SetTopicConfigs(ctx context.Context, id protocol.TopicID, want map[string]string, rev int64) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	what := "set configs of topic " + id.String()
	v, now, err := s.topicRecord(ctx, what, id)
	if err != nil {
		return err
	}
	if now != rev {
		s.seen(ctx, now)
		return fmt.Errorf("%s: %w", what, ErrStale)
	}
	v.Configs = want
	return s.replaceTopic(ctx, what, id, v, rev, nil)
}

func (s *Store) replaceTopic(ctx context.Context, what string, id protocol.TopicID, v topicValue, rev int64, also []clientv3.Cmp) error {
	v.header = newHeader(newOp())
	return s.replace(ctx, what, s.keys.topic(id), v.Op, encode(v), append([]clientv3.Cmp{revIs(s.keys.topic(id), rev)}, also...))
}

// replace puts one value if all comparisons hold, else ErrStale, and waits until the Image shows it.
func (s *Store) replace(ctx context.Context, what, key, op, value string, when []clientv3.Cmp, how ...clientv3.OpOption) error {
	rev, err := s.swap(ctx, what, key, op, value, when, how...)
	if err != nil {
		return err
	}
	s.seen(ctx, rev)
	return nil
}

// swap puts one value if all comparisons hold, and returns its revision. ErrStale comes once the Image shows what is there instead, so that who
// decides again does not decide by the same.
func (s *Store) swap(ctx context.Context, what, key, op, value string, when []clientv3.Cmp, how ...clientv3.OpOption) (int64, error) {
	r, ok, err := s.commit(ctx, write{
		what: what, when: when,
		then:   []clientv3.Op{clientv3.OpPut(key, value, how...)},
		orElse: []clientv3.Op{clientv3.OpGet(key)},
		mine:   func(r *clientv3.TxnResponse) bool { return opAt(r, 0, op) },
	})
	if err != nil {
		return 0, err
	}
	if !ok {
		s.seen(ctx, revAt(r, 0))
		return 0, fmt.Errorf("%s: %w", what, ErrStale)
	}
	if !r.Succeeded {
		return revAt(r, 0), nil
	}
	return r.Header.Revision, nil
}

// SetBrokerConfigs replaces the dynamic configs of a broker, or of DefaultBroker, if they are still at rev, else ErrStale.
func (s *Store) SetBrokerConfigs(ctx context.Context, broker int32, want map[string]string, rev int64) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	key, op := s.keys.config(broker), newOp()
	what := fmt.Sprintf("set configs of broker %d", broker)
	return s.replace(ctx, what, key, op, encode(configValue{newHeader(op), want}), []clientv3.Cmp{revIs(key, rev)})
}

// Sweep removes the partition records and manifest heads of topics that do not exist: what an interrupted CreateTopics or
// DeleteTopic left. A creation going on elsewhere may have to start over.
func (s *Store) Sweep(ctx context.Context) error {
	l, err := s.listPartitions(ctx)
	if err != nil {
		return err
	}
	for id := range l.orphans {
		if err := s.sweepTopic(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

// sweepTopic removes the records of a topic that does not exist, in batches, partition 0 first (see publishTopic).
func (s *Store) sweepTopic(ctx context.Context, id protocol.TopicID) error {
	dels := []clientv3.Op{clientv3.OpDelete(s.keys.part(protocol.PartitionID{Topic: id}))}
	var err error
	for len(dels) > 0 && err == nil {
		dels, err = s.sweepSome(ctx, id, dels)
	}
	return err
}

// sweepSome makes one batch of sweepTopic, in a time of its own: of a topic with many partitions there are hundreds. It returns the next one,
// which is empty at the end, or when the topic exists.
func (s *Store) sweepSome(ctx context.Context, id protocol.TopicID, dels []clientv3.Op) ([]clientv3.Op, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	what := "sweep topic " + id.String()
	_, ok, err := s.commit(ctx, write{what: what, when: []clientv3.Cmp{revIs(s.keys.topic(id), 0)}, then: dels})
	if err != nil || !ok {
		return nil, err
	}
	limit := []clientv3.OpOption{clientv3.WithPrefix(), clientv3.WithLimit(batchOps), clientv3.WithKeysOnly()}
	r, err := s.read(ctx, what, clientv3.OpGet(s.keys.parts(id), limit...), clientv3.OpGet(s.keys.manifests(id), limit...),
		clientv3.OpGet(s.keys.intentsOf(id), limit...), clientv3.OpGet(s.keys.pinsOf(id), limit...))
	if err != nil {
		return nil, err
	}
	dels = nil
	for _, answer := range r.Responses {
		for _, kv := range answer.GetResponseRange().Kvs {
			dels = append(dels, clientv3.OpDelete(string(kv.Key)))
		}
	}
	return dels[:min(len(dels), batchOps)], nil
}

// orphan returns the topic of a partition's or manifest's key.
func orphan(prefix, key string) (protocol.TopicID, error) {
	id, _, _ := strings.Cut(strings.TrimPrefix(key, prefix), "/")
	return protocol.ParseTopicID(id)
}
