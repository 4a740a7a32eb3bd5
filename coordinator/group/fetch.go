package group

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/protocol"
)

// topicIDsVersion is the first version of OffsetFetch that names topics by id.
const topicIDsVersion = 10

// OffsetFetch handles API key 9. All offsets of a group are answered once, though asked for twice.
func (c *Coordinator) OffsetFetch(req *kmsg.OffsetFetchRequest, reply func(*kmsg.OffsetFetchResponse)) {
	groups := req.Groups
	if req.Version < 8 {
		groups = []kmsg.OffsetFetchRequestGroup{singleGroup(req)}
	}
	shards := c.fetchesByShard(groups)
	answers := make([]*kmsg.OffsetFetchResponseGroup, len(groups))
	all := newGather(len(shards)+1, func() {
		resp := &kmsg.OffsetFetchResponse{Version: req.Version}
		if req.Version < 8 {
			flatten(resp, answers[0])
		} else {
			resp.Groups = present(answers)
		}
		reply(resp)
	})
	for shard, indexes := range shards {
		if c.o.Fresh != nil && !c.o.Fresh(shard) {
			for _, i := range indexes {
				answers[i] = failedFetch(&groups[i], protocol.CodeNotCoordinator, req.Version)
			}
			all.part()
			continue
		}
		c.replyAll(shard, func(m *machine) {
			told := toldOffsets{}
			for _, i := range indexes {
				g := m.fetchOffsets(&groups[i], req.Version >= topicIDsVersion, told)
				answers[i] = &g
			}
		}, func(code protocol.ErrorCode) {
			for _, i := range indexes {
				answers[i] = failedFetch(&groups[i], code, req.Version)
			}
		}, all.part)
	}
	all.part()
}

// fetchesByShard returns the indexes of the groups for each shard.
func (c *Coordinator) fetchesByShard(groups []kmsg.OffsetFetchRequestGroup) map[int32][]int {
	whole := make(map[string]bool)
	shards := make(map[int32][]int)
	for i := range groups {
		id := groups[i].Group
		if groups[i].Topics == nil {
			if whole[id] {
				continue
			}
			whole[id] = true
		}
		shard := c.shardOf(id)
		shards[shard] = append(shards[shard], i)
	}
	return shards
}

// singleGroup is the request of versions up to 7, which ask for one group, in the words of later ones.
func singleGroup(req *kmsg.OffsetFetchRequest) kmsg.OffsetFetchRequestGroup {
	g := kmsg.NewOffsetFetchRequestGroup()
	g.Group = req.Group
	if req.Topics == nil {
		return g
	}
	g.Topics = make([]kmsg.OffsetFetchRequestGroupTopic, len(req.Topics))
	for i, t := range req.Topics {
		g.Topics[i] = kmsg.OffsetFetchRequestGroupTopic{Topic: t.Topic, Partitions: t.Partitions}
	}
	return g
}

// failedFetch answers code for a group; versions 0 and 1 have room for it only at the partitions.
func failedFetch(req *kmsg.OffsetFetchRequestGroup, code protocol.ErrorCode, version int16) *kmsg.OffsetFetchResponseGroup {
	resp := &kmsg.OffsetFetchResponseGroup{
		Group: req.Group, ErrorCode: int16(code), Topics: []kmsg.OffsetFetchResponseGroupTopic{},
	}
	if version >= 2 {
		return resp
	}
	for _, t := range req.Topics {
		topic := kmsg.OffsetFetchResponseGroupTopic{Topic: t.Topic}
		for _, partition := range t.Partitions {
			p := fetched(partition, offset{}, false)
			p.ErrorCode = int16(code)
			topic.Partitions = append(topic.Partitions, p)
		}
		resp.Topics = append(resp.Topics, topic)
	}
	return resp
}

// flatten puts the answer for a group where versions up to 7 have it.
func flatten(resp *kmsg.OffsetFetchResponse, g *kmsg.OffsetFetchResponseGroup) {
	resp.ErrorCode = g.ErrorCode
	resp.Topics = make([]kmsg.OffsetFetchResponseTopic, len(g.Topics))
	for i, t := range g.Topics {
		partitions := make([]kmsg.OffsetFetchResponseTopicPartition, len(t.Partitions))
		for j, p := range t.Partitions {
			partitions[j] = kmsg.OffsetFetchResponseTopicPartition{
				Partition: p.Partition, Offset: p.Offset, LeaderEpoch: p.LeaderEpoch, Metadata: p.Metadata, ErrorCode: p.ErrorCode,
			}
		}
		resp.Topics[i] = kmsg.OffsetFetchResponseTopic{Topic: t.Topic, Partitions: partitions}
	}
}
