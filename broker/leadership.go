package broker

import (
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/metadata"
	"github.com/tidemill/tidemill/protocol"
)

// currentLeader returns who leads a partition of a topic, which may be of an older view, and since which epoch, if that is another
// broker that is alive.
func (v *view) currentLeader(t *metadata.Topic, partition int32) (id, epoch int32, ok bool) {
	now, known := v.img.TopicsByID[t.ID]
	if !known || partition < 0 || int(partition) >= len(now.Partitions) {
		return -1, -1, false
	}
	p := now.Partitions[partition]
	return p.Owner.Broker, p.LeaderEpoch, p.Owner.Broker != v.self && v.alive(p.Owner.Broker)
}

// tellLeaderLocked says who leads to a client that asked the wrong broker (A9, KIP-951).
func (p *produceCall) tellLeaderLocked(t *metadata.Topic, code protocol.ErrorCode, out *kmsg.ProduceResponseTopicPartition) {
	if code != protocol.CodeNotLeaderOrFollower || p.c.header.Version < 10 {
		return
	}
	v := p.b.view() // the partition may have moved since the request came
	id, epoch, ok := v.currentLeader(t, out.Partition)
	if !ok {
		return
	}
	out.CurrentLeader.LeaderID, out.CurrentLeader.LeaderEpoch = id, epoch
	if slices.ContainsFunc(p.mu.resp.Brokers, func(b kmsg.ProduceResponseBroker) bool { return b.NodeID == id }) {
		return
	}
	for _, broker := range v.brokers {
		if broker.id == id {
			node := kmsg.NewProduceResponseBroker()
			node.NodeID, node.Host, node.Port, node.Rack = id, broker.Host, broker.Port, rackPtr(broker.Rack)
			p.mu.resp.Brokers = append(p.mu.resp.Brokers, node)
		}
	}
}
