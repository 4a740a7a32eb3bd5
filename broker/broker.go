// Package broker gives each API of Kafka its meaning and wires the parts of one broker together: agreed state in etcd, a
// write-ahead log and manifests in the object store, partitions, the group coordinator, and the server in front.
//
// Invariants: a produce is answered only when its batches are durable, whatever acks says; nothing is served before the
// logs of this broker's previous lives are ended and their partitions claimed (S7, O2); no produce, fetch, heartbeat or
// commit touches etcd; a broker that is fenced stops.
package broker

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/singleflight"

	"github.com/tidemill/tidemill/config"
	"github.com/tidemill/tidemill/coordinator"
	"github.com/tidemill/tidemill/coordinator/group"
	"github.com/tidemill/tidemill/metadata"
	"github.com/tidemill/tidemill/objectstore"
	"github.com/tidemill/tidemill/partition"
	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/server"
	"github.com/tidemill/tidemill/wal"
)

// A Broker is one running broker. Run makes one.
type Broker struct {
	cfg  *config.Config
	log  *slog.Logger
	reg  *prometheus.Registry
	ctx  context.Context // ends when the broker stops
	info metadata.BrokerInfo

	etcdErr <-chan error // of the embedded etcd; nil without one
	pacing  pacing
	// loadPace is how loads are measured; tests shorten it.
	loadPace loadPace
	// storePatience is how long a fetch waits for the store; tests shorten it.
	storePatience time.Duration

	// wrapStore lets tests put faults between the broker and its store; nil otherwise.
	wrapStore func(objectstore.Store) objectstore.Store
	// wrapManifests lets tests put faults between partitions and etcd; nil otherwise.
	wrapManifests func(partition.ManifestStore) partition.ManifestStore

	cluster  wal.Cluster
	store    objectstore.Store
	meta     *metadata.Store
	life     wal.Life
	wal      *wal.Writer
	windows  *wal.Windows
	logs     *partition.Set
	groups   *group.Coordinator
	server   *server.Server
	sessions fetchSessions
	// answers bounds the records in answers that clients have not taken yet.
	answers *server.Budget
	// reading bounds what fetches hold that wait for more of it from the store.
	reading *server.Budget
	// decoded bounds the decoded forms of dense requests.
	decoded *server.Budget

	producerIDs producerIDs
	current     atomic.Pointer[view]
	serving     atomic.Bool
	background  sync.WaitGroup
	// fenced takes why this life has ended.
	fenced chan error
	proof  proofAsked
	// load is what all partitions cost, as measured last; nil before that.
	load atomic.Pointer[metadata.Load]
	// cutOff are brokers that lead partitions without a lease: see watchCutOff.
	cutOff atomic.Pointer[map[int32]metadata.BrokerInfo]
	// arrivals tells who waits for a partition that is on its way to this broker.
	arrivals arrivals
	// opening is held while partitions that others owned are opened, so that none is opened twice.
	opening sync.Mutex
	// claimsOpen: claims of this life failed, or nobody knows whether they did. opening guards it.
	claimsOpen bool
	// damaged are partitions that were given to this life and cannot be opened.
	damaged damagedPartitions

	// known is the image that the logs agree with.
	known struct {
		sync.Mutex
		img    *metadata.Image
		topics map[protocol.TopicID]*metadata.Topic
	}
	// creating holds the names of topics being created on demand.
	creating struct {
		sync.Mutex
		topics map[string]bool
	}
	// creatingOffsets lets one request create __consumer_offsets for all that need it.
	creatingOffsets singleflight.Group
}

// groupLimits are the settings of groups, of the newest view.
func (b *Broker) groupLimits() group.Limits {
	s := b.view().settings
	return group.Limits{
		MinSessionTimeout:     s.GroupMinSessionTimeout,
		MaxSessionTimeout:     s.GroupMaxSessionTimeout,
		InitialRebalanceDelay: s.GroupInitialRebalanceDelay,
		MaxGroupSize:          s.GroupMaxSize,
		OffsetMetadataMax:     s.OffsetMetadataMax,
		OffsetsRetention:      s.OffsetsRetention,
		OffsetsCheckInterval:  s.OffsetsRetentionCheck,
	}
}

// follow keeps the logs in step with the image until ctx ends.
func (b *Broker) follow(ctx context.Context) {
	for {
		changed := b.meta.Changed()
		b.reconcile()
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// fence ends the broker: others may own its partitions.
func (b *Broker) fence(why error) {
	select {
	case b.fenced <- why:
	default:
	}
}

const (
	// damagedFor is how long a partition that could not be opened is left alone.
	damagedFor = time.Minute
	// damagedEvery is how often the broker looks for those that are to be tried again.
	damagedEvery = damagedFor / 6
)

// damagedPartitions remembers partitions by the revision of their record, so that they are tried again when something has changed, or
// after a while: what the store gave was wrong twice, and may be right by then.
type damagedPartitions struct {
	mu    sync.Mutex
	found map[protocol.PartitionID]damage
}

type damage struct {
	rev int64
	at  time.Time
}

func (d *damagedPartitions) has(id protocol.PartitionID, rev int64) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.found[id].rev == rev && rev > 0
}

func (d *damagedPartitions) add(id protocol.PartitionID, rev int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.found == nil {
		d.found = map[protocol.PartitionID]damage{}
	}
	d.found[id] = damage{rev, time.Now()}
}

// expire forgets what was found damagedFor ago, and reports whether there was any.
func (d *damagedPartitions) expire(now time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	before := len(d.found)
	maps.DeleteFunc(d.found, func(_ protocol.PartitionID, found damage) bool { return now.Sub(found.at) >= damagedFor })
	return len(d.found) < before
}

// retryDamaged tries partitions again that could not be opened, until ctx ends.
func (b *Broker) retryDamaged(ctx context.Context) {
	for b.pause(ctx, damagedEvery) == nil {
		var failing complaint
		for again := b.damaged.expire(time.Now()); again; {
			err := errors.Join(b.adoptGiven(ctx), b.claimAssigned(ctx))
			if err != nil && !errors.Is(err, metadata.ErrStale) && failing.news(time.Now()) {
				b.log.Warn("damaged partitions cannot be tried again yet", slog.Any("error", err))
			}
			// What has failed, a claim it may be, is open until it is done: nobody else knows of it.
			again = err != nil && b.pause(ctx, ownershipRetry) == nil
		}
	}
}

// reloadShard loads a shard of the group coordinator again after it was dropped for an append that failed.
func (b *Broker) reloadShard(shard int32, err error) {
	b.log.Warn("group coordinator shard was dropped", slog.Int("shard", int(shard)), slog.Any("error", err))
	if b.ctx.Err() == nil && !errors.Is(err, coordinator.ErrFenced) {
		b.background.Go(func() { b.loadShard(shard) })
	}
}

// ready returns nil when the broker takes requests and its storage takes writes.
func (b *Broker) ready() error {
	if !b.serving.Load() {
		return errNotServing
	}
	if err := b.wal.Trouble(); err != nil {
		return err
	}
	if b.wal.Stalled() {
		return errStalled
	}
	return nil
}

var _ server.Handler = (*Broker)(nil)
var _ group.TopicResolver = (*view)(nil)
