package broker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"

	"github.com/tidemill/tidemill/config"
	"github.com/tidemill/tidemill/coordinator"
	"github.com/tidemill/tidemill/coordinator/group"
	"github.com/tidemill/tidemill/metadata"
	"github.com/tidemill/tidemill/partition"
	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/server"
	"github.com/tidemill/tidemill/wal"
)

// Deadlines of a stop, which takes at most 5 s in all while storage works.
const (
	drainTimeout    = 1 * time.Second // responses in flight
	closeLogTimeout = 3 * time.Second // what was acknowledged is durable before; this is for the last checkpoint
	// partStopTimeout bounds the farewell to etcd.
	partStopTimeout = 500 * time.Millisecond
	// snapshotTimeout bounds the snapshot of a coordinator's shard: a million offsets take 0.7 s. Without it the shard's log is not compacted
	// beyond the one before.
	snapshotTimeout = 2 * time.Second
)

// cleanerBackoffMin is the least pause between looks for something to compact.
const cleanerBackoffMin = 100 * time.Millisecond

// Shares of the memory budget (D11), in percent. What is left is for the slots in flight, for what rewrites have in hand, and for the
// process itself.
const (
	produceShare = 20
	requestShare = 5
	tailShare    = 20
	cacheShare   = 10
	keysShare    = 3
	answerShare  = 10
	readingShare = 5
	memberShare  = 5
	commitShare  = 3
	decodedShare = 5
)

// Run starts a broker, serves until ctx ends and then stops in order: clients first, then the log, which is closed so that
// the next start needs no scan (W8). It returns nil after a clean stop. The banner goes to out.
//
// A broker of a cluster whose log was ended by others (W6) drops everything and begins a new life, without partitions.
func Run(ctx context.Context, cfg *config.Config, version string, out io.Writer, log *slog.Logger) error {
	for {
		err := newBroker(cfg, log).run(ctx, version, out)
		fenced := errors.Is(err, wal.ErrFenced) || errors.Is(err, metadata.ErrFenced)
		if !fenced || cfg.Cluster.Embedded() || ctx.Err() != nil {
			return err
		}
		log.Warn("this broker's log was ended by others; it begins a new life", slog.Any("error", err))
	}
}

func newBroker(cfg *config.Config, log *slog.Logger) *Broker {
	b := &Broker{cfg: cfg, log: log, reg: prometheus.NewRegistry(), windows: &wal.Windows{}, loadPace: defaultLoadPace, storePatience: storePatience}
	b.reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	b.fenced = make(chan error, 1)
	b.known.topics = map[protocol.TopicID]*metadata.Topic{}
	b.creating.topics = map[string]bool{}
	return b
}

func (b *Broker) run(ctx context.Context, version string, out io.Writer) error {
	if keys := b.cfg.Meaningless(); len(keys) > 0 {
		b.log.Info("these Kafka settings are accepted and mean nothing here", slog.Any("keys", keys))
	}
	kafka, ops, err := b.listen()
	if err != nil {
		return err
	}
	defer kafka.Close()
	defer ops.Close()
	closing, err := b.openMetadata(ctx)
	if err != nil {
		return err
	}
	defer closing.close(b.log)
	cluster, err := b.meta.EnsureCluster(ctx)
	if err != nil {
		return fmt.Errorf("read the cluster's identity: %w", err)
	}
	if b.cfg, err = WithShared(ctx, b.cfg, b.meta); err != nil {
		return err
	}
	bucket, err := b.openStore(ctx, cluster)
	if err != nil {
		return err
	}
	b.pacing = pacingOf(b.cfg, bucket.Kind)
	if c, ok := b.store.(io.Closer); ok {
		closing.add("object store", c.Close)
	}
	// Work goes on while clients are sent away and the log is closed, so it does not end with ctx.
	work, stopWork := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWork()
	b.ctx = work
	if err := b.openLog(ctx, cluster); err != nil {
		return err
	}
	return b.serve(ctx, work, stopWork, kafka, ops, func() { b.banner(out, version, cluster, bucket.String(), ops.Addr().String()) })
}

// openLog ends previous lives, begins this one and takes over their partitions.
func (b *Broker) openLog(ctx context.Context, cluster metadata.Cluster) (err error) {
	b.cluster = wal.Cluster{ID: cluster.ID, Generation: cluster.Generation}
	if err := b.beginLife(ctx); err != nil {
		return err
	}
	if b.cfg.Cluster.Embedded() { // in a cluster the controller does it
		if err := b.meta.Sweep(ctx); err != nil {
			return fmt.Errorf("sweep half-made topics: %w", err)
		}
	}
	var manifests partition.ManifestStore = b.meta
	if b.wrapManifests != nil {
		manifests = b.wrapManifests(manifests)
	}
	share := func(percent int64) int64 { return b.cfg.MemoryBytes * percent / 100 }
	b.logs, err = partition.NewSet(partition.Options{
		Life: b.life, Store: b.store, Manifests: manifests, Coordinator: b.coordinatorState,
		Policy: b.policy, Upkeep: b.upkeep, TailBytes: share(tailShare), CacheBytes: share(cacheShare), Unpacking: unpacking,
		ProducerExpiry: b.view().settings.ProducerIDExpiration, Registerer: b.reg, Logger: b.log,
	})
	if err != nil {
		return fmt.Errorf("make the partitions: %w", err)
	}
	metrics, err := wal.NewMetrics(b.reg)
	if err != nil {
		return fmt.Errorf("register the log's metrics: %w", err)
	}
	b.wal = wal.NewWriter(b.life, b.store, b.logs, wal.Options{
		Cluster: b.cluster, FlushInterval: b.cfg.WALFlushInterval,
		PutsPerSecond: b.pacing.putsPerSecond, EagerBytes: b.pacing.eagerBytes, Window: b.pacing.window,
		Windows: b.windows, Metrics: metrics, Logger: b.log,
	})
	b.logs.UseWAL(b.wal)
	b.producerIDs.allocate = b.meta.AllocateProducerIDs
	b.groups = group.New(journal{b}, group.Options{
		Shards: b.offsetsPartitions,
		Fresh:  b.freshShard,
		Topics: func() group.TopicResolver { return b.view() }, Limits: b.groupLimits, MemberBytes: share(memberShare),
		Runtime: coordinator.Options{Logger: b.log, Dropped: b.reloadShard, WaitingMax: share(commitShare)},
	})
	b.answers, b.decoded = server.NewBudget(share(answerShare)), server.NewBudget(share(decodedShare))
	b.reading = server.NewBudget(share(readingShare))
	b.server = server.New(b, server.Options{
		Limits:        serverLimits{b},
		ProduceBudget: server.NewBudget(share(produceShare)), OtherBudget: server.NewBudget(share(requestShare)),
		AnswerBudget: b.answers,
		Logger:       b.log, Registerer: b.reg,
	})
	if b.cfg.BrokerID < 0 && !b.cfg.Cluster.Embedded() {
		return nil // it has no earlier lives; what ended lives of others own the controller assigns
	}
	return b.claimPartitions(ctx)
}

// serve runs everything until ctx ends or a part fails, and stops it in order.
func (b *Broker) serve(ctx, work context.Context, stopWork func(), kafka, ops net.Listener, announce func()) error {
	g, failed := errgroup.WithContext(work)
	g.Go(func() error { return ignoreEnd(work, b.wal.Run(work)) })
	g.Go(func() error { return ignoreEnd(work, b.logs.Run(work)) })
	g.Go(func() error { return ignoreEnd(work, b.logs.Keep(work)) })
	g.Go(func() error { return b.groups.Run(work) })
	g.Go(func() error { b.follow(work); return nil })
	g.Go(func() error { return b.watchEtcd(work) })
	g.Go(func() error { return b.serveHTTP(work, ops) })

	registered, err := b.meta.Register(ctx, b.life, b.info)
	if err != nil {
		stopWork()
		return errors.Join(fmt.Errorf("register the broker: %w", err), g.Wait())
	}
	b.reconcile()
	if !b.cfg.Cluster.Embedded() { // else there are no others
		g.Go(func() error { return b.keepOwnership(work) })
		g.Go(func() error { return b.control(work, registered) })
		g.Go(func() error { b.tellLoads(work, registered); return nil })
		g.Go(func() error { b.watchCutOff(work); return nil })
		g.Go(func() error { b.retryDamaged(work); return nil })
	}
	g.Go(func() error { return b.server.Serve(work, kafka) })
	b.serving.Store(true)
	announce()
	b.log.Info("serving", slog.String("listen", kafka.Addr().String()), slog.String("life", b.life.String()))

	var cause error
	select {
	case <-ctx.Done():
	case <-failed.Done():
	case <-registered.Fenced():
		cause = metadata.ErrFenced
	case cause = <-b.fenced:
	}
	b.serving.Store(false)
	if cause == nil && failed.Err() == nil {
		if !b.cfg.Cluster.Embedded() {
			b.giveAway(ctx, registered)
		}
		cause = b.stop(ctx)
	}
	farewell, cancel := context.WithTimeout(context.WithoutCancel(ctx), partStopTimeout)
	defer cancel()
	if err := registered.Unregister(farewell); err != nil {
		b.log.Warn("the broker's liveness key stays until its lease ends", slog.Any("error", err))
	}
	stopWork()
	b.background.Wait()
	return errors.Join(cause, g.Wait())
}

// stop sends clients away and closes the log: everything acknowledged is durable already; what remains is the last
// checkpoint and the CLOSE that spares the next start a scan (W8).
func (b *Broker) stop(ctx context.Context) error {
	b.log.Info("stopping")
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer cancel()
	if err := b.server.Shutdown(drain); err != nil {
		b.log.Warn("connections were cut with requests in flight", slog.Any("error", err))
	}
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeLogTimeout)
	defer cancel()
	if err := b.wal.Close(closing); err != nil {
		return fmt.Errorf("close the log: %w", err)
	}
	n, digest := b.wal.End()
	if err := b.logs.Close(closing); err != nil {
		b.log.Warn("the last checkpoint was not written; the next start reads the tail of the log", slog.Any("error", err))
		return nil
	}
	if _, err := b.meta.FinishSeal(closing, b.life, n, digest, ""); err != nil {
		b.log.Warn("the log is closed but not marked so; the next start ends it", slog.Any("error", err))
	}
	return nil
}

// coordinatorState is the group coordinator's state on a partition, for its manifest.
func (b *Broker) coordinatorState(id protocol.PartitionID) (offset int64, blob []byte, ok bool) {
	t, known := b.meta.Image().Topics[offsetsTopic]
	if !known || t.ID != id.Topic {
		return 0, nil, false
	}
	ctx, cancel := context.WithTimeout(b.ctx, snapshotTimeout)
	defer cancel()
	s, err := b.groups.Snapshot(ctx, id.Partition)
	if err != nil {
		return 0, nil, false
	}
	return s.Offset, s.Blob, true
}

// watchEtcd returns an error when the embedded etcd cannot go on: the process should end and start anew.
func (b *Broker) watchEtcd(ctx context.Context) error {
	select {
	case err := <-b.etcdErr:
		return fmt.Errorf("embedded etcd: %w", err)
	case <-ctx.Done():
		return nil
	}
}

// ignoreEnd drops the error that only says that ctx ended.
func ignoreEnd(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}
