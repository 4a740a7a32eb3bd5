package partition

import (
	"context"
	"log/slog"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tidemill/tidemill/metadata"
	"github.com/tidemill/tidemill/objectstore"
	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/wal"
)

// WAL is the write-ahead log as logs use it; wal.Writer is one. Append is memory only, keeps order and does not keep the slice.
type WAL interface {
	Append(entries ...wal.Entry) error
}

// ManifestStore is the agreed state as checkpoints use it; metadata.Store is one.
type ManifestStore interface {
	// CommitManifests replaces manifest heads of partitions that life owns. After an error some may be replaced.
	CommitManifests(ctx context.Context, life wal.Life, updates []metadata.ManifestUpdate) error
	// Partitions lists all partitions; it is asked after a failed commit.
	Partitions(ctx context.Context) ([]metadata.PartitionState, error)
	// Load and Trim are those of wal.Registry.
	Load(ctx context.Context, life wal.Life) (wal.StreamState, error)
	Trim(ctx context.Context, life wal.Life, rev, t int64) error
	// Move gives partitions to other lives, see HandOver. States reads some partitions.
	Move(ctx context.Context, from wal.Life, moves []metadata.Move) []error
	States(ctx context.Context, ids []protocol.PartitionID) ([]metadata.PartitionState, error)
}

var (
	_ WAL           = (*wal.Writer)(nil)
	_ ManifestStore = (*metadata.Store)(nil)
)

// Options configure a Set. Zero numbers mean the defaults.
type Options struct {
	// Life is the broker life that owns the logs.
	Life wal.Life
	// WAL may be set later with Set.UseWAL, because a writer wants its sink first.
	WAL       WAL
	Store     objectstore.Store
	Manifests ManifestStore
	// Coordinator returns the state of the coordinator that runs on a partition, to be kept in its manifest: the machine after all
	// records below offset, all committed. ok is false for other partitions. It is called without locks. Optional.
	Coordinator func(id protocol.PartitionID) (offset int64, blob []byte, ok bool)

	// Policy returns what a topic's logs keep; it is asked when a log is made or opened, and must not block. Default DefaultPolicy.
	Policy func(protocol.TopicID) *Policy

	// TailBytes bounds the committed slots kept in memory, default 256 MiB.
	TailBytes int64
	// CacheBytes bounds old data kept in memory, default 128 MiB; of a store that is near it is a quarter.
	CacheBytes int64
	// Loads bounds concurrent reads of blocks from the store, default 32. Each holds up to 1 MiB beyond CacheBytes. Reads for
	// rewriting are a few at a time, on their own account.
	Loads int
	// Unpacking has room for the compressed batches that lookups by time unpack at once; each may take much more memory than it has
	// bytes. Whoever unpacks for other reasons may share it. Default one for each processor.
	Unpacking chan struct{}
	// LoadTimeout bounds one request to the store, default 30 s.
	LoadTimeout time.Duration

	// CheckpointSlots, CheckpointBytes and CheckpointInterval say when segments and manifests are written: after so many committed
	// slots (default 1024), bytes of slots (default half of TailBytes, at most 256 MiB: they are rewritten from memory), or time since
	// the last one if anything changed (default 1 min).
	CheckpointSlots    int64
	CheckpointBytes    int64
	CheckpointInterval time.Duration
	// Upkeep returns the settings of retention and compaction as they are now. Default DefaultUpkeep.
	Upkeep func() Upkeep
	// DeleteDelay is how long an object that nobody refers to stays, for reads that began before; default 2 min. What is read later
	// than that is planned anew.
	DeleteDelay time.Duration
	// TidyInterval is how often merges and deletions are looked for, default 10 s. It costs no request when there is nothing to do.
	TidyInterval time.Duration
	// SweepInterval is how often the bucket is listed for objects that a crash or a late request left, default 6 h.
	SweepInterval time.Duration
	// ProducerExpiry is how long a producer that writes nothing is remembered, default 24 h (P8).
	ProducerExpiry time.Duration

	// Now is the clock of producers, retention, compaction and deletion, default time.Now.
	Now func() time.Time
	// Faults are mistakes to be found. Production code never sets them.
	Faults Faults
	// Registerer takes the metrics. Optional.
	Registerer prometheus.Registerer
	// Logger defaults to slog.Default.
	Logger *slog.Logger
}

func (o Options) withDefaults() Options {
	setDefault(&o.TailBytes, 256<<20)
	setDefault(&o.CacheBytes, 128<<20)
	setDefault(&o.Loads, 32) // with GETs of 20-50 ms, about 1 GB/s of 1 MiB pieces
	setDefault(&o.LoadTimeout, 30*time.Second)
	setDefault(&o.CheckpointSlots, 1024)
	setDefault(&o.CheckpointBytes, min(o.TailBytes/2, 256<<20))
	setDefault(&o.CheckpointInterval, time.Minute)
	setDefault(&o.DeleteDelay, 2*time.Minute)
	setDefault(&o.TidyInterval, 10*time.Second)
	setDefault(&o.SweepInterval, 6*time.Hour)
	setDefault(&o.ProducerExpiry, 24*time.Hour)
	if o.Unpacking == nil {
		o.Unpacking = make(chan struct{}, runtime.GOMAXPROCS(0))
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Upkeep == nil {
		o.Upkeep = DefaultUpkeep
	}
	if o.Policy == nil {
		policy := DefaultPolicy()
		o.Policy = func(protocol.TopicID) *Policy { return &policy }
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return o
}

// Upkeep is the settings of the work that keeps logs as their policies want them.
type Upkeep struct {
	// InitialDelay is how long it waits after a start (log.initial.task.delay.ms).
	InitialDelay time.Duration
	// RetentionInterval is how often retention looks (log.retention.check.interval.ms).
	RetentionInterval time.Duration
	// Compaction tells whether there is any (log.cleaner.enable); CompactionBackoff is how often it looks for work when there was none
	// (log.cleaner.backoff.ms).
	Compaction        bool
	CompactionBackoff time.Duration
	// KeyMapBytes is the memory for the keys of one round of compaction. When a round has more, it stops there and another goes on.
	KeyMapBytes int64
}

// DefaultUpkeep returns Kafka's defaults, and 16 MiB for keys: about 600,000 of them.
func DefaultUpkeep() Upkeep {
	return Upkeep{
		InitialDelay: 30 * time.Second, RetentionInterval: 5 * time.Minute, Compaction: true, CompactionBackoff: 15 * time.Second,
		KeyMapBytes: 16 << 20,
	}
}

func setDefault[T int | int64 | time.Duration](v *T, def T) {
	if *v <= 0 {
		*v = def
	}
}
