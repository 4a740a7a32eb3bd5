package metadata

import (
	"context"
	"fmt"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/wal"
)

// CreatePartitions raises the number of a topic's partitions to count; owner names the life that owns partition i. replicas are the pins of
// the new ones, see Pin, or nil.
// Errors: ErrUnknownTopic, ErrPartitionCount when count is not above the present number, ErrStale.
func (s *Store) CreatePartitions(ctx context.Context, id protocol.TopicID, count int32, owner func(i int32) wal.Life, replicas [][]int32) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	what := fmt.Sprintf("raise topic %s to %d partitions", id, count)
	v, rev, err := s.topicRecord(ctx, what, id)
	if err != nil {
		return err
	}
	if count <= v.Partitions {
		return fmt.Errorf("%s: %w: it has %d", what, ErrPartitionCount, v.Partitions)
	}
	open, err := s.openStates(ctx, what, owner, v.Partitions, count)
	if err != nil {
		return err
	}
	// Records that are not counted yet may be written again; the comparison keeps off those that are.
	same := []clientv3.Cmp{revIs(s.keys.topic(id), rev)}
	n := newParts{topic: id, from: v.Partitions, to: count, owner: owner, replicas: replicas}
	if _, err := s.putParts(ctx, what, n, same); err != nil {
		return err
	}
	v.Partitions = count
	return s.replaceTopic(ctx, what, id, v, rev, open)
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
	r, ok, err := s.commit(ctx, write{
		what: what, when: when,
		then:   []clientv3.Op{clientv3.OpPut(key, value, how...)},
		orElse: []clientv3.Op{clientv3.OpGet(key)},
		mine:   func(r *clientv3.TxnResponse) bool { return opAt(r, 0, op) },
	})
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("%s: %w", what, ErrStale)
	}
	rev := r.Header.Revision
	if !r.Succeeded {
		rev = revAt(r, 0)
	}
	s.seen(ctx, rev)
	return nil
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
		bounded, cancel := s.bound(ctx)
		err := s.sweepTopic(bounded, id)
		cancel()
		if err != nil {
			return err
		}
	}
	return nil
}

// sweepTopic removes the records of a topic that does not exist, in batches, partition 0 first (see publishTopic).
func (s *Store) sweepTopic(ctx context.Context, id protocol.TopicID) error {
	what := "sweep topic " + id.String()
	first := s.keys.part(protocol.PartitionID{Topic: id})
	dead := []clientv3.Cmp{revIs(s.keys.topic(id), 0)}
	dels := []clientv3.Op{clientv3.OpDelete(first)}
	for {
		_, ok, err := s.commit(ctx, write{what: what, when: dead, then: dels})
		if err != nil || !ok {
			return err
		}
		limit := []clientv3.OpOption{clientv3.WithPrefix(), clientv3.WithLimit(batchOps / 4), clientv3.WithKeysOnly()}
		r, err := s.read(ctx, what, clientv3.OpGet(s.keys.parts(id), limit...), clientv3.OpGet(s.keys.manifests(id), limit...),
			clientv3.OpGet(s.keys.intentsOf(id), limit...), clientv3.OpGet(s.keys.pinsOf(id), limit...))
		if err != nil {
			return err
		}
		dels = nil
		for _, answer := range r.Responses {
			for _, kv := range answer.GetResponseRange().Kvs {
				dels = append(dels, clientv3.OpDelete(string(kv.Key)))
			}
		}
		if len(dels) == 0 {
			return nil
		}
	}
}

// orphan returns the topic of a partition's or manifest's key.
func orphan(prefix, key string) (protocol.TopicID, error) {
	id, _, _ := strings.Cut(strings.TrimPrefix(key, prefix), "/")
	return protocol.ParseTopicID(id)
}
