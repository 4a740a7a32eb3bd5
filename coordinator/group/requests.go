package group

import (
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/protocol"
)

// OnTopicDeleted removes the offsets that any group has for the topic.
func (c *Coordinator) OnTopicDeleted(name string, id protocol.TopicID) {
	for _, shard := range c.runtime.Shards() {
		c.submit(shard,
			func(m *machine) { m.deleteTopic(name, id) },
			func(error) {}) // another coordinator's now; what stays is hidden by the topic's id, and expires
	}
}

// OffsetCommit handles API key 8. The group is not looked at if no partition of the request exists, as in Kafka.
func (c *Coordinator) OffsetCommit(req *kmsg.OffsetCommitRequest, reply func(*kmsg.OffsetCommitResponse)) {
	in, known := c.lookUpCommit(req)
	switch {
	case !known:
		reply(in.resp)
		return
	case len(req.Group) > nameBytesMax:
		in.refuse(protocol.CodeInvalidGroupID)
		reply(in.resp)
		return
	}
	c.replyTo(c.submitWrite, c.shardOf(req.Group),
		func(m *machine) { m.commitOffsets(in) },
		in.refuse,
		func() { reply(in.resp) })
}

// lookUpCommit finds the topics of the request and whether any of its partitions exists.
func (c *Coordinator) lookUpCommit(req *kmsg.OffsetCommitRequest) (in *commit, known bool) {
	topics := c.o.Topics()
	in = &commit{
		req:    req,
		topics: make([]commitTopic, len(req.Topics)),
		resp: &kmsg.OffsetCommitResponse{
			Version: req.Version, Topics: make([]kmsg.OffsetCommitResponseTopic, len(req.Topics)),
		},
	}
	for i, t := range req.Topics {
		found := commitTopic{name: t.Topic, id: t.TopicID}
		missing := protocol.CodeUnknownTopicOrPartition
		var partitions int32
		if req.Version >= 10 {
			var ok bool
			if found.name, partitions, ok = topics.TopicByID(t.TopicID); !ok {
				missing = protocol.CodeUnknownTopicID
			}
		} else {
			found.id, partitions, _ = topics.TopicByName(t.Topic)
		}
		in.topics[i] = found
		answer := &in.resp.Topics[i]
		answer.Topic, answer.TopicID = t.Topic, t.TopicID
		answer.Partitions = make([]kmsg.OffsetCommitResponseTopicPartition, len(t.Partitions))
		for j, p := range t.Partitions {
			answer.Partitions[j].Partition = p.Partition
			if p.Partition < 0 || p.Partition >= partitions {
				answer.Partitions[j].ErrorCode = int16(missing)
			} else {
				known = true
			}
		}
	}
	return in, known
}

// OffsetDelete handles API key 47. Like a commit it does not look at the group if no partition exists.
func (c *Coordinator) OffsetDelete(req *kmsg.OffsetDeleteRequest, reply func(*kmsg.OffsetDeleteResponse)) {
	resp := &kmsg.OffsetDeleteResponse{
		Version: req.Version, Topics: make([]kmsg.OffsetDeleteResponseTopic, len(req.Topics)),
	}
	topics := c.o.Topics()
	known := false
	for i, t := range req.Topics {
		_, partitions, _ := topics.TopicByName(t.Topic)
		answer := &resp.Topics[i]
		answer.Topic = t.Topic
		answer.Partitions = make([]kmsg.OffsetDeleteResponseTopicPartition, len(t.Partitions))
		for j, p := range t.Partitions {
			answer.Partitions[j].Partition = p.Partition
			if p.Partition < 0 || p.Partition >= partitions {
				answer.Partitions[j].ErrorCode = int16(protocol.CodeUnknownTopicOrPartition)
			} else {
				known = true
			}
		}
	}
	if !known {
		reply(resp)
		return
	}
	refuse := func(code protocol.ErrorCode) { refuseOffsetDelete(resp, code) }
	if req.Group == "" {
		refuse(protocol.CodeInvalidGroupID)
		reply(resp)
		return
	}
	c.replyAll(c.shardOf(req.Group),
		func(m *machine) { m.deleteOffsets(req.Group, resp) },
		refuse,
		func() { reply(resp) })
}

// DescribeGroups handles API key 15. A group that is named twice is described once.
func (c *Coordinator) DescribeGroups(req *kmsg.DescribeGroupsRequest, reply func(*kmsg.DescribeGroupsResponse)) {
	shards := c.byShard(len(req.Groups), func(i int) string { return req.Groups[i] })
	described := make([]*kmsg.DescribeGroupsResponseGroup, len(req.Groups))
	all := newGather(len(shards)+1, func() {
		resp := &kmsg.DescribeGroupsResponse{Version: req.Version, Groups: present(described)}
		reply(resp)
	})
	for shard, indexes := range shards {
		c.replyAll(shard, func(m *machine) {
			for _, i := range indexes {
				d := m.describe(req.Groups[i], req.Version)
				described[i] = &d
			}
		}, func(code protocol.ErrorCode) {
			for _, i := range indexes {
				d := kmsg.NewDescribeGroupsResponseGroup()
				d.Group, d.ErrorCode = req.Groups[i], int16(code)
				d.Members = []kmsg.DescribeGroupsResponseGroupMember{}
				described[i] = &d
			}
		}, all.part)
	}
	all.part()
}

// ListGroups handles API key 16 for the shards that are served here.
func (c *Coordinator) ListGroups(req *kmsg.ListGroupsRequest, reply func(*kmsg.ListGroupsResponse)) {
	states, types := lowerSet(req.StatesFilter), lowerSet(req.TypesFilter)
	shards := c.runtime.Shards()
	slices.Sort(shards)
	listed := make([][]kmsg.ListGroupsResponseGroup, len(shards))
	failed := make([]protocol.ErrorCode, len(shards))
	all := newGather(len(shards)+1, func() {
		resp := &kmsg.ListGroupsResponse{Version: req.Version, Groups: slices.Concat(listed...)}
		for _, code := range failed {
			// A shard that moved away meanwhile is listed by its new coordinator.
			if code != protocol.CodeNone && code != protocol.CodeNotCoordinator {
				resp.ErrorCode, resp.Groups = int16(code), nil
			}
		}
		if resp.Groups == nil {
			resp.Groups = []kmsg.ListGroupsResponseGroup{}
		}
		reply(resp)
	})
	for i, shard := range shards {
		c.replyAll(shard,
			func(m *machine) { listed[i] = m.list(states, types) },
			func(code protocol.ErrorCode) { listed[i], failed[i] = nil, code },
			all.part)
	}
	all.part()
}

// DeleteGroups handles API key 42. A group that is named twice is answered once.
func (c *Coordinator) DeleteGroups(req *kmsg.DeleteGroupsRequest, reply func(*kmsg.DeleteGroupsResponse)) {
	shards := c.byShard(len(req.Groups), func(i int) string { return req.Groups[i] })
	deleted := make([]*kmsg.DeleteGroupsResponseGroup, len(req.Groups))
	all := newGather(len(shards)+1, func() {
		reply(&kmsg.DeleteGroupsResponse{Version: req.Version, Groups: present(deleted)})
	})
	for shard, indexes := range shards {
		set := func(code func(n int) protocol.ErrorCode) {
			for n, i := range indexes {
				deleted[i] = &kmsg.DeleteGroupsResponseGroup{Group: req.Groups[i], ErrorCode: int16(code(n))}
			}
		}
		c.replyAll(shard, func(m *machine) {
			ids := make([]string, len(indexes))
			for n, i := range indexes {
				ids[n] = req.Groups[i]
			}
			codes := m.deleteGroups(ids)
			set(func(n int) protocol.ErrorCode { return codes[n] })
		}, func(code protocol.ErrorCode) {
			set(func(int) protocol.ErrorCode { return code })
		}, all.part)
	}
	all.part()
}

// present returns what the non-nil elements point to.
func present[T any](list []*T) []T {
	out := make([]T, 0, len(list))
	for _, p := range list {
		if p != nil {
			out = append(out, *p)
		}
	}
	return out
}
