package metadata

import (
	"context"
	"errors"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// ErrNoSettings means that nobody has set up the cluster yet.
var ErrNoSettings = errors.New("metadata: the cluster has no settings")

// Settings are what the brokers of a cluster have in common. Brokers read them when they start.
type Settings struct {
	// Bucket is the URL of the bucket, which never changes.
	Bucket string
	// Kafka holds defaults of Kafka's broker settings.
	Kafka map[string]string
	// Rev is etcd's revision of the settings, for ReplaceDefaults.
	Rev int64
}

type settingsValue struct {
	header
	Bucket string            `json:"bucket"`
	Kafka  map[string]string `json:"kafka,omitempty"`
}

func (k keys) settings() string { return string(k) + "settings" }

// Settings reads the cluster's settings, or returns ErrNoSettings.
func (s *Store) Settings(ctx context.Context) (Settings, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	what := "read the settings of cluster " + s.config.Name
	r, err := s.read(ctx, what, clientv3.OpGet(s.keys.settings()))
	if err != nil {
		return Settings{}, err
	}
	if kvAt(r, 0) == nil {
		return Settings{}, fmt.Errorf("%s: %w", what, ErrNoSettings)
	}
	return decodeSettings(kvAt(r, 0))
}

func decodeSettings(kv *kvPair) (Settings, error) {
	v, err := decode[settingsValue](string(kv.Key), kv.Value)
	return Settings{Bucket: v.Bucket, Kafka: v.Kafka, Rev: kv.ModRevision}, err
}

// InitSettings stores the settings if there are none. It returns those that are stored afterwards, which are the caller's only
// if created is true.
func (s *Store) InitSettings(ctx context.Context, want Settings) (stored Settings, created bool, err error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	key, op := s.keys.settings(), newOp()
	r, created, err := s.commit(ctx, write{
		what: "set up cluster " + s.config.Name,
		when: []clientv3.Cmp{revIs(key, 0)},
		then: []clientv3.Op{
			clientv3.OpPut(key, encode(settingsValue{newHeader(op), want.Bucket, want.Kafka})),
			clientv3.OpGet(key),
		},
		orElse: []clientv3.Op{clientv3.OpGet(key)},
		mine:   func(r *clientv3.TxnResponse) bool { return opAt(r, 0, op) },
	})
	if err != nil {
		return Settings{}, false, err
	}
	stored, err = decodeSettings(kvAt(r, len(r.Responses)-1))
	return stored, created, err
}

// ReplaceDefaults replaces the defaults of Kafka's settings if old is still what is stored, else ErrStale. The bucket stays.
func (s *Store) ReplaceDefaults(ctx context.Context, old Settings, kafka map[string]string) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	key, op := s.keys.settings(), newOp()
	what := "replace the defaults of cluster " + s.config.Name
	_, ok, err := s.commit(ctx, write{
		what:   what,
		when:   []clientv3.Cmp{revIs(key, old.Rev)},
		then:   []clientv3.Op{clientv3.OpPut(key, encode(settingsValue{newHeader(op), old.Bucket, kafka}))},
		orElse: []clientv3.Op{clientv3.OpGet(key)},
		mine:   func(r *clientv3.TxnResponse) bool { return opAt(r, 0, op) },
	})
	if err == nil && !ok {
		return fmt.Errorf("%s: %w", what, ErrStale)
	}
	return err
}
