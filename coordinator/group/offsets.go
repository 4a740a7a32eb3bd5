package group

import (
	"maps"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/coordinator"
	"github.com/tidemill/tidemill/protocol"
)

func (g *group) setOffset(topic string, partition int32, o offset) {
	partitions := g.offsets[topic]
	if partitions == nil {
		partitions = make(map[int32]offset)
		g.offsets[topic] = partitions
	}
	partitions[partition] = o
}

func (g *group) removeOffset(topic string, partition int32) {
	partitions := g.offsets[topic]
	delete(partitions, partition)
	if len(partitions) == 0 {
		delete(g.offsets, topic)
	}
}

// eachOffset yields the topics and partitions that have an offset, in order. The offset at hand may be removed.
func (g *group) eachOffset(yield func(topic string, partition int32) bool) {
	for _, topic := range slices.Sorted(maps.Keys(g.offsets)) {
		for _, partition := range slices.Sorted(maps.Keys(g.offsets[topic])) {
			if !yield(topic, partition) {
				return
			}
		}
	}
}

// dropOffset removes an offset and writes so.
func (m *machine) dropOffset(g *group, topic string, partition int32) {
	g.removeOffset(topic, partition)
	m.out.Append(coordinator.Record{Key: offsetKey(g.id, topic, partition)})
}

// commit is one OffsetCommit request whose topics have been looked up: what has an error keeps it.
type commit struct {
	req    *kmsg.OffsetCommitRequest
	topics []commitTopic
	resp   *kmsg.OffsetCommitResponse // as long as the request
}

type commitTopic struct {
	name string
	id   protocol.TopicID
}

// fail answers code for every partition that has no error yet.
func (c *commit) fail(code protocol.ErrorCode) {
	for i := range c.resp.Topics {
		for j := range c.resp.Topics[i].Partitions {
			if p := &c.resp.Topics[i].Partitions[j]; p.ErrorCode == 0 {
				p.ErrorCode = int16(code)
			}
		}
	}
}

// refuse answers code for every partition, whatever was said of it before.
func (c *commit) refuse(code protocol.ErrorCode) {
	for i := range c.resp.Topics {
		for j := range c.resp.Topics[i].Partitions {
			c.resp.Topics[i].Partitions[j].ErrorCode = int16(code)
		}
	}
}

// commitOffsets is the input of an OffsetCommit request (G11).
func (m *machine) commitOffsets(c *commit) {
	g := m.groups[c.req.Group]
	if code := checkCommit(g, c.req); code != protocol.CodeNone {
		c.fail(code)
		return
	}
	if g != nil && (g.state == stateStable || g.state == statePreparing) {
		m.touch(g, g.members[c.req.MemberID])
	}
	records, offsets, size := m.commitRecords(c)
	if size > recordBytesMax {
		c.fail(protocol.CodeInvalidCommitOffsetSize)
		return
	}
	if len(records) == 0 {
		return
	}
	g = m.ensure(c.req.Group)
	next := 0
	for i, topic := range c.resp.Topics {
		for _, p := range topic.Partitions {
			if p.ErrorCode == 0 {
				m.out.Append(records[next])
				g.setOffset(c.topics[i].name, p.Partition, offsets[next])
				next++
			}
		}
	}
}

// commitRecords makes the records of the partitions that have no error, and finds more errors.
func (m *machine) commitRecords(c *commit) (records []coordinator.Record, offsets []offset, size int) {
	now := m.now.UnixMilli()
	expire := int64(-1)
	if c.req.Version >= 2 && c.req.Version <= 4 && c.req.RetentionTimeMillis >= 0 {
		expire = now + c.req.RetentionTimeMillis
	}
	for i := range c.req.Topics {
		topic := &c.topics[i]
		topic.name = cloneString(topic.name)
		for j, p := range c.req.Topics[i].Partitions {
			answer := &c.resp.Topics[i].Partitions[j]
			if answer.ErrorCode != 0 {
				continue
			}
			o := offset{at: p.Offset, epoch: p.LeaderEpoch, commit: now, expire: expire, topic: topic.id}
			if p.Metadata != nil {
				o.metadata = cloneString(*p.Metadata)
			}
			if c.req.Version < 6 {
				o.epoch = -1
			}
			if longerThan(o.metadata, m.lim.OffsetMetadataMax) || o.expire >= 0 && len(o.metadata) > nameBytesMax {
				answer.ErrorCode = int16(protocol.CodeOffsetMetadataTooLarge)
				continue
			}
			r := offsetRecord(c.req.Group, topic.name, p.Partition, o)
			if size += len(r.Key) + len(r.Value); size > recordBytesMax {
				return nil, nil, size
			}
			if o.expire >= 0 { // what its record has no room for is not kept
				o.epoch, o.topic = -1, protocol.TopicID{}
			}
			records, offsets = append(records, r), append(offsets, o)
		}
	}
	return records, offsets, size
}

// longerThan reports whether s has more than n UTF-16 code units, which is what Kafka counts.
func longerThan(s string, n int) bool {
	if len(s) <= n {
		return false
	}
	units := 0
	for _, r := range s {
		if units++; r >= 0x10000 && r <= utf8.MaxRune {
			units++
		}
	}
	return units > n
}

func checkCommit(g *group, req *kmsg.OffsetCommitRequest) protocol.ErrorCode {
	switch {
	case g == nil && req.Generation < 0:
		return protocol.CodeNone // a simple consumer or an administrator
	case g == nil && req.Version >= 9:
		return protocol.CodeGroupIDNotFound
	case g == nil:
		return protocol.CodeIllegalGeneration
	case g.state == stateEmpty && req.Generation < 0:
		return protocol.CodeNone
	}
	// With neither generation, member nor instance, check answers UNKNOWN_MEMBER_ID.
	if code := g.check(req.MemberID, req.InstanceID); code != protocol.CodeNone {
		return code
	}
	switch {
	case req.Generation != g.generation:
		return protocol.CodeIllegalGeneration
	case g.state == stateCompleting:
		return protocol.CodeRebalanceInProgress
	}
	return protocol.CodeNone
}

// expireOffsets removes what nobody has used for long, and then groups of which nothing is left (G16).
func (m *machine) expireOffsets() {
	m.out.AllowSplit()
	for _, id := range m.sorted() {
		g := m.groups[id]
		for topic, partition := range g.eachOffset {
			if m.expired(g, topic, g.offsets[topic][partition]) {
				m.dropOffset(g, topic, partition)
			}
		}
		if g.state == stateEmpty && len(g.offsets) == 0 && len(g.pending) == 0 {
			m.deleteGroup(g)
		}
	}
}

// expired reports whether an offset has outlived its use. An empty group keeps its offsets for the retention time
// after it became empty, a simple one after the commit, and consumers lose those of topics that they left.
func (m *machine) expired(g *group, topic string, o offset) bool {
	if g.subscribes(topic) {
		return false
	}
	base := o.commit
	switch {
	case g.protocolType == "":
	case g.state == stateEmpty:
		if g.since >= 0 {
			base = g.since
		}
	case g.protocolType == consumerType && g.state == stateStable && g.subscribed != nil:
	default:
		return false
	}
	if o.expire >= 0 {
		return m.now.UnixMilli() >= o.expire
	}
	return m.now.Sub(time.UnixMilli(base)) >= m.lim.OffsetsRetention
}

// deleteGroup removes a group without members.
func (m *machine) deleteGroup(g *group) {
	for topic, partition := range g.eachOffset {
		m.dropOffset(g, topic, partition)
	}
	if g.persisted != nil {
		m.out.Append(coordinator.Record{Key: groupKey(g.id)})
	}
	for id := range g.pending {
		m.dropPending(g, id)
	}
	delete(m.groups, g.id)
}

// deleteGroups is the input of a DeleteGroups request (G15). The answers are in the order of ids.
func (m *machine) deleteGroups(ids []string) []protocol.ErrorCode {
	// Each group is deleted on its own: the answer waits for all, and what a crash leaves is asked for again.
	m.out.AllowSplit()
	codes := make([]protocol.ErrorCode, len(ids))
	for i, id := range ids {
		switch g := m.groups[id]; {
		case g == nil:
			codes[i] = protocol.CodeGroupIDNotFound
		case g.state != stateEmpty:
			codes[i] = protocol.CodeNonEmptyGroup
		default:
			m.deleteGroup(g)
		}
	}
	return codes
}

// deleteTopic removes the offsets of a topic that is no more, but not those of a topic that has its name by now.
func (m *machine) deleteTopic(name string, id protocol.TopicID) {
	m.out.AllowSplit()
	for _, groupID := range m.sorted() {
		g := m.groups[groupID]
		for _, partition := range slices.Sorted(maps.Keys(g.offsets[name])) {
			if o := g.offsets[name][partition]; o.topic == id || o.topic.IsZero() {
				m.dropOffset(g, name, partition)
			}
		}
		m.forgetIfVoid(g)
	}
}
