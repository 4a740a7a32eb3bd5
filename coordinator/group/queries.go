package group

import (
	"maps"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/protocol"
)

// committed returns the offset of a partition. One that was committed under another topic id belongs to a topic that is
// gone: it is none (G12).
func committed(partitions map[int32]offset, id protocol.TopicID, partition int32) (offset, bool) {
	o, ok := partitions[partition]
	return o, ok && (id.IsZero() || o.topic.IsZero() || o.topic == id)
}

// fetched is what OffsetFetch answers for a partition (G12).
func fetched(partition int32, o offset, ok bool) kmsg.OffsetFetchResponseGroupTopicPartition {
	if !ok {
		o = offset{at: -1, epoch: -1}
	}
	return kmsg.OffsetFetchResponseGroupTopicPartition{
		Partition: partition, Offset: o.at, LeaderEpoch: o.epoch, Metadata: kmsg.StringPtr(o.metadata),
	}
}

// fetchOffsets answers one group of an OffsetFetch request. A group that is not there has no offsets, which is no
// error. Offsets pending in transactions do not exist here, so every offset is stable.
func (m *machine) fetchOffsets(req *kmsg.OffsetFetchRequestGroup, byID bool, told toldOffsets) kmsg.OffsetFetchResponseGroup {
	g := m.groups[req.Group]
	resp := kmsg.OffsetFetchResponseGroup{Group: req.Group}
	topics := m.topics()
	if req.Topics == nil {
		resp.Topics = g.fetchAll(topics, byID)
		return resp
	}
	resp.Topics = make([]kmsg.OffsetFetchResponseGroupTopic, len(req.Topics))
	for i, t := range req.Topics {
		name, id, code := t.Topic, protocol.TopicID(t.TopicID), protocol.CodeNone
		if byID {
			var ok bool
			if name, _, ok = topics.TopicByID(id); !ok {
				code = protocol.CodeUnknownTopicID
			}
		} else {
			id, _, _ = topics.TopicByName(name)
		}
		answer := &resp.Topics[i]
		answer.Topic, answer.TopicID = t.Topic, t.TopicID
		answer.Partitions = make([]kmsg.OffsetFetchResponseGroupTopicPartition, 0, len(t.Partitions))
		var offsets map[int32]offset
		if g != nil {
			offsets = g.offsets[name]
		}
		for _, partition := range t.Partitions {
			o, ok := committed(offsets, id, partition)
			if ok && told.repeats(g, name, partition, o) {
				continue
			}
			p := fetched(partition, o, ok && code == protocol.CodeNone)
			p.ErrorCode = int16(code)
			answer.Partitions = append(answer.Partitions, p)
		}
	}
	return resp
}

// toldOffsets are the offsets with metadata that a request was told.
type toldOffsets map[toldOffset]bool

type toldOffset struct {
	group     *group
	topic     string
	partition int32
}

// repeats reports whether an offset with metadata was told before: four bytes that ask for it again and again would be
// answered four thousand each (D10).
func (told toldOffsets) repeats(g *group, topic string, partition int32, o offset) bool {
	if o.metadata == "" {
		return false
	}
	key := toldOffset{g, topic, partition}
	again := told[key]
	told[key] = true
	return again
}

// fetchAll answers all offsets of the group. A topic without an id cannot be named to a client that knows ids only.
func (g *group) fetchAll(topics TopicResolver, byID bool) []kmsg.OffsetFetchResponseGroupTopic {
	all := []kmsg.OffsetFetchResponseGroupTopic{}
	if g == nil {
		return all
	}
	for _, name := range slices.Sorted(maps.Keys(g.offsets)) {
		id, _, known := topics.TopicByName(name)
		if byID && !known {
			continue
		}
		topic := kmsg.OffsetFetchResponseGroupTopic{Topic: name, TopicID: id}
		for _, partition := range slices.Sorted(maps.Keys(g.offsets[name])) {
			if o, ok := committed(g.offsets[name], id, partition); ok {
				topic.Partitions = append(topic.Partitions, fetched(partition, o, ok))
			}
		}
		if len(topic.Partitions) > 0 {
			all = append(all, topic)
		}
	}
	return all
}

// deleteOffsets is the input of an OffsetDelete request. resp has an entry for each partition; those without an error
// are deleted, unless a member may want them.
func (m *machine) deleteOffsets(id string, resp *kmsg.OffsetDeleteResponse) {
	g := m.groups[id]
	switch {
	case g == nil:
		refuseOffsetDelete(resp, protocol.CodeGroupIDNotFound)
		return
	case g.state != stateEmpty && g.protocolType != consumerType:
		refuseOffsetDelete(resp, protocol.CodeNonEmptyGroup)
		return
	}
	m.out.AllowSplit()
	for _, t := range resp.Topics {
		subscribed := g.subscribes(t.Topic)
		for i := range t.Partitions {
			p := &t.Partitions[i]
			if p.ErrorCode != 0 {
				continue
			}
			if subscribed {
				p.ErrorCode = int16(protocol.CodeGroupSubscribedToTopic)
			} else if _, ok := g.offsets[t.Topic][p.Partition]; ok {
				m.dropOffset(g, t.Topic, p.Partition)
			}
		}
	}
	m.forgetIfVoid(g)
}

func refuseOffsetDelete(resp *kmsg.OffsetDeleteResponse, code protocol.ErrorCode) {
	resp.ErrorCode, resp.Topics = int16(code), []kmsg.OffsetDeleteResponseTopic{}
}

// describe answers one group of a DescribeGroups request (G15).
func (m *machine) describe(id string, version int16) kmsg.DescribeGroupsResponseGroup {
	resp := kmsg.NewDescribeGroupsResponseGroup()
	resp.Group, resp.Members = id, []kmsg.DescribeGroupsResponseGroupMember{}
	g := m.groups[id]
	if g == nil {
		resp.State = stateDead
		if version >= 6 {
			resp.ErrorCode = int16(protocol.CodeGroupIDNotFound)
			resp.ErrorMessage = kmsg.StringPtr("Group " + id + " not found.")
		}
		return resp
	}
	resp.State, resp.ProtocolType = g.state.String(), g.protocolType
	stable := g.state == stateStable
	if stable {
		resp.Protocol = *g.protocol
	}
	g.each(func(mb *member) {
		d := kmsg.DescribeGroupsResponseGroupMember{
			MemberID:         mb.id,
			InstanceID:       mb.instance,
			ClientID:         mb.client.ID,
			ClientHost:       mb.client.Host,
			ProtocolMetadata: []byte{},
			MemberAssignment: []byte{},
		}
		if stable {
			d.ProtocolMetadata, d.MemberAssignment = mb.metadata(*g.protocol), mb.assignment
		}
		resp.Members = append(resp.Members, d)
	})
	return resp
}

// classicType is what ListGroups calls the groups of this package.
const classicType = "classic"

// list answers a ListGroups request; filters are in lower case, nil means all.
func (m *machine) list(states, types map[string]bool) []kmsg.ListGroupsResponseGroup {
	groups := []kmsg.ListGroupsResponseGroup{}
	if types != nil && !types[classicType] {
		return groups
	}
	for _, id := range m.sorted() {
		g := m.groups[id]
		if states == nil || states[strings.ToLower(g.state.String())] {
			groups = append(groups, kmsg.ListGroupsResponseGroup{
				Group: id, ProtocolType: g.protocolType, GroupState: g.state.String(), GroupType: classicType,
			})
		}
	}
	return groups
}

// lowerSet returns the words in lower case, and nil if there are none.
func lowerSet(words []string) map[string]bool {
	if len(words) == 0 {
		return nil
	}
	set := make(map[string]bool, len(words))
	for _, w := range words {
		set[strings.ToLower(w)] = true
	}
	return set
}
