// Package group coordinates consumer groups: who is a member, who leads, who is assigned what, and which offsets the
// group has committed. It speaks the classic group protocol for any protocol type (rules G0-G18) and keeps its state
// in the records of Kafka's __consumer_offsets.
//
// Invariants:
//   - A group has at most one open generation; a generation completes once.
//   - Every join and sync that was let wait is answered: at completion, removal, timeout or unload.
//   - A committed offset changes only by a commit, a deletion or expiry.
//   - The state of a shard after replay is its state before, but for members that had not yet synced.
package group

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/tidemill/tidemill/coordinator"
	"github.com/tidemill/tidemill/protocol"
)

// Client says who sent a request.
type Client struct {
	ID   string // client.id of the request header
	Host string // "/127.0.0.1" as Kafka prints it
}

// A TopicResolver is an immutable snapshot of the topics of the cluster.
type TopicResolver interface {
	TopicByName(name string) (id protocol.TopicID, partitions int32, ok bool)
	TopicByID(id protocol.TopicID) (name string, partitions int32, ok bool)
}

// Limits are the broker settings that apply to groups. They are fetched for each input, so they may change.
type Limits struct {
	MinSessionTimeout     time.Duration // group.min.session.timeout.ms
	MaxSessionTimeout     time.Duration // group.max.session.timeout.ms
	InitialRebalanceDelay time.Duration // group.initial.rebalance.delay.ms
	MaxGroupSize          int           // group.max.size
	OffsetMetadataMax     int           // offset.metadata.max.bytes
	OffsetsRetention      time.Duration // offsets.retention.minutes
	OffsetsCheckInterval  time.Duration // offsets.retention.check.interval.ms
}

// DefaultLimits returns Kafka's defaults.
func DefaultLimits() Limits {
	return Limits{
		MinSessionTimeout:     6 * time.Second,
		MaxSessionTimeout:     30 * time.Minute,
		InitialRebalanceDelay: 3 * time.Second,
		MaxGroupSize:          1<<31 - 1,
		OffsetMetadataMax:     4096,
		OffsetsRetention:      7 * 24 * time.Hour,
		OffsetsCheckInterval:  10 * time.Minute,
	}
}

// defaultShards is Kafka's default of offsets.topic.num.partitions.
const defaultShards = 50

// Options are the settings and surroundings of a Coordinator.
type Options struct {
	Shards  func() int32         // partitions of __consumer_offsets as they are now; nil means 50
	Topics  func() TopicResolver // the newest snapshot; called for each input that names topics
	Limits  func() Limits        // nil means DefaultLimits
	Runtime coordinator.Options
	// Fresh reports whether this process was certainly a shard's owner a moment ago; nil means always. Committed offsets are answered
	// only then: what changes state is logged first, which no former owner can.
	Fresh func(shard int32) bool
	// MemberBytes bounds what is held of members, pending ones and their offers, all groups together; a join beyond it is answered
	// GROUP_MAX_SIZE_REACHED(81). 0 means no bound.
	MemberBytes int64
	// NewID makes the unique part of member ids. nil means a random UUID.
	NewID func() string
}

// Coordinator answers the group requests for the shards that are loaded. Its methods may be called concurrently. None
// blocks: reply is called once, now or later, from any goroutine, and must not block. The request is read until then
// and not after; that of a JoinGroup, which may wait long, only during the call. A group whose shard is not loaded here is answered NOT_COORDINATOR(16), one whose shard
// is being loaded COORDINATOR_LOAD_IN_PROGRESS(14).
type Coordinator struct {
	o       Options
	runtime *coordinator.Runtime[*machine]
}

// New returns a coordinator that keeps its state in the journal. It serves no shard until Run and Load are called.
func New(journal coordinator.Journal, o Options) *Coordinator {
	if o.Shards == nil {
		o.Shards = func() int32 { return defaultShards }
	}
	if o.Limits == nil {
		o.Limits = DefaultLimits
	}
	if o.NewID == nil {
		o.NewID = newID
	}
	held := new(atomic.Int64)
	machines := func(int32) *machine {
		m := newMachine(o.Limits, o.Topics)
		m.tally.all, m.tally.max = held, o.MemberBytes
		return m
	}
	return &Coordinator{o: o, runtime: coordinator.New(journal, machines, o.Runtime)}
}

// Run serves until ctx ends; then it drops every shard, answers all who wait, and returns nil.
func (c *Coordinator) Run(ctx context.Context) error { return c.runtime.Run(ctx) }

// Load starts to serve a shard: state is read from the snapshot and then from the journal. It returns at once.
func (c *Coordinator) Load(shard int32, from coordinator.Snapshot) { c.runtime.Load(shard, from) }

// Unload stops to serve a shard; all who wait are answered NOT_COORDINATOR(16).
func (c *Coordinator) Unload(shard int32) { c.runtime.Unload(shard) }

// Snapshot returns the committed state of a shard.
func (c *Coordinator) Snapshot(ctx context.Context, shard int32) (coordinator.Snapshot, error) {
	return c.runtime.Snapshot(ctx, shard)
}
