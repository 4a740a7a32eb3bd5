// Package metadata is the cluster's agreed state: brokers, lives, topics, ownership, manifest heads and configs in etcd,
// with an immutable Image of it in memory for readers.
//
// Invariants: every write is one transaction (or a run of them whose last one decides) that compares what it relies on;
// an ambiguous outcome is resolved by reading back an operation id, never by hoping; a lease is a hint of liveness and
// fences nothing (O1, O2, S7 do); no produce, fetch, heartbeat or commit touches etcd, because the Image holds what they need.
package metadata

import (
	"errors"
	"time"

	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/wal"
)

// Outcomes on which callers act differently. Test with errors.Is.
var (
	// ErrUnavailable: etcd could not be reached before the deadline and nothing was written. Try later.
	ErrUnavailable = errors.New("metadata: etcd unavailable")
	// ErrUnknownOutcome: the write may or may not have happened, and reading it back failed until the deadline.
	// Read the state before deciding anything.
	ErrUnknownOutcome = errors.New("metadata: outcome unknown")
	// ErrStale: something the write relied on has changed. Read again, then decide again.
	ErrStale = errors.New("metadata: state has changed")
	// ErrFenced: the life is no longer OPEN; it must stop at once.
	ErrFenced = errors.New("metadata: life is fenced")
	// ErrUnknownLife: no such life was ever opened here.
	ErrUnknownLife = errors.New("metadata: unknown life")
	// ErrTopicExists: the name is taken.
	ErrTopicExists = errors.New("metadata: topic exists")
	// ErrTopicCollides: the name differs from an existing one in '.' and '_' only (M3).
	ErrTopicCollides = errors.New("metadata: topic name collides with another in '.' and '_'")
	// ErrUnknownTopic: no topic has this id.
	ErrUnknownTopic = errors.New("metadata: unknown topic")
	// ErrPartitionCount: a topic needs a partition, and the number of partitions can only grow.
	ErrPartitionCount = errors.New("metadata: invalid number of partitions")
	// ErrUnreachable: no endpoint answered at Open.
	ErrUnreachable = errors.New("metadata: etcd unreachable")
	// ErrDenied: etcd refused the user, the password or the user's roles at Open.
	ErrDenied = errors.New("metadata: etcd refuses the user")
	// ErrTooOld: the etcd server is older than 3.5.
	ErrTooOld = errors.New("metadata: etcd too old")
)

// DefaultBroker names the cluster-wide default in calls about broker configs.
const DefaultBroker int32 = -1

// Cluster is the identity of a cluster. It never changes, but for the generation, which a rebuild from the bucket raises.
type Cluster struct {
	// ID is 22 characters of URL-safe base64, as Kafka prints cluster ids.
	ID         string
	Generation uint64
}

// BrokerInfo is what a broker tells the others about itself.
type BrokerInfo struct {
	Host string
	Port int32
	// Rack is empty when not set.
	Rack string
	// Draining: the broker is about to stop, or an operator wants it empty; it should be given no partition.
	Draining bool
}

// Broker is a registered broker.
type Broker struct {
	BrokerInfo
	Life wal.Life
}

// Topic is a topic and where its partitions are owned. It is immutable.
type Topic struct {
	Name              string
	ID                protocol.TopicID
	ReplicationFactor int16
	Internal          bool
	// Configs holds the settings that were given for this topic; defaults are not in it.
	Configs map[string]string
	Created time.Time
	// Partitions has one entry for each partition, by index.
	Partitions []Partition
	// Rev is etcd's revision of the topic's record (not of its partitions), for SetTopicConfigs.
	Rev int64
}

// Partition is the part of a partition's ownership record that requests need.
type Partition struct {
	Owner       wal.Life
	LeaderEpoch int32
	// Rev is etcd's revision of the ownership record.
	Rev int64
	// Target is the life that an intent sends the partition to; zero: none.
	Target wal.Life
	// TargetRev is etcd's revision of the intent, 0 when there is none.
	TargetRev int64
	// Pin is where an operator wants the partition; nil: nobody said.
	Pin *Pin
}

// ConfigSet is the dynamic configs of one broker or of the cluster-wide default.
type ConfigSet struct {
	Values map[string]string
	// Rev is etcd's revision of the set, 0 when there is none.
	Rev int64
}

// TopicSpec describes a topic to create. The caller has checked the name and the configs.
type TopicSpec struct {
	Name              string
	Partitions        int32
	ReplicationFactor int16
	Internal          bool
	Configs           map[string]string
	// Replicas are the pins of the partitions, one for each and not empty, see Pin; nil: no operator said where they are to be.
	Replicas [][]int32
}

// EpochStart is one entry of a partition's ownership history: Life led at Epoch from offset Start on.
type EpochStart struct {
	Epoch int32
	Start int64
	Life  wal.Life
}

// ManifestPointer names a partition's manifest: a region of an object.
type ManifestPointer struct {
	// Version counts the manifests of the partition from 1.
	Version int64
	Key     string
	Pos     int64
	Len     int32
	// CRC is the CRC32C of the region.
	CRC uint32
	// EndOffset is the offset after the last record that the manifest covers.
	EndOffset int64
}

// PartitionState is the whole ownership record of a partition with its manifest head.
type PartitionState struct {
	ID          protocol.PartitionID
	Owner       wal.Life
	LeaderEpoch int32
	// Start is the first offset of LeaderEpoch.
	Start int64
	// History holds the leader epochs so far, oldest first, the current one last.
	History []EpochStart
	// Rev is etcd's revision of the ownership record, for Claim.
	Rev int64
	// Manifest is nil before the first one.
	Manifest *ManifestPointer
	// ManifestRev is etcd's revision of the manifest head, 0 before the first one, for Claim.
	ManifestRev int64
}

// Claim moves a partition from a sealed life to another (O2b). Rev and ManifestRev are those of the PartitionState that
// the new owner has built its state from.
type Claim struct {
	ID          protocol.PartitionID
	Rev         int64
	ManifestRev int64
	OldLife     wal.Life
	// LeaderEpoch, Start and History are the new values; History ends with the new epoch.
	LeaderEpoch int32
	Start       int64
	History     []EpochStart
	// Manifest replaces the manifest head in the same transaction; nil leaves it.
	Manifest *ManifestPointer
}

// ManifestUpdate replaces a partition's manifest head.
type ManifestUpdate struct {
	ID      protocol.PartitionID
	Pointer ManifestPointer
	// PrevVersion is the version this one was built on, 0 for the first.
	PrevVersion int64
}

// CreateResult is the outcome of one TopicSpec: a topic or an error.
type CreateResult struct {
	Topic *Topic
	Err   error
}
