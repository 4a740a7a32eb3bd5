// Package audit holds what a bucket stores against what metadata says of it, and prints stored objects for people. It writes nothing.
//
// [Check] reads everything that a partition needs: its manifest, the indexes and blocks of its parts, its extents in slots, the logs of
// all lives from their trim to their end, and at last every object that nobody refers to. What it finds is a [Problem], or a [Leak]:
// an object that may stay or go without harm (G2, G4).
//
// The cluster may be live, so everything may move while it is read. A log is read only up to the slots that were there when the bucket
// was listed; its trim is read before its slots, and manifest heads are read after them (G1: what is below the trim is in manifests).
// A partition with a problem is looked at again if its head has changed, so that an object which was replaced and deleted meanwhile is
// no problem. What looks damaged is read twice.
package audit

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tidemill/tidemill/metadata"
	"github.com/tidemill/tidemill/objectstore"
	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/wal"
)

// Metadata is the agreed state as an audit reads it; metadata.Store is one.
type Metadata interface {
	Image() *metadata.Image
	Partitions(ctx context.Context) ([]metadata.PartitionState, error)
	Partition(ctx context.Context, id protocol.PartitionID) (metadata.PartitionState, error)
	AllLives(ctx context.Context) ([]wal.StreamState, error)
	Load(ctx context.Context, life wal.Life) (wal.StreamState, error)
}

var _ Metadata = (*metadata.Store)(nil)

// Options configure Check.
type Options struct {
	Store    objectstore.Store
	Metadata Metadata
	// SkipData leaves out blocks and chunks: headers, directories, indexes and manifests are checked still.
	SkipData bool
	// Concurrency bounds reads at a time, default 8. Each holds at most one slot, one block or one manifest object.
	Concurrency int
	// Grace is how old an object must be to count as a leak rather than as on its way, default 10 min.
	Grace time.Duration
	// Now is the clock of the report and of Grace, default time.Now.
	Now func() time.Time
}

func (o Options) withDefaults() Options {
	if o.Concurrency <= 0 {
		o.Concurrency = 8
	}
	if o.Grace <= 0 {
		o.Grace = 10 * time.Minute
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

// ErrNoCluster means that metadata holds no cluster of this name.
var ErrNoCluster = errors.New("audit: no such cluster")

// checker is one run of Check.
type checker struct {
	reader
	opts    Options
	image   *metadata.Image
	objects inventory
	report  collector
	slots   slotCache
	// tails are the untrimmed parts of logs, by life, and ends where their logs were seen to end.
	mu    sync.Mutex
	lives map[wal.Life]wal.StreamState
	tails map[wal.Life]*tail
	heads map[protocol.PartitionID]metadata.PartitionState
}

// Check audits a bucket. The error says why it could not; what is wrong with the bucket is in the report.
func Check(ctx context.Context, o Options) (*Report, error) {
	o = o.withDefaults()
	c := &checker{
		reader: reader{o.Store}, opts: o, image: o.Metadata.Image(),
		lives: map[wal.Life]wal.StreamState{}, tails: map[wal.Life]*tail{}, heads: map[protocol.PartitionID]metadata.PartitionState{},
	}
	if c.image.Cluster.ID == "" {
		return nil, ErrNoCluster
	}
	c.slots.init()
	c.report.Cluster, c.report.Began, c.report.Data = c.image.Cluster.ID, o.Now().UTC(), !o.SkipData
	for _, step := range []struct {
		what string
		do   func(context.Context) error
	}{
		{"read the bucket's guard", c.checkGuard},
		{"list the bucket", c.listObjects},
		{"read the logs", c.checkLogs},
		{"read the partitions", c.checkPartitions},
		{"read the other objects", c.checkObjects},
	} {
		if err := step.do(ctx); err != nil {
			return nil, fmt.Errorf("%s: %w", step.what, err)
		}
	}
	c.classify()
	return c.report.finish(o.Now().UTC()), nil
}

// checkGuard refuses another cluster's bucket: every difference would be a problem then.
func (c *checker) checkGuard(ctx context.Context) error {
	_, err := c.get(ctx, metadata.GuardKey)
	for range 2 {
		if err != nil {
			break
		}
		if err = metadata.CheckGuard(ctx, c.store, c.image.Cluster.ID); err == nil {
			return nil
		}
	}
	switch {
	case errors.Is(err, objectstore.ErrNotFound):
		c.report.add(Problem{Class: Missing, Key: metadata.GuardKey, Message: "the bucket does not say whose it is"})
	case !errors.Is(err, metadata.ErrGuard), errors.Is(err, metadata.ErrForeignBucket) && !c.ours(ctx):
		return err
	default:
		c.report.add(Problem{Class: Damaged, Key: metadata.GuardKey, Message: err.Error()})
	}
	return nil
}

// ours reports whether the bucket holds something that metadata refers to: then a guard with another id is damaged.
func (c *checker) ours(ctx context.Context) bool {
	states, err := c.opts.Metadata.Partitions(ctx)
	for _, st := range states {
		if st.Manifest != nil {
			return err == nil && c.readAt(ctx, st.Manifest.Key, make([]byte, 1), 0) == nil
		}
	}
	lives, err := c.opts.Metadata.AllLives(ctx)
	for _, st := range lives {
		if st.Phase == wal.PhaseSealed {
			return err == nil && c.readAt(ctx, wal.SlotKey(st.Life, st.N), make([]byte, 1), 0) == nil
		}
	}
	return false
}

// each calls do for all of them, some at a time, until one returns an error.
func each[T any](ctx context.Context, limit int, all []T, do func(context.Context, T) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(limit)
	for _, x := range all {
		if ctx.Err() != nil {
			break
		}
		g.Go(func() error { return do(ctx, x) })
	}
	return g.Wait()
}

// life returns what metadata knows of a life, asking once. known is false for a life that it never had.
func (c *checker) life(ctx context.Context, l wal.Life) (st wal.StreamState, known bool, err error) {
	c.mu.Lock()
	st, known = c.lives[l]
	c.mu.Unlock()
	if known {
		return st, true, nil
	}
	st, err = c.opts.Metadata.Load(ctx, l)
	if errors.Is(err, metadata.ErrUnknownLife) {
		return st, false, nil
	}
	if err != nil {
		return st, false, err
	}
	c.mu.Lock()
	c.lives[l] = st
	c.mu.Unlock()
	return st, true, nil
}

// topicName returns the name of a partition's topic, or its id when it has none.
func topicName(i *metadata.Image, id protocol.TopicID) string {
	if t := i.TopicsByID[id]; t != nil {
		return t.Name
	}
	return id.String()
}
