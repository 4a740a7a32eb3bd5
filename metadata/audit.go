package metadata

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/tidemill/tidemill/objectstore"
	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/wal"
)

// GuardKey is the object by which a bucket says whose it is.
const GuardKey = guardKey

// ErrGuard means that the bucket's guard is not what was written.
var ErrGuard = errors.New("metadata: guard is damaged")

// ErrUnknownPartition means that the topic exists and has no record of such a partition.
var ErrUnknownPartition = errors.New("metadata: unknown partition")

// CheckGuard reads the guard and holds it against what EnsureGuard writes, byte for byte. It writes nothing: an absent guard is
// objectstore.ErrNotFound. Else ErrGuard when it differs, and ErrForeignBucket too when it names another cluster.
func CheckGuard(ctx context.Context, store objectstore.Store, clusterID string) error {
	found, err := store.Get(ctx, guardKey)
	if err != nil {
		return fmt.Errorf("read %s: %w", guardKey, err)
	}
	if err := checkGuard(found, clusterID); err != nil {
		return fmt.Errorf("%w: %w", ErrGuard, err)
	}
	want, err := json.MarshalIndent(guardObject{"tidemill-cluster", 1, clusterID}, "", "  ")
	if err != nil {
		return fmt.Errorf("encode %s: %w", guardKey, err)
	}
	if !bytes.Equal(found, append(want, '\n')) {
		return fmt.Errorf("%w: %s in the bucket is not as it was created", ErrGuard, guardKey)
	}
	return nil
}

// AllLives returns the lives of all brokers, in the order of their names, as of one revision.
func (s *Store) AllLives(ctx context.Context) ([]wal.StreamState, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	head, err := s.read(ctx, "list lives", clientv3.OpGet(s.keys.cluster()))
	if err != nil {
		return nil, err
	}
	prefix := string(s.keys) + "w/"
	states, trims := map[wal.Life]*mvccpb.KeyValue{}, map[wal.Life]*mvccpb.KeyValue{}
	var order []wal.Life
	var bad error
	err = s.page(ctx, prefix, head.Header.Revision, func(kv *mvccpb.KeyValue) {
		name := strings.TrimPrefix(string(kv.Key), prefix)
		i := strings.LastIndexByte(name, '/')
		life, err := wal.ParseLife(name[:max(i, 0)])
		switch {
		case err != nil:
			bad = fmt.Errorf("key %s: %w", kv.Key, err)
		case name[i:] == "/state":
			states[life] = kv
			order = append(order, life)
		case name[i:] == "/trim":
			trims[life] = kv
		}
	})
	if err == nil {
		err = bad
	}
	if err != nil {
		return nil, err
	}
	out := make([]wal.StreamState, 0, len(order))
	for _, life := range order {
		st, err := s.stream(life, states[life], trims[life])
		if err != nil {
			return nil, err
		}
		out = append(out, st)
	}
	return out, nil
}

// Partition returns the ownership record of one partition with its manifest head. ErrUnknownTopic when its topic does not
// exist, ErrUnknownPartition when there is no record of it though.
func (s *Store) Partition(ctx context.Context, id protocol.PartitionID) (PartitionState, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	what := "read partition " + id.String()
	r, err := s.read(ctx, what, clientv3.OpGet(s.keys.topic(id.Topic)), clientv3.OpGet(s.keys.part(id)), clientv3.OpGet(s.keys.manifest(id)))
	if err != nil {
		return PartitionState{}, err
	}
	topic, part, manifest := kvAt(r, 0), kvAt(r, 1), kvAt(r, 2)
	if topic == nil {
		return PartitionState{}, fmt.Errorf("%s: %w", what, ErrUnknownTopic)
	}
	if part == nil {
		return PartitionState{}, fmt.Errorf("%s: %w", what, ErrUnknownPartition)
	}
	return partitionState(id, part, manifest)
}
