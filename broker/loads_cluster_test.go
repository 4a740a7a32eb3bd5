package broker

import (
	"maps"
	"testing"
	"time"

	"github.com/tidemill/tidemill/metadata"
	"github.com/tidemill/tidemill/protocol"
)

// TestBusyBrokerGivesToIdle: of two hot partitions on one broker one goes to the other, which has as many partitions and nothing to do,
// and gives an idle one back for it; then, under the same load, nothing moves any more. And all that etcd holds of it changes with the load.
func TestBusyBrokerGivesToIdle(t *testing.T) {
	etcd, bucket := startEtcd(t), "file://"+t.TempDir()
	c := &testCluster{etcd: etcd}
	for range 2 {
		b := prepareBroker(t, nil, "--cluster", etcd.url(), "--bucket", bucket)
		b.pace = &loadPace{every: 50 * time.Millisecond, halfLife: 200 * time.Millisecond, rest: 400 * time.Millisecond, look: 50 * time.Millisecond}
		b.start()
		c.brokers = append(c.brokers, b)
	}
	one, two := c.brokers[0], c.brokers[1]
	waitFor(t, "the brokers to know each other", func() bool { return len(one.broker.view().brokers) == 2 && len(two.broker.view().brokers) == 2 })
	clients := []*rawClient{dial(t, one.kafka), dial(t, two.kafka)}
	clients[0].createTopic("t", 4)
	id := topicID(t, one, "t")
	partitions := func() []metadata.Partition { return one.broker.meta.Image().TopicsByID[id].Partitions }
	var hot []int32
	for p, q := range partitions() {
		if _, open := one.broker.logs.Get(protocol.PartitionID{Topic: id, Partition: int32(p)}); open && q.Owner == one.broker.life {
			hot = append(hot, int32(p))
			wantCode(t, "produce", clients[0].produce("t", int32(p), batchOf(string(make([]byte, 100_000)))).ErrorCode, protocol.CodeNone)
		}
	}
	if len(hot) != 2 {
		t.Fatalf("broker 1 has %d partitions, want 2", len(hot))
	}
	work := func() { // the owner answers with a megabyte per tenth of a second, about; the other with an error
		for _, p := range hot {
			for _, client := range clients {
				fetched(client, fetchRequest(12, "t", protocol.TopicID{}, p, 0))
			}
		}
	}
	spread := func() (all, busy map[int32]int) {
		all, busy = map[int32]int{}, map[int32]int{}
		for _, p := range partitions() {
			all[p.Owner.Broker]++
		}
		for _, p := range hot {
			busy[partitions()[p].Owner.Broker]++
		}
		return all, busy
	}
	waitFor(t, "each to have one of the hot partitions, and two in all", func() bool {
		work()
		all, busy := spread()
		return maps.Equal(all, map[int32]int{1: 2, 2: 2}) && maps.Equal(busy, map[int32]int{1: 1, 2: 1})
	})
	epochs := func() (sum int32) {
		for _, p := range partitions() {
			sum += p.LeaderEpoch
		}
		return sum
	}
	settled, began := epochs(), time.Now()
	waitFor(t, "ten rests to pass", func() bool { work(); return time.Since(began) > 10*one.pace.rest })
	if now := epochs(); now != settled {
		t.Errorf("after %d moves there were %d more", settled, now-settled)
	}
	waitFor(t, "both brokers to tell their loads", func() bool {
		work()
		loads, err := one.broker.meta.Loads(t.Context())
		return err == nil && loads[1].Total.BytesPerSecond >= 1e6 && loads[2].Total.BytesPerSecond >= 1e6
	})
	// The load ends, and is told for the last time soon after.
	waitFor(t, "the end of the load to be told", func() bool {
		loads, err := one.broker.meta.Loads(t.Context())
		return err == nil && loads[1].Total.BytesPerSecond < bytesFloor && loads[2].Total.BytesPerSecond < bytesFloor
	})
	quiet := func() bool {
		before := etcd.asked.Load()
		wait := time.After(10 * one.pace.every)
		<-wait
		return etcd.asked.Load()-before < 1<<10 // the leases
	}
	waitFor(t, "writes to etcd to end", quiet)
}
