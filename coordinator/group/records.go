package group

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/coordinator"
)

// The versions that Kafka 4.3 writes. An offset with an expiry of its own has room for it only in version 1, which has
// neither leader epoch nor topic id.
const (
	offsetKeyVersion           = 1
	offsetValueVersion         = 4
	offsetValueVersionExpiring = 1
	groupKeyVersion            = 2
	groupValueVersion          = 3
)

// recordBytesMax bounds the records of one input, so that its batch fits into a slot with room to spare.
const recordBytesMax = 4 << 20

// nameBytesMax bounds the names that end up in records, whose strings have 15 bits for their length. Member ids are made
// of a name and a UUID.
const nameBytesMax = 1<<15 - 1 - 64

var errRecord = errors.New("corrupt group record")

func offsetKey(group, topic string, partition int32) []byte {
	key := kmsg.OffsetCommitKey{Version: offsetKeyVersion, Group: group, Topic: topic, Partition: partition}
	return key.AppendTo(nil)
}

func offsetRecord(group, topic string, partition int32, o offset) coordinator.Record {
	value := kmsg.OffsetCommitValue{
		Version:         offsetValueVersion,
		Offset:          o.at,
		LeaderEpoch:     o.epoch,
		Metadata:        o.metadata,
		CommitTimestamp: o.commit,
		ExpireTimestamp: o.expire,
		TopicID:         o.topic,
	}
	if o.expire >= 0 {
		value.Version = offsetValueVersionExpiring
	}
	return coordinator.Record{Key: offsetKey(group, topic, partition), Value: value.AppendTo(nil)}
}

func groupKey(group string) []byte {
	key := kmsg.GroupMetadataKey{Version: groupKeyVersion, Group: group}
	return key.AppendTo(nil)
}

// persist writes the group with its members, and reports whether it did: it does not if the record is too large.
func (m *machine) persist(g *group) bool {
	value := kmsg.GroupMetadataValue{
		Version:               groupValueVersion,
		ProtocolType:          g.protocolType,
		Generation:            g.generation,
		Protocol:              g.protocol,
		CurrentStateTimestamp: g.since,
		Members:               make([]kmsg.GroupMetadataValueMember, 0, len(g.members)),
	}
	if g.leader != "" {
		value.Leader = kmsg.StringPtr(g.leader)
	}
	size := 0
	g.each(func(mb *member) {
		rec := kmsg.GroupMetadataValueMember{
			MemberID:               mb.id,
			InstanceID:             mb.instance,
			ClientID:               mb.client.ID,
			ClientHost:             mb.client.Host,
			RebalanceTimeoutMillis: int32(mb.rebalance.Milliseconds()),
			SessionTimeoutMillis:   int32(mb.session.Milliseconds()),
			Subscription:           mb.metadata(*g.protocol),
			Assignment:             mb.assignment,
		}
		size += len(rec.Subscription) + len(rec.Assignment)
		value.Members = append(value.Members, rec)
	})
	if size > recordBytesMax {
		return false
	}
	encoded := value.AppendTo(nil)
	if len(encoded) > recordBytesMax {
		return false
	}
	g.persisted = encoded
	m.out.Append(coordinator.Record{Key: groupKey(g.id), Value: encoded})
	return true
}

// Apply replays one record.
func (m *machine) Apply(r coordinator.Record) error {
	if len(r.Key) < 2 {
		return fmt.Errorf("%w: key of %d bytes", errRecord, len(r.Key))
	}
	switch version := binary.BigEndian.Uint16(r.Key); version {
	case 0, offsetKeyVersion:
		return m.applyOffset(r)
	case groupKeyVersion:
		return m.applyGroup(r)
	default:
		// Of a group type that this broker does not run: it is for a newer one.
		return nil
	}
}

func (m *machine) applyOffset(r coordinator.Record) error {
	var key kmsg.OffsetCommitKey
	if err := key.ReadFrom(r.Key); err != nil {
		return fmt.Errorf("%w: offset key: %w", errRecord, err)
	}
	if r.Value == nil {
		if g := m.groups[key.Group]; g != nil {
			g.removeOffset(key.Topic, key.Partition)
			m.forgetIfVoid(g)
		}
		return nil
	}
	var value kmsg.OffsetCommitValue
	value.LeaderEpoch, value.ExpireTimestamp = -1, -1
	if err := value.ReadFrom(r.Value); err != nil {
		return fmt.Errorf("%w: offset of %s/%s/%d: %w", errRecord, key.Group, key.Topic, key.Partition, err)
	}
	o := offset{
		at:       value.Offset,
		epoch:    value.LeaderEpoch,
		metadata: value.Metadata,
		commit:   value.CommitTimestamp,
		expire:   value.ExpireTimestamp,
		topic:    value.TopicID,
	}
	if value.Version < 3 {
		o.epoch = -1
	}
	if value.Version != offsetValueVersionExpiring {
		o.expire = -1
	}
	m.ensure(key.Group).setOffset(key.Topic, key.Partition, o)
	return nil
}

func (m *machine) applyGroup(r coordinator.Record) error {
	var key kmsg.GroupMetadataKey
	if err := key.ReadFrom(r.Key); err != nil {
		return fmt.Errorf("%w: group key: %w", errRecord, err)
	}
	offsets := map[string]map[int32]offset{}
	if old := m.groups[key.Group]; old != nil {
		offsets = old.offsets
		old.each(func(mb *member) { old.tally.add(-mb.counted) })
	}
	g := newGroup(key.Group, &m.tally)
	g.offsets = offsets
	m.groups[g.id] = g
	if r.Value == nil {
		m.forgetIfVoid(g)
		return nil
	}
	var value kmsg.GroupMetadataValue
	value.CurrentStateTimestamp = -1
	if err := value.ReadFrom(r.Value); err != nil {
		return fmt.Errorf("%w: group %s: %w", errRecord, key.Group, err)
	}
	g.restore(value)
	g.persisted = r.Value
	return nil
}

// restore makes the group what the value says: Stable if it has members, else Empty.
func (g *group) restore(value kmsg.GroupMetadataValue) {
	for _, rec := range value.Members {
		if g.members[rec.MemberID] != nil {
			continue
		}
		mb := &member{
			id:         rec.MemberID,
			instance:   rec.InstanceID,
			client:     Client{ID: rec.ClientID, Host: rec.ClientHost},
			rebalance:  time.Duration(rec.RebalanceTimeoutMillis) * time.Millisecond,
			session:    time.Duration(rec.SessionTimeoutMillis) * time.Millisecond,
			assignment: cloneBytes(rec.Assignment),
		}
		if value.Version == 0 {
			mb.rebalance = mb.session
		}
		if value.Protocol != nil {
			mb.protocols = []offer{{name: *value.Protocol, metadata: cloneBytes(rec.Subscription)}}
		}
		g.add(mb, value.ProtocolType)
	}
	g.protocolType = value.ProtocolType
	g.protocol = value.Protocol
	g.generation = value.Generation
	if value.Version >= 2 {
		g.since = value.CurrentStateTimestamp
	}
	if len(g.members) > 0 {
		g.state = stateStable
		if g.protocol == nil { // never written, but then nobody could join
			g.protocol = kmsg.StringPtr("")
		}
	}
	if value.Leader != nil && g.members[*value.Leader] != nil {
		g.leader = *value.Leader
	}
	g.subscribed = g.subscriptions()
}

// Records yields the groups and their offsets in order. A group in the middle of a rebalance is what it last was.
func (m *machine) Records(yield func(coordinator.Record) bool) {
	for _, id := range m.sorted() {
		g := m.groups[id]
		if g.persisted != nil && !yield(coordinator.Record{Key: groupKey(id), Value: g.persisted}) {
			return
		}
		for topic, partition := range g.eachOffset {
			if !yield(offsetRecord(id, topic, partition, g.offsets[topic][partition])) {
				return
			}
		}
	}
}
