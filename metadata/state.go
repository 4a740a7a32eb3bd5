package metadata

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/wal"
)

// state is what the watch builds Images from. Only one goroutine at a time touches it.
type state struct {
	keys       keys
	revision   int64
	cluster    Cluster
	controller Controller
	brokers    map[int32]Broker
	// gone are brokers as they were registered last.
	gone    map[int32]Broker
	drains  map[int32]bool
	configs map[int32]ConfigSet
	topics  map[protocol.TopicID]*topicState
	// revs holds the revision of each key that is in the state: to tell what a new list changes.
	revs map[string]int64
	// changed topics and whether brokers or configs changed, since the last image.
	dirty        map[protocol.TopicID]bool
	dirtyBrokers bool
	dirtyConfigs bool
}

// topicState collects a topic's records, which come in any order: partitions are written before their topic.
type topicState struct {
	record *topicValue
	rev    int64
	parts  map[int32]Partition
	// targets are the intents, also of partitions whose record is not known yet.
	targets map[int32]target
	// pins are where operators want partitions, likewise.
	pins map[int32]*Pin
}

type target struct {
	life wal.Life
	rev  int64
}

func newState(k keys) *state {
	return &state{
		keys: k, brokers: map[int32]Broker{}, gone: map[int32]Broker{}, drains: map[int32]bool{}, configs: map[int32]ConfigSet{}, topics: map[protocol.TopicID]*topicState{},
		revs: map[string]int64{}, dirty: map[protocol.TopicID]bool{}, dirtyBrokers: true, dirtyConfigs: true,
	}
}

// apply takes over one key; a nil value removes it. Keys that no Image shows are ignored.
func (s *state) apply(key string, value []byte, rev int64) error {
	kind, rest, _ := strings.Cut(strings.TrimPrefix(key, string(s.keys)), "/")
	var err error
	switch kind {
	case "cluster":
		err = s.applyCluster(key, value)
	case "b":
		err = s.applyBroker(key, rest, value)
	case "t":
		err = s.applyTopic(key, rest, value, rev)
	case "p":
		err = s.applyPart(key, rest, value, rev)
	case "r":
		err = s.applyIntent(key, rest, value, rev)
	case "pin":
		err = s.applyPin(key, rest, value, rev)
	case "drain":
		err = s.applyDrain(key, rest, value)
	case "controller":
		s.controller, err = Controller{}, nil
		if value != nil {
			s.controller, err = controllerOf(&kvPair{Key: []byte(key), Value: value, ModRevision: rev})
		}
	case "c":
		err = s.applyConfig(key, strings.TrimPrefix(rest, "broker/"), value, rev)
	default:
		return nil
	}
	if value == nil {
		delete(s.revs, key)
	} else {
		s.revs[key] = rev
	}
	return err
}

func (s *state) applyCluster(key string, value []byte) error {
	if value == nil {
		return errors.New("the cluster's identity was deleted")
	}
	v, err := decode[clusterValue](key, value)
	if err == nil {
		s.cluster = Cluster{ID: v.ID, Generation: v.Generation}
	}
	return err
}

func (s *state) applyBroker(key, rest string, value []byte) error {
	id, err := parseBroker(rest)
	if err != nil {
		return fmt.Errorf("key %s: %w", key, err)
	}
	s.dirtyBrokers = true
	if value == nil {
		if b, known := s.brokers[id]; known {
			s.gone[id] = b
		}
		delete(s.brokers, id)
		return nil
	}
	delete(s.gone, id)
	v, err := decode[brokerValue](key, value)
	if err != nil {
		return err
	}
	life, err := wal.ParseLife(v.Life)
	if err != nil {
		return fmt.Errorf("value of %s: %w", key, err)
	}
	s.brokers[id] = Broker{BrokerInfo: BrokerInfo{Host: v.Host, Port: v.Port, Rack: v.Rack, Draining: v.Draining}, Life: life}
	return nil
}

func (s *state) applyTopic(key, rest string, value []byte, rev int64) error {
	id, err := protocol.ParseTopicID(rest)
	if err != nil {
		return fmt.Errorf("key %s: %w", key, err)
	}
	var record *topicValue
	if value != nil {
		v, err := decode[topicValue](key, value)
		if err != nil {
			return err
		}
		if v.Partitions < 1 {
			return fmt.Errorf("value of %s: %d partitions", key, v.Partitions)
		}
		record = &v
	}
	t := s.topic(id)
	t.record, t.rev = record, rev
	s.touch(id, t)
	return nil
}

func (s *state) applyPart(key, rest string, value []byte, rev int64) error {
	id, err := parsePartition(rest)
	if err != nil {
		return fmt.Errorf("key %s: %w", key, err)
	}
	t := s.topic(id.Topic)
	if value == nil {
		delete(t.parts, id.Partition)
		s.touch(id.Topic, t)
		return nil
	}
	v, err := decode[partValue](key, value)
	if err != nil {
		return err
	}
	p, err := v.state(id, rev)
	if err != nil {
		return err
	}
	t.parts[id.Partition] = Partition{Owner: p.Owner, LeaderEpoch: p.LeaderEpoch, Rev: rev}
	s.touch(id.Topic, t)
	return nil
}

func (s *state) applyIntent(key, rest string, value []byte, rev int64) error {
	id, err := parsePartition(rest)
	if err != nil {
		return fmt.Errorf("key %s: %w", key, err)
	}
	t := s.topic(id.Topic)
	if value == nil {
		delete(t.targets, id.Partition)
		s.touch(id.Topic, t)
		return nil
	}
	v, err := decode[intentValue](key, value)
	if err != nil {
		return err
	}
	life, err := wal.ParseLife(v.To)
	if err != nil {
		return fmt.Errorf("value of %s: %w", key, err)
	}
	if t.targets == nil {
		t.targets = map[int32]target{}
	}
	t.targets[id.Partition] = target{life, rev}
	s.touch(id.Topic, t)
	return nil
}

func (s *state) applyPin(key, rest string, value []byte, rev int64) error {
	id, err := parsePartition(rest)
	if err != nil {
		return fmt.Errorf("key %s: %w", key, err)
	}
	t := s.topic(id.Topic)
	if value == nil {
		delete(t.pins, id.Partition)
		s.touch(id.Topic, t)
		return nil
	}
	v, err := decode[pinValue](key, value)
	if err != nil {
		return err
	}
	if len(v.Replicas) == 0 {
		return fmt.Errorf("value of %s: no replicas", key)
	}
	if t.pins == nil {
		t.pins = map[int32]*Pin{}
	}
	t.pins[id.Partition] = &Pin{Replicas: v.Replicas, Rev: rev}
	s.touch(id.Topic, t)
	return nil
}

func (s *state) applyDrain(key, rest string, value []byte) error {
	id, err := parseBroker(rest)
	if err != nil {
		return fmt.Errorf("key %s: %w", key, err)
	}
	s.dirtyBrokers = true
	if value == nil {
		delete(s.drains, id)
		return nil
	}
	_, err = decode[header](key, value)
	if err == nil {
		s.drains[id] = true
	}
	return err
}

func (s *state) applyConfig(key, rest string, value []byte, rev int64) error {
	id, err := parseConfigTarget(rest)
	if err != nil {
		return fmt.Errorf("key %s: %w", key, err)
	}
	s.dirtyConfigs = true
	if value == nil {
		delete(s.configs, id)
		return nil
	}
	v, err := decode[configValue](key, value)
	if err == nil {
		s.configs[id] = ConfigSet{Values: v.Values, Rev: rev}
	}
	return err
}

func (s *state) topic(id protocol.TopicID) *topicState {
	t := s.topics[id]
	if t == nil {
		t = &topicState{parts: map[int32]Partition{}}
		s.topics[id] = t
	}
	return t
}

func (s *state) touch(id protocol.TopicID, t *topicState) {
	s.dirty[id] = true
	if t.record == nil && len(t.parts) == 0 && len(t.targets) == 0 && len(t.pins) == 0 {
		delete(s.topics, id)
	}
}

// image builds the Image of the present state; it shares with old whatever did not change.
func (s *state) image(old *Image) *Image {
	i := &Image{Cluster: s.cluster, Revision: s.revision, Controller: s.controller, changed: make(chan struct{})}
	if old != nil {
		i.Brokers, i.Gone, i.Drains, i.BrokerConfigs, i.Topics, i.TopicsByID = old.Brokers, old.Gone, old.Drains, old.BrokerConfigs, old.Topics, old.TopicsByID
	}
	if s.dirtyBrokers {
		i.Brokers, i.Gone, i.Drains = s.drained(), maps.Clone(s.gone), maps.Clone(s.drains)
	}
	if s.dirtyConfigs {
		i.BrokerConfigs = maps.Clone(s.configs)
	}
	if len(s.dirty) > 0 || old == nil {
		s.replaceTopics(i)
	}
	s.dirty, s.dirtyBrokers, s.dirtyConfigs = map[protocol.TopicID]bool{}, false, false
	return i
}

// drained is the brokers, draining too when an operator says so.
func (s *state) drained() map[int32]Broker {
	brokers := maps.Clone(s.brokers)
	for id := range s.drains {
		if b, ok := brokers[id]; ok {
			b.Draining = true
			brokers[id] = b
		}
	}
	return brokers
}

func (s *state) replaceTopics(i *Image) {
	byName, byID := maps.Clone(i.Topics), maps.Clone(i.TopicsByID)
	if byName == nil {
		byName, byID = map[string]*Topic{}, map[protocol.TopicID]*Topic{}
	}
	for id := range s.dirty {
		// All removals come first: a topic may have been deleted and created again between two images.
		if was := byID[id]; was != nil {
			delete(byID, id)
			delete(byName, was.Name)
		}
	}
	for id := range s.dirty {
		if t := s.topics[id].topic(id); t != nil {
			byID[id], byName[t.Name] = t, t
		}
	}
	i.Topics, i.TopicsByID = byName, byID
}

// topic returns nil while the topic's record is missing: its partitions are being written, or swept.
func (t *topicState) topic(id protocol.TopicID) *Topic {
	if t == nil || t.record == nil {
		return nil
	}
	r := t.record
	topic := &Topic{
		Name: r.Name, ID: id, ReplicationFactor: r.Factor, Internal: r.Internal, Configs: r.Configs,
		Created: time.UnixMilli(r.Created), Partitions: make([]Partition, r.Partitions), Rev: t.rev,
	}
	for i := range topic.Partitions {
		p := t.parts[int32(i)]
		to := t.targets[int32(i)]
		p.Target, p.TargetRev, p.Pin = to.life, to.rev, t.pins[int32(i)]
		topic.Partitions[i] = p
	}
	return topic
}
