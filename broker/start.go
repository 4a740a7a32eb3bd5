package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tidemill/tidemill/metadata"
	"github.com/tidemill/tidemill/metadata/etcdembed"
	"github.com/tidemill/tidemill/objectstore"
	"github.com/tidemill/tidemill/objectstore/storeurl"
	"github.com/tidemill/tidemill/wal"
)

const (
	// defaultBrokerID is the id of a broker that was given none. Kafka's quick start uses it too.
	defaultBrokerID = 1
	// claimAttempts and claimPause bound how long a start waits for trouble to pass: about 20 s, which is less than a
	// supervisor's patience.
	claimAttempts = 10
	claimPause    = 2 * time.Second
	// livenessTimeout bounds the question whether another broker has this one's id.
	livenessTimeout = time.Second
)

// listen binds both addresses before anything else is touched, so that a port in use is the first thing said.
func (b *Broker) listen() (kafka, ops net.Listener, err error) {
	if kafka, err = net.Listen("tcp", b.cfg.Listen); err != nil {
		return nil, nil, b.problem("listen", fmt.Sprintf("cannot listen on %s: %v", b.cfg.Listen, err),
			"stop what has the port (another broker or Kafka?) or choose another: --listen 127.0.0.1:9093")
	}
	if ops, err = net.Listen("tcp", b.cfg.HTTP); err != nil {
		kafka.Close()
		return nil, nil, b.problem("http", fmt.Sprintf("cannot listen on %s: %v", b.cfg.HTTP, err),
			"stop what has the port or choose another: --http 127.0.0.1:9645")
	}
	advertise := b.cfg.Advertise
	if advertise == "" {
		advertise = kafka.Addr().String()
	}
	host, port, err := net.SplitHostPort(advertise)
	if err == nil {
		var n int
		n, err = strconv.Atoi(port)
		b.info = metadata.BrokerInfo{Host: host, Port: int32(n), Rack: b.cfg.Rack}
	}
	if err != nil {
		kafka.Close()
		ops.Close()
		return nil, nil, b.problem("advertise", fmt.Sprintf("%q is not host:port: %v", advertise, err), "give the address that clients reach: --advertise broker.example:9092")
	}
	return kafka, ops, nil
}

// openMetadata connects to etcd, or starts one in this process.
func (b *Broker) openMetadata(ctx context.Context) (closers, error) {
	var closing closers
	mc := metadata.Config{
		Endpoints: b.cfg.Cluster.Endpoints, Name: b.cfg.Cluster.Name,
		TLS: b.cfg.Etcd.TLS, Username: b.cfg.Etcd.Username, Password: b.cfg.Etcd.Password, Logger: b.log,
	}
	if b.cfg.Cluster.Embedded() {
		etcd, err := etcdembed.Start(ctx, b.etcdDir(), b.log)
		if err != nil {
			return closing, b.embeddedProblem(err)
		}
		closing.add("etcd", func() error { etcd.Close(); return nil })
		b.etcdErr = etcd.Err()
		mc.Endpoints = etcd.Endpoints()
	}
	meta, err := metadata.Open(ctx, mc)
	if err != nil {
		closing.close(b.log)
		return closing, b.clusterProblem(err)
	}
	closing.add("metadata", meta.Close)
	b.meta = meta
	b.reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "tidemill_metadata_silent_seconds", Help: "Time since etcd last answered; a few seconds while it is well.",
	}, func() float64 { return meta.Silence().Seconds() }))
	return closing, nil
}

// openStore opens the bucket and makes sure that it is this cluster's and can hold a log.
func (b *Broker) openStore(ctx context.Context, cluster metadata.Cluster) (storeurl.Description, error) {
	store, description, err := storeurl.Open(ctx, b.cfg.Bucket, storeurl.Options{Registerer: b.reg})
	if err != nil {
		return description, b.bucketProblem(err)
	}
	for _, warning := range description.Warnings {
		b.log.Warn("bucket settings", slog.String("warning", warning))
	}
	if b.wrapStore != nil {
		store = b.wrapStore(store)
	}
	b.store = store
	if err := metadata.EnsureGuard(ctx, store, cluster.ID); err != nil {
		return description, b.bucketProblem(err)
	}
	if err := objectstore.Probe(ctx, store); err != nil {
		return description, b.bucketProblem(err)
	}
	return description, nil
}

// checkAlone makes sure that no other broker runs with this one's id.
func (b *Broker) checkAlone(ctx context.Context, id int32) error {
	if other, ok := b.meta.Image().Brokers[id]; ok && answers(ctx, other.BrokerInfo, b.info) {
		return b.problem("broker-id", fmt.Sprintf("broker %d already runs at %s:%d", id, other.Host, other.Port),
			"stop it, or give this broker another id: --broker-id 2")
	}
	return nil
}

// beginLife opens this life, and ends those that an earlier run of the same broker left open. A broker of a cluster that was given no id
// leases one, of which no life is left.
func (b *Broker) beginLife(ctx context.Context) (err error) {
	id := b.cfg.BrokerID
	if id < 0 && !b.cfg.Cluster.Embedded() {
		address := net.JoinHostPort(b.info.Host, strconv.Itoa(int(b.info.Port)))
		if b.life, err = b.meta.OpenLeasedLife(ctx, defaultBrokerID, address); err != nil {
			return fmt.Errorf("begin a life under a leased broker id: %w", err)
		}
		return b.endAbandonedLives(ctx, address)
	}
	if id < 0 {
		id = defaultBrokerID
	}
	if err := b.checkAlone(ctx, id); err != nil {
		return err
	}
	if b.life, err = b.meta.OpenLife(ctx, id); err != nil {
		return fmt.Errorf("begin a life of broker %d: %w", id, err)
	}
	return b.endPreviousLives(ctx, id)
}

// endPreviousLives seals what earlier runs of this broker left open (S1-S7). It comes after this life was opened: of two
// that start at the same time the later one then sees the earlier one, whose claims would else be nobody's.
func (b *Broker) endPreviousLives(ctx context.Context, id int32) error {
	list := func(ctx context.Context) ([]wal.StreamState, error) { return b.meta.Lives(ctx, id) }
	if b.cfg.Cluster.Embedded() { // whatever id it had: there is nobody else
		list = b.meta.AllLives
	}
	lives, err := list(ctx)
	if err != nil {
		return fmt.Errorf("list the lives of broker %d: %w", id, err)
	}
	for _, life := range lives {
		if life.Phase == wal.PhaseSealed || life.Life.Broker == id && life.Life.Epoch >= b.life.Epoch {
			continue
		}
		start := time.Now()
		r, err := b.seal(ctx, life.Life)
		if err != nil {
			return fmt.Errorf("end the log of the previous life %s: %w", life.Life, err)
		}
		b.log.Info("ended the log of a previous life", slog.String("life", life.Life.String()),
			slog.Int64("slots", r.N), slog.Int("tail_chunks", len(r.Chunks)), slog.Duration("took", time.Since(start)))
	}
	return nil
}

// abandonedTimeout bounds how long a start looks after lives that earlier processes left.
const abandonedTimeout = 10 * time.Second

// endAbandonedLives seals what earlier processes at this address left open and is not registered any more. It is ours to listen at, so they are
// gone. Without it nobody would end them who has not seen them registered, and their ids would be nobody's for ever.
func (b *Broker) endAbandonedLives(ctx context.Context, address string) error {
	lives, err := b.meta.AbandonedLives(ctx, address)
	if err != nil {
		return fmt.Errorf("list the lives that were left at this address: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, abandonedTimeout)
	defer cancel()
	for _, life := range lives {
		if life == b.life {
			continue
		}
		if _, err := b.seal(ctx, life); err != nil { // it is tried again by whoever misses its partitions, and at the next start
			b.log.Warn("the log of a previous life at this address could not be ended", slog.String("life", life.String()), slog.Any("error", err))
			continue
		}
		b.log.Info("ended the log of a previous life at this address", slog.String("life", life.String()))
	}
	return nil
}

// answers reports whether something listens where a broker was registered. Its old port being ours now, it does not.
func answers(ctx context.Context, other, self metadata.BrokerInfo) bool {
	if other.Host == self.Host && other.Port == self.Port {
		return false
	}
	d := net.Dialer{Timeout: livenessTimeout}
	conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(other.Host, strconv.Itoa(int(other.Port))))
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

// claimPartitions takes over what previous lives owned. Trouble that may pass, of the store, of etcd, or of a topic that
// was deleted meanwhile, is waited out for a while: what was claimed already is skipped the next time.
func (b *Broker) claimPartitions(ctx context.Context) error {
	for attempt := 1; ; attempt++ {
		err := b.claimOnce(ctx)
		lasting := errors.Is(err, wal.ErrCorrupt) || errors.Is(err, wal.ErrQuarantine) || errors.Is(err, metadata.ErrFenced)
		if err == nil || lasting || ctx.Err() != nil || attempt == claimAttempts {
			return err
		}
		b.log.Warn("taking over partitions, trying again", slog.Int("attempt", attempt), slog.Any("error", err))
		select {
		case <-time.After(claimPause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// claimOnce takes over what earlier lives of this broker owned and, where no other broker can be, whatever life owned.
func (b *Broker) claimOnce(ctx context.Context) error {
	states, err := b.meta.Partitions(ctx)
	if err != nil {
		return fmt.Errorf("list partitions: %w", err)
	}
	owners := map[wal.Life]bool{}
	for _, p := range states {
		if b.cfg.Cluster.Embedded() || p.Owner.Broker == b.life.Broker {
			owners[p.Owner] = true
		}
	}
	delete(owners, b.life)
	ended, err := b.endedOwners(ctx, owners)
	if err != nil {
		return err
	}
	mine := slices.DeleteFunc(states, func(p metadata.PartitionState) bool {
		_, over := ended[p.Owner]
		return !over && p.Owner != b.life
	})
	recoveries, err := b.loadRecoveries(ctx, ended)
	if err != nil {
		return err
	}
	damaged, err := b.claim(ctx, mine, recoveries)
	if err != nil || damaged {
		return err
	}
	return b.trimEnded(ctx, ended)
}
