package broker

import (
	"github.com/tidemill/tidemill/coordinator"
	"github.com/tidemill/tidemill/metadata"
	"github.com/tidemill/tidemill/partition"
	"github.com/tidemill/tidemill/protocol"
)

// adopt opens the new partitions of t that this life owns. Those that others owned before are opened from their manifests.
func (b *Broker) adopt(t *metadata.Topic) {
	for i, p := range t.Partitions {
		id := protocol.PartitionID{Topic: t.ID, Partition: int32(i)}
		if p.Owner != b.life {
			continue
		}
		if _, open := b.logs.Get(id); !open {
			if p.LeaderEpoch != 0 {
				continue // handed over to this life: see adoptGiven
			}
			b.logs.Create(id, p.LeaderEpoch)
		}
		if t.Name == offsetsTopic {
			b.loadShard(int32(i)) // nothing happens to one that is loaded
		}
	}
}

// forget drops the partitions of a deleted topic and the offsets that groups have committed for it (M5).
func (b *Broker) forget(t *metadata.Topic) {
	for i := range t.Partitions {
		b.logs.Delete(protocol.PartitionID{Topic: t.ID, Partition: int32(i)})
		if t.Name == offsetsTopic {
			b.groups.Unload(int32(i))
		}
	}
	b.groups.OnTopicDeleted(t.Name, t.ID)
}

// loadShard starts the group coordinator on a partition of __consumer_offsets, from its newest snapshot.
func (b *Broker) loadShard(shard int32) {
	l, ok := b.offsetsLog(shard)
	if !ok || l.Ended() { // one that may have moved: it is loaded when it goes on
		return
	}
	var from coordinator.Snapshot
	if offset, blob, ok := l.Coordinator(); ok {
		from = coordinator.Snapshot{Offset: offset, Blob: blob}
	}
	b.groups.Load(shard, from)
}

// offsetsPartitions is how many partitions __consumer_offsets has, or will have.
func (b *Broker) offsetsPartitions() int32 {
	v := b.view()
	if t, ok := v.img.Topics[offsetsTopic]; ok {
		return int32(len(t.Partitions))
	}
	return v.settings.OffsetsPartitions
}

// offsetsLog returns a partition of __consumer_offsets, if this life owns it.
func (b *Broker) offsetsLog(shard int32) (*partition.Log, bool) {
	t, ok := b.meta.Image().Topics[offsetsTopic]
	if !ok {
		return nil, false
	}
	return b.logs.Get(protocol.PartitionID{Topic: t.ID, Partition: shard})
}

// ownedLog finds the log of a partition that this broker leads, or says how to answer for it.
func (b *Broker) ownedLog(v *view, t *metadata.Topic, p int32) (*partition.Log, protocol.ErrorCode) {
	if p < 0 || int(p) >= len(t.Partitions) {
		return nil, protocol.CodeUnknownTopicOrPartition
	}
	l, ok := b.logs.Get(protocol.PartitionID{Topic: t.ID, Partition: p})
	if !ok {
		return nil, protocol.CodeNotLeaderOrFollower
	}
	return l, protocol.CodeNone
}

// checkEpoch compares the leader epoch that a client believes in with the log's (KIP-320, F10). -1 means no belief.
func checkEpoch(want, have int32) protocol.ErrorCode {
	switch {
	case want < 0 || want == have:
		return protocol.CodeNone
	case want < have:
		return protocol.CodeFencedLeaderEpoch
	}
	return protocol.CodeUnknownLeaderEpoch
}
