package partition

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tidemill/tidemill/objectstore"
	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/wal"
)

// WAL is the write-ahead log as logs use it; wal.Writer is one. Append is memory only, keeps order and keeps no slice of entries.
type WAL interface {
	Append(entries ...wal.Entry) error
}

// Options configure a Set. Zero numbers mean the defaults.
type Options struct {
	// Life is the broker life that owns the logs.
	Life  wal.Life
	WAL   WAL
	Store objectstore.Store
	// Coordinator returns the state of the coordinator that runs on a partition, to be kept in its manifest: the machine after all
	// records below offset, which must be committed. ok is false for other partitions. Optional.
	Coordinator func(id protocol.PartitionID) (offset int64, blob []byte, ok bool)

	// TailBytes bounds the committed slots kept in memory, default 256 MiB.
	TailBytes int64
	// CacheBytes bounds old data kept in memory, default 128 MiB.
	CacheBytes int64
	// Loads bounds concurrent reads from the store, default 32.
	Loads int
	// LoadTimeout bounds one read from the store, default 30 s.
	LoadTimeout time.Duration

	// CheckpointSlots, CheckpointBytes and CheckpointInterval say when manifests are written: after so many committed slots (default
	// 1024), bytes of slots (default 256 MiB), or time (default 1 min), whichever comes first.
	CheckpointSlots    int64
	CheckpointBytes    int64
	CheckpointInterval time.Duration
	// ProducerExpiry is how long a producer that writes nothing is remembered, default 24 h (P8).
	ProducerExpiry time.Duration

	// Now is the clock of producer expiry, default time.Now.
	Now        func() time.Time
	Registerer prometheus.Registerer
	Logger     *slog.Logger
}

// A Set is all logs of one broker life. It is the wal.Sink of that life's writer. All methods may be called concurrently.
type Set struct{}

// NewSet returns an empty set. It starts nothing: see Run.
func NewSet(o Options) (*Set, error) { return &Set{}, nil }

// Get returns the log of a partition that this life owns.
func (s *Set) Get(id protocol.PartitionID) (*Log, bool) { return nil, false }

// Create adds the empty log of a new partition, or returns the one that is there.
func (s *Set) Create(id protocol.PartitionID, leaderEpoch int32) *Log { return nil }

// Delete drops a log: its waiters wake, and appends and reads fail with ErrUnknownPartition.
func (s *Set) Delete(id protocol.PartitionID) {}

// Committed implements wal.Sink.
func (s *Set) Committed(slot *wal.Slot) {}

// Fenced implements wal.Sink.
func (s *Set) Fenced(err error) {}

// Run writes checkpoints as Options ask until ctx ends. It returns ctx's error.
func (s *Set) Run(ctx context.Context) error { return nil }

// Checkpoint writes the manifests of all logs that changed and raises trim.
func (s *Set) Checkpoint(ctx context.Context) error { return nil }

// Close writes the last checkpoint and waits for reads from the store. Call it after the writer is closed and before the stream is
// marked as sealed (W8).
func (s *Set) Close(ctx context.Context) error { return nil }

var _ wal.Sink = (*Set)(nil)
