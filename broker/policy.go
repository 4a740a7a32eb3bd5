package broker

import (
	"maps"

	"github.com/tidemill/tidemill/kafkaconfig"
	"github.com/tidemill/tidemill/metadata"
	"github.com/tidemill/tidemill/partition"
	"github.com/tidemill/tidemill/protocol"
)

// policyOf is what settings say about what a topic's logs keep.
func policyOf(c *kafkaconfig.LogConfig) *partition.Policy {
	return &partition.Policy{
		Delete: c.Cleanup.Delete, Compact: c.Cleanup.Compact, RetentionMs: c.RetentionMs, RetentionBytes: c.RetentionBytes,
		SegmentBytes: c.SegmentBytes, SegmentMs: c.SegmentMs, DeleteRetentionMs: c.DeleteRetentionMs,
		MinCompactionLagMs: c.MinCompactionLagMs, MaxCompactionLagMs: c.MaxCompactionLagMs, MinCleanableRatio: c.MinCleanableRatio,
	}
}

// policy is the one of a topic as it is now; one that is not known yet gets it when the logs are next brought in step with the image.
func (b *Broker) policy(id protocol.TopicID) *partition.Policy {
	v := b.view()
	if t, ok := v.img.TopicsByID[id]; ok {
		return policyOf(v.logConfig(t))
	}
	p := partition.DefaultPolicy()
	return &p
}

// setPolicy gives a topic's logs their policy.
func (b *Broker) setPolicy(t *metadata.Topic, p *partition.Policy) {
	for i := range t.Partitions {
		if l, ok := b.logs.Get(protocol.PartitionID{Topic: t.ID, Partition: int32(i)}); ok {
			l.SetPolicy(p)
		}
	}
}

// sameConfigs reports whether the settings of brokers, from which topics inherit, are the same in both images.
func sameConfigs(a, b *metadata.Image) bool {
	return a != nil && maps.EqualFunc(a.BrokerConfigs, b.BrokerConfigs, func(x, y metadata.ConfigSet) bool { return x.Rev == y.Rev })
}

// upkeep is what settings say about the work that keeps logs as their policies want them.
func (b *Broker) upkeep() partition.Upkeep {
	s := b.view().settings
	return partition.Upkeep{
		InitialDelay: s.LogInitialDelay, RetentionInterval: s.RetentionCheck, Compaction: s.CleanerEnabled,
		CompactionBackoff: max(s.CleanerBackoff, cleanerBackoffMin), KeyMapBytes: min(s.CleanerDedupeBytes, b.cfg.MemoryBytes*keysShare/100),
	}
}
