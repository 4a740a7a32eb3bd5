package broker

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/metadata"
	"github.com/tidemill/tidemill/partition"
	"github.com/tidemill/tidemill/protocol"
)

// TestShardThatLeftUnnoticed: a partition of __consumer_offsets leaves and nobody tells its coordinator, as when a move of unknown outcome is settled by
// a checkpoint. The old coordinator tells no offset of before, and the one it becomes when the partition is back knows what was committed meanwhile.
func TestShardThatLeftUnnoticed(t *testing.T) {
	for _, back := range []string{"given back", "taken over"} {
		t.Run(back, func(t *testing.T) { shardThatLeftUnnoticed(t, back == "taken over") })
	}
}

func shardThatLeftUnnoticed(t *testing.T, claimed bool) {
	c := startCluster(t, 2)
	dial(t, c.brokers[0].kafka).createTopic("t", 1)
	client := c.brokers[0].client()
	admin := kadm.NewClient(client)
	commit := func(at int64) error {
		var o kadm.Offsets
		o.AddOffset("t", 0, at, -1)
		r, err := admin.CommitOffsets(t.Context(), "g", o)
		if err != nil {
			return err
		}
		return r.Error()
	}
	waitFor(t, "a commit", func() bool { return commit(100) == nil })
	d, _ := admin.DescribeGroups(t.Context(), "g")
	from, to := c.brokers[0], c.brokers[1]
	if d["g"].Coordinator.NodeID != from.broker.life.Broker {
		from, to = to, from
	}
	fetch := func(b *testBroker) string { return offsetTold(t, client, b, "g", "t") }
	shards := from.broker.view().img.Topics[offsetsTopic]
	var all []partition.Transfer
	for p := range shards.Partitions {
		id := protocol.PartitionID{Topic: shards.ID, Partition: int32(p)}
		if _, ok := from.broker.logs.Get(id); ok && p == 3 { // "g"
			all = append(all, partition.Transfer{ID: id, To: to.broker.life})
		}
	}
	// What is left when SettleMoves finds that the partition has moved: the log is forsaken, and nothing else happens.
	if _, err := from.broker.logs.HandOver(t.Context(), all); err != nil || len(all) != 1 {
		t.Fatal(all, err)
	}
	client = to.client()
	admin = kadm.NewClient(client)
	waitFor(t, "a commit at the new coordinator", func() bool { return commit(200) == nil })
	if got := fetch(from); strings.Contains(got, "offset 100") {
		t.Errorf("the old coordinator tells of %s, and 200 was committed", got)
	}
	from.broker.known.Lock() // what is done with a log that is open again waits
	release := sync.OnceFunc(from.broker.known.Unlock)
	defer release()
	if claimed {
		to.vanish()
	} else {
		for i := range all {
			all[i].To = from.broker.life
		}
		if err := to.broker.handOver(t.Context(), all); err != nil {
			t.Error(err)
		}
	}
	waitFor(t, "the old owner to have it again", func() bool { _, ok := from.broker.logs.Get(all[0].ID); return ok })
	if got := fetch(from); strings.Contains(got, "offset 100") {
		t.Errorf("when its partition is back the old coordinator tells of %s, and 200 was committed", got)
	}
	release()
	waitFor(t, "its offset", func() bool { return strings.Contains(fetch(from), "error 0 offset ") })
	if got := fetch(from); got != "error 0 offset 200" {
		t.Errorf("after it came back the coordinator tells %s", got)
	}
}

// offsetTold asks a broker for a group's offset of a topic's first partition.
func offsetTold(t *testing.T, client *kgo.Client, b *testBroker, group, topic string) string {
	t.Helper()
	req := kmsg.NewPtrOffsetFetchRequest()
	req.Group = group
	rt := kmsg.NewOffsetFetchRequestTopic()
	rt.Topic, rt.Partitions = topic, []int32{0}
	req.Topics = append(req.Topics, rt)
	rg := kmsg.NewOffsetFetchRequestGroup()
	rg.Group = group
	gt := kmsg.NewOffsetFetchRequestGroupTopic()
	gt.Topic, gt.Partitions, gt.TopicID = topic, []int32{0}, topicID(t, b, topic)
	rg.Topics = append(rg.Topics, gt)
	req.Groups = append(req.Groups, rg)
	resp, err := client.Broker(int(b.broker.life.Broker)).Request(t.Context(), req)
	if err != nil {
		return err.Error()
	}
	r := resp.(*kmsg.OffsetFetchResponse)
	if len(r.Groups) == 1 && len(r.Groups[0].Topics) == 1 {
		return fmt.Sprint("error ", r.Groups[0].ErrorCode, " offset ", r.Groups[0].Topics[0].Partitions[0].Offset)
	}
	return fmt.Sprintf("%+v", r.Groups)
}

// vanish ends a broker that hands nothing over and does not close its log. Its lease goes at once.
func (b *testBroker) vanish() {
	b.t.Helper()
	b.stop = nil
	b.broker.fence(errVanished)
	if err := <-b.stopped; !errors.Is(err, errVanished) {
		b.t.Errorf("the broker ended with: %v", err)
	}
}

var errVanished = errors.New("the test lets it vanish")

// TestIntentBeforeAdoption: an intent comes while the partition that it is for is being opened. Nothing changes in etcd afterwards.
func TestIntentBeforeAdoption(t *testing.T) {
	c := startCluster(t, 2)
	dial(t, c.brokers[0].kafka).createTopic("t", 1)
	id := protocol.PartitionID{Topic: topicID(t, c.brokers[0], "t")}
	from, to := c.owner(t, id)
	to.broker.opening.Lock() // opening takes a while
	if err := from.broker.handOver(t.Context(), []partition.Transfer{{ID: id, To: to.broker.life}}); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the image", func() bool { return to.broker.meta.Image().TopicsByID[id.Topic].Partitions[0].Owner == to.broker.life })
	was := to.broker.meta.Image().TopicsByID[id.Topic].Partitions[0]
	if err := to.broker.meta.Reassign(t.Context(), []metadata.Reassignment{{ID: id, To: from.broker.life, Was: was}})[0]; err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the intent", func() bool {
		return to.broker.meta.Image().TopicsByID[id.Topic].Partitions[0].Target == from.broker.life
	})
	to.broker.opening.Unlock()
	waitFor(t, "the partition to move on", func() bool {
		return to.broker.meta.Image().TopicsByID[id.Topic].Partitions[0].Owner == from.broker.life
	})
}
