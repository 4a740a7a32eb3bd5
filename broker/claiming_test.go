package broker

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tidemill/tidemill/objectstore/memstore"
	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/wal"
)

// TestUnreadableRecoveryIsLeftOut: of ended lives, those whose recovery is missing, damaged or of something else are left out and named; the
// partitions of the others can be taken over.
func TestUnreadableRecoveryIsLeftOut(t *testing.T) {
	store := memstore.New()
	b := &Broker{store: store}
	life := func(id int32) wal.Life { return wal.Life{Broker: id, Epoch: 1} }
	put := func(id int32, body []byte) {
		if err := store.Put(t.Context(), wal.RecoveryKey(life(id)), body); err != nil {
			t.Fatal(err)
		}
	}
	whole := func(id int32) []byte {
		return (&wal.Recovery{Life: life(id), N: 3, Digest: wal.Digest{byte(id)}}).Encode()
	}
	put(1, whole(1))
	flipped := whole(2)
	flipped[len(flipped)/2]++
	put(2, flipped)
	put(3, whole(3))
	ended := endedLives{}
	for id := range int32(6) {
		ended[life(id)] = wal.StreamState{Phase: wal.PhaseSealed, N: 3, Digest: wal.Digest{byte(id)}, RecoveryKey: wal.RecoveryKey(life(id))}
	}
	other := ended[life(3)]
	other.Digest = wal.Digest{99}
	ended[life(3)] = other
	ended[life(4)] = wal.StreamState{Phase: wal.PhaseSealed, N: 3, Trim: 3, RecoveryKey: wal.RecoveryKey(life(4))} // needed no more
	ended[life(5)] = wal.StreamState{Phase: wal.PhaseSealed, N: 3}                                                 // closed itself (W8)
	recoveries, err := b.loadRecoveries(t.Context(), ended)
	if err == nil {
		t.Fatal("no error")
	}
	for id := range int32(6) {
		_, left := ended[life(id)]
		_, read := recoveries[life(id)]
		bad := id == 0 || id == 2 || id == 3
		if left == bad || read != (id == 1) || strings.Contains(err.Error(), life(id).String()) != bad {
			t.Errorf("life %d: left %v, read %v, in %v", id, left, read, slices.Collect(maps.Keys(recoveries)))
		}
	}
}

// TestDamagedPartitionIsTriedOnce: of what a dead broker owned, the partition whose manifest is damaged is left out, and left alone until
// something of it changes; the others are served.
func TestDamagedPartitionIsTriedOnce(t *testing.T) {
	etcd, bucket := startEtcd(t), t.TempDir()
	shared := []string{"--cluster", etcd.url(), "--bucket", "file://" + bucket}
	victim := startBroker(t, append(shared, "--broker-id", "1")...)
	heir := startBroker(t, append(shared, "--broker-id", "2")...)
	c := dial(t, victim.kafka)
	c.awaitBrokers(2)
	const n = 3
	c.createAt("t", 1, n)
	id := topicID(t, victim, "t")
	for p := range int32(n) {
		wantCode(t, "produce", c.produce("t", p, batchOf("a")).ErrorCode, protocol.CodeNone)
	}
	if err := victim.broker.logs.Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
	damaged := protocol.PartitionID{Topic: id, Partition: 1}
	damageManifest(t, victim, bucket, damaged)
	victim.vanish()
	for _, p := range []int32{0, 2} {
		waitFor(t, "the others to be served", func() bool { return dial(t, heir.kafka).produce("t", p, batchOf("b")).BaseOffset == 1 })
	}
	waitFor(t, "the damage to be noticed", func() bool { return strings.Contains(heir.logs.String(), "partitions are damaged") })
	for i := range 3 { // each wakes who takes partitions over
		dial(t, heir.kafka).createTopic(fmt.Sprint("more-", i), 1)
	}
	if err := heir.broker.claimAssigned(t.Context()); err != nil {
		t.Errorf("nothing changed: %v", err)
	}
	if tried := strings.Count(heir.logs.String(), "partitions are damaged"); tried != 1 {
		t.Errorf("it was tried %d times", tried)
	}
	if _, open := heir.broker.logs.Get(damaged); open {
		t.Error("the damaged partition is open")
	}
}

// TestDamagedPartitionIsTriedAgain: a partition whose manifest was read wrongly is served a while later, though nothing has changed in etcd.
func TestDamagedPartitionIsTriedAgain(t *testing.T) {
	t.Parallel()
	etcd, bucket := startEtcd(t), t.TempDir()
	shared := []string{"--cluster", etcd.url(), "--bucket", "file://" + bucket}
	victim := startBroker(t, append(shared, "--broker-id", "1")...)
	heir := startBroker(t, append(shared, "--broker-id", "2")...)
	c := dial(t, victim.kafka)
	c.awaitBrokers(2)
	c.createAt("t", 1, 1)
	id := protocol.PartitionID{Topic: topicID(t, victim, "t")}
	wantCode(t, "produce", c.produce("t", 0, batchOf("a")).ErrorCode, protocol.CodeNone)
	if err := victim.broker.logs.Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
	damageManifest(t, victim, bucket, id)
	victim.vanish()
	damaged := &heir.broker.damaged
	waitFor(t, "the damage to be noted", func() bool {
		damaged.mu.Lock()
		defer damaged.mu.Unlock()
		return len(damaged.found) == 1
	})
	damageManifest(t, heir, bucket, id) // as it was
	if damaged.expire(time.Now().Add(damagedFor / 2)) {
		t.Error("it is tried again too early")
	}
	damaged.mu.Lock()
	for id, found := range damaged.found {
		damaged.found[id] = damage{found.rev, found.at.Add(-damagedFor)}
	}
	damaged.mu.Unlock()
	waitFor(t, "the partition to be served", func() bool { return dial(t, heir.kafka).produce("t", 0, batchOf("b")).BaseOffset == 1 })
}
