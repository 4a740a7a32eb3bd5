package broker

import (
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/metadata"
	"github.com/tidemill/tidemill/protocol"
)

// currentLeader returns who leads a partition and since which epoch, if that broker is alive.
func (v *view) currentLeader(t *metadata.Topic, partition int32) (id, epoch int32, ok bool) {
	if partition < 0 || int(partition) >= len(t.Partitions) {
		return -1, -1, false
	}
	p := t.Partitions[partition]
	return p.Owner.Broker, p.LeaderEpoch, v.alive(p.Owner.Broker)
}

// tellLeaderLocked says who leads to a client that asked the wrong broker (A9, KIP-951).
func (p *produceCall) tellLeaderLocked(t *metadata.Topic, code protocol.ErrorCode, out *kmsg.ProduceResponseTopicPartition) {
	if code != protocol.CodeNotLeaderOrFollower || p.c.header.Version < 10 {
		return
	}
	id, epoch, ok := p.v.currentLeader(t, out.Partition)
	if !ok {
		return
	}
	out.CurrentLeader.LeaderID, out.CurrentLeader.LeaderEpoch = id, epoch
	if slices.ContainsFunc(p.mu.resp.Brokers, func(b kmsg.ProduceResponseBroker) bool { return b.NodeID == id }) {
		return
	}
	for _, broker := range p.v.brokers {
		if broker.id == id {
			node := kmsg.NewProduceResponseBroker()
			node.NodeID, node.Host, node.Port, node.Rack = id, broker.Host, broker.Port, rackPtr(broker.Rack)
			p.mu.resp.Brokers = append(p.mu.resp.Brokers, node)
		}
	}
}
