package broker

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/metadata"
	"github.com/tidemill/tidemill/objectstore"
	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/wal"
)

// gatedStore holds requests for keys with a prefix while it is shut.
type gatedStore struct {
	objectstore.Store
	prefix string
	mu     sync.Mutex
	gate   chan struct{} // nil: it is open
	held   int
}

func (g *gatedStore) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.gate = make(chan struct{})
}

func (g *gatedStore) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	close(g.gate)
	g.gate = nil
}

func (g *gatedStore) holds() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.held > 0
}

func (g *gatedStore) pass(ctx context.Context, key string) {
	g.mu.Lock()
	gate := g.gate
	if gate == nil || !strings.HasPrefix(key, g.prefix) {
		g.mu.Unlock()
		return
	}
	g.held++
	g.mu.Unlock()
	select {
	case <-gate:
	case <-ctx.Done():
	}
}

func (g *gatedStore) Get(ctx context.Context, key string) ([]byte, error) {
	g.pass(ctx, key)
	return g.Store.Get(ctx, key)
}

func (g *gatedStore) ReadAt(ctx context.Context, key string, p []byte, off int64) error {
	if g.prefix == "wal/" {
		g.pass(ctx, key)
	}
	return g.Store.ReadAt(ctx, key, p, off)
}

func (g *gatedStore) Put(ctx context.Context, key string, body []byte) error {
	if g.prefix == "manifest/" {
		g.pass(ctx, key)
	}
	return g.Store.Put(ctx, key, body)
}

// createAt creates a topic whose partitions are on a broker.
func (c *rawClient) createAt(topic string, broker, partitions int32) {
	c.t.Helper()
	spec := createSpec(topic, -1)
	spec.ReplicationFactor = -1
	for p := range partitions {
		spec.ReplicaAssignment = append(spec.ReplicaAssignment, kmsg.CreateTopicsRequestTopicReplicaAssignment{Partition: p, Replicas: []int32{broker}})
	}
	wantCode(c.t, "create "+topic, ask[*kmsg.CreateTopicsResponse](c, createRequest(7, spec)).Topics[0].ErrorCode, protocol.CodeNone)
}

// damageManifest flips a bit of a partition's manifest in a folder.
func damageManifest(t *testing.T, b *testBroker, bucket string, id protocol.PartitionID) {
	t.Helper()
	states, err := b.broker.meta.States(t.Context(), []protocol.PartitionID{id})
	if err != nil || len(states) != 1 || states[0].Manifest == nil {
		t.Fatal(states, err)
	}
	at := states[0].Manifest
	file := filepath.Join(bucket, at.Key+".obj")
	object, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	object[at.Pos+int64(at.Len/2)] ^= 1
	if err := os.WriteFile(file, object, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestGivenDuringATakeover: while a broker takes over a dead one's partitions, of which one is damaged, a sound one is handed to it by a third.
func TestGivenDuringATakeover(t *testing.T) {
	etcd, bucket := startEtcd(t), t.TempDir()
	shared := []string{"--cluster", etcd.url(), "--bucket", "file://" + bucket}
	recoveries, manifests := &gatedStore{prefix: "recovery/"}, &gatedStore{prefix: "manifest/"}
	victim := startBroker(t, append(shared, "--broker-id", "1")...)
	heir := startBrokerOn(t, func(s objectstore.Store) objectstore.Store { recoveries.Store = s; return recoveries }, append(shared, "--broker-id", "2")...)
	giver := startBrokerOn(t, func(s objectstore.Store) objectstore.Store { manifests.Store = s; return manifests }, append(shared, "--broker-id", "3")...)
	c := dial(t, victim.kafka)
	c.awaitBrokers(3)
	c.createAt("bad", 1, 2)
	c.createAt("sound", 3, 1)
	bad, sound := protocol.PartitionID{Topic: topicID(t, victim, "bad")}, protocol.PartitionID{Topic: topicID(t, heir, "sound")}
	for p := range int32(2) {
		wantCode(t, "produce", c.produce("bad", p, batchOf("a")).ErrorCode, protocol.CodeNone)
	}
	waitFor(t, "the third to serve", func() bool { return dial(t, giver.kafka).produce("sound", 0, batchOf("a")).ErrorCode == 0 })
	if err := victim.broker.logs.Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantCode(t, "produce", c.produce("bad", 1, batchOf("b")).ErrorCode, protocol.CodeNone) // so that there is a recovery to read
	damageManifest(t, victim, bucket, bad)

	manifests.shut()
	now := func() metadata.Partition { return heir.broker.meta.Image().TopicsByID[sound.Topic].Partitions[0] }
	if err := victim.broker.meta.SetDrain(t.Context(), 3, true); err != nil { // so that all goes to the heir in the end
		t.Fatal(err)
	}
	waitFor(t, "the heir to be meant for the sound partition", func() bool {
		if now().Target != heir.broker.life {
			move := metadata.Reassignment{ID: sound, To: heir.broker.life, Was: now()}
			return victim.broker.meta.Reassign(t.Context(), []metadata.Reassignment{move})[0] == nil
		}
		return true
	})
	waitFor(t, "the hand-over to begin", manifests.holds)
	heir.broker.opening.Lock()
	victim.vanish()
	waitFor(t, "the heir to be meant for the others", func() bool {
		for _, p := range heir.broker.meta.Image().TopicsByID[bad.Topic].Partitions {
			if p.Target != heir.broker.life {
				return false
			}
		}
		return true
	})
	recoveries.shut()
	heir.broker.opening.Unlock()
	waitFor(t, "the takeover to read the recovery", recoveries.holds)
	manifests.open()
	waitFor(t, "the sound partition to be the heir's", func() bool { return now().Owner == heir.broker.life })
	recoveries.open()
	waitFor(t, "the damage to be noticed", func() bool { return strings.Contains(heir.logs.String(), "partitions are damaged") })
	waitFor(t, "the sound partition to be served", func() bool { _, open := heir.broker.logs.Get(sound); return open })
}

// TestTakeoverInPieces: of a takeover's claims some are accepted, the others fail twice. The coordinators that were taken over serve.
func TestTakeoverInPieces(t *testing.T) {
	etcd, slots := startEtcd(t), &gatedStore{prefix: "wal/"}
	shared := []string{"--cluster", etcd.url(), "--bucket", "file://" + t.TempDir()}
	victim := startBroker(t, append(shared, "--broker-id", "1")...)
	heir := startBrokerOn(t, func(s objectstore.Store) objectstore.Store { slots.Store = s; return slots }, append(shared, "--broker-id", "2")...)
	c, b := dial(t, victim.kafka), heir.broker
	c.awaitBrokers(2)
	c.createAt("t", 1, 1)
	c.createTopic("u", 1)
	wantCode(t, "produce", c.produce("t", 0, batchOf("a")).ErrorCode, protocol.CodeNone)
	topic, client := topicID(t, heir, "t"), heir.client()
	group := commitAt(t, kadm.NewClient(client), 1)

	b.opening.Lock() // the first attempt is made by hand
	dead := victim.broker.life
	victim.vanish()
	var shards []protocol.PartitionID
	waitFor(t, "the plan", func() bool {
		ready := true
		shards = nil
		forEachPartition(b.meta.Image(), func(t *metadata.Topic, id protocol.PartitionID, p metadata.Partition) {
			ready = ready && (p.Owner != dead || p.Target == b.life)
			if p.Owner == dead && t.Name == offsetsTopic {
				shards = append(shards, id)
			}
		})
		return ready
	})
	claimShards(t, b, dead, shards)
	slots.shut()
	b.opening.Unlock()
	waitFor(t, "the second attempt", slots.holds)
	if err := b.meta.DeleteTopic(t.Context(), topic); err != nil { // its claim will be refused
		t.Fatal(err)
	}
	slots.open()
	waitFor(t, "the group's offset", func() bool { return offsetTold(t, client, heir, group, "u") == "error 0 offset 100" })
}

// commitAt commits offset 100 of u-0 in a group that a broker coordinates, and returns the group.
func commitAt(t *testing.T, admin *kadm.Client, broker int32) string {
	t.Helper()
	for i := 0; ; i++ {
		group := fmt.Sprint("g", i)
		waitFor(t, "a commit", func() bool {
			var o kadm.Offsets
			o.AddOffset("u", 0, 100, -1)
			r, err := admin.CommitOffsets(t.Context(), group, o)
			return err == nil && r.Error() == nil
		})
		if d, _ := admin.DescribeGroups(t.Context(), group); d[group].Coordinator.NodeID == broker {
			return group
		}
	}
}

// claimShards makes an attempt of a takeover whose answer is lost.
func claimShards(t *testing.T, b *Broker, dead wal.Life, shards []protocol.PartitionID) {
	t.Helper()
	ended, err := b.endedOwners(t.Context(), map[wal.Life]bool{dead: true})
	if err != nil || len(ended) != 1 {
		t.Fatal(ended, err)
	}
	recoveries, err := b.loadRecoveries(t.Context(), ended)
	if err != nil {
		t.Fatal(err)
	}
	states, err := b.meta.States(t.Context(), shards)
	if err != nil {
		t.Fatal(err)
	}
	claims, err := b.logs.Open(t.Context(), states, recoveries)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.meta.Claim(t.Context(), b.life, claims); err != nil {
		t.Fatal(err)
	}
	b.claimsOpen = true
}
