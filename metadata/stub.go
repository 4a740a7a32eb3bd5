package metadata

import (
	"context"
	"log/slog"
	"time"

	"github.com/tidemill/tidemill/objectstore"
	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/wal"
)

var _ wal.Registry = (*Store)(nil)

// Config says where etcd is and which cluster in it is meant.
type Config struct {
	// Endpoints are etcd's client addresses.
	Endpoints []string
	// Name is the cluster's name: all keys are under /tidemill/<Name>/.
	Name string
	// Timeout bounds each call, zero means 5 s.
	Timeout time.Duration
	// LeaseTTL is the life of a broker's liveness key without keep-alives, zero means 10 s.
	LeaseTTL time.Duration
	// Logger receives what goes on in the background; nil discards it.
	Logger *slog.Logger
}

// Store reads and writes the cluster's state. All methods may be called concurrently.
type Store struct{}

// Open connects to etcd, checks its version and loads the first Image.
func Open(ctx context.Context, c Config) (*Store, error) { return nil, ErrUnavailable }

// Close ends the watch and all registrations without unregistering, and waits.
func (s *Store) Close() error { return nil }

// Image returns the newest state known here.
func (s *Store) Image() *Image { return nil }

// Changed is closed at the next change of Image. Take it before Image to miss nothing.
func (s *Store) Changed() <-chan struct{} { return nil }

// EnsureCluster returns the cluster's identity, which the first caller creates.
func (s *Store) EnsureCluster(ctx context.Context) (Cluster, error) { return Cluster{}, ErrUnavailable }

// OpenLife creates a new life of a broker (W1).
func (s *Store) OpenLife(ctx context.Context, broker int32) (wal.Life, error) {
	return wal.Life{}, ErrUnavailable
}

// Lives returns all lives of a broker, oldest first.
func (s *Store) Lives(ctx context.Context, broker int32) ([]wal.StreamState, error) {
	return nil, ErrUnavailable
}

// Load implements wal.Registry.
func (s *Store) Load(ctx context.Context, l wal.Life) (wal.StreamState, error) {
	return wal.StreamState{}, ErrUnavailable
}

// BeginSeal implements wal.Registry.
func (s *Store) BeginSeal(ctx context.Context, l wal.Life, rev int64, sealer string) (wal.StreamState, error) {
	return wal.StreamState{}, ErrUnavailable
}

// FinishSeal implements wal.Registry.
func (s *Store) FinishSeal(ctx context.Context, l wal.Life, n int64, digest [32]byte, recoveryKey string) (wal.StreamState, error) {
	return wal.StreamState{}, ErrUnavailable
}

// Trim implements wal.Registry.
func (s *Store) Trim(ctx context.Context, l wal.Life, rev int64, t int64) error {
	return ErrUnavailable
}

// A Registration keeps a broker's liveness key.
type Registration struct{}

// Fenced is closed when the life turned out not to be OPEN any more.
func (r *Registration) Fenced() <-chan struct{} { return nil }

// Unregister removes the liveness key and ends the registration.
func (r *Registration) Unregister(ctx context.Context) error { return nil }

// Register announces a broker.
func (s *Store) Register(ctx context.Context, life wal.Life, info BrokerInfo) (*Registration, error) {
	return nil, ErrUnavailable
}

// CreateTopics creates topics, each by itself; owner tells who owns partition i.
func (s *Store) CreateTopics(ctx context.Context, specs []TopicSpec, owner func(i int32) wal.Life) []CreateResult {
	return nil
}

// DeleteTopic deletes a topic.
func (s *Store) DeleteTopic(ctx context.Context, id protocol.TopicID) error { return ErrUnavailable }

// CreatePartitions raises the number of partitions to count.
func (s *Store) CreatePartitions(ctx context.Context, id protocol.TopicID, count int32, owner func(i int32) wal.Life) error {
	return ErrUnavailable
}

// Sweep removes what an interrupted CreateTopics or DeleteTopic left behind.
func (s *Store) Sweep(ctx context.Context) error { return ErrUnavailable }

// SetTopicConfigs replaces a topic's configs if its record is still at rev.
func (s *Store) SetTopicConfigs(ctx context.Context, id protocol.TopicID, want map[string]string, rev int64) error {
	return ErrUnavailable
}

// SetBrokerConfigs replaces the dynamic configs of a broker, or DefaultBroker, if they are still at rev.
func (s *Store) SetBrokerConfigs(ctx context.Context, broker int32, want map[string]string, rev int64) error {
	return ErrUnavailable
}

// Partitions lists the ownership records of all partitions.
func (s *Store) Partitions(ctx context.Context) ([]PartitionState, error) { return nil, ErrUnavailable }

// Claim moves partitions of sealed lives to an open one. After an error some may have moved: list again.
func (s *Store) Claim(ctx context.Context, to wal.Life, claims []Claim) error { return ErrUnavailable }

// CommitManifests replaces manifest heads of partitions that life owns. After an error some may be replaced.
func (s *Store) CommitManifests(ctx context.Context, life wal.Life, updates []ManifestUpdate) error {
	return ErrUnavailable
}

// AllocateProducerIDs reserves n producer ids and returns the first.
func (s *Store) AllocateProducerIDs(ctx context.Context, n int) (int64, error) {
	return 0, ErrUnavailable
}

// EnsureGuard makes sure that the bucket belongs to the cluster.
func EnsureGuard(ctx context.Context, store objectstore.Store, clusterID string) error {
	return ErrUnavailable
}
