package broker

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"sync"

	"github.com/tidemill/tidemill/kafkaconfig"
	"github.com/tidemill/tidemill/metadata"
	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/wal"
)

// A view is what one request sees of the cluster: an image and the settings that follow from it. It is immutable.
type view struct {
	img      *metadata.Image
	cutOff   *map[int32]metadata.BrokerInfo // what was found when it was made: see watchCutOff
	layers   kafkaconfig.Layers
	settings kafkaconfig.BrokerSettings
	life     wal.Life // of this broker, whose id is self
	self     int32
	selfInfo metadata.BrokerInfo

	// brokers are the live ones by id, always with this one, whose lease etcd may have lost.
	brokers []liveBroker
	// logConfigs caches the resolved settings of topics: *metadata.Topic -> *kafkaconfig.LogConfig.
	logConfigs sync.Map
	// metricNames returns the topics by their names in metrics, which must differ.
	metricNames func() map[string]string
}

type liveBroker struct {
	id int32
	metadata.BrokerInfo
}

// view returns the view of the newest image and of what was found of brokers that are cut off. It resolves settings once for each.
func (b *Broker) view() *view {
	img, found := b.meta.Image(), b.cutOff.Load()
	if v := b.current.Load(); v != nil && v.img == img && v.cutOff == found {
		return v
	}
	var cutOff map[int32]metadata.BrokerInfo
	if found != nil {
		cutOff = *found
	}
	v := newView(img, b.cfg.Kafka, b.life, b.info, cutOff)
	v.cutOff = found
	b.current.Store(v) // in place of a newer one at times, which is then made again
	return v
}

func newView(img *metadata.Image, static map[string]string, life wal.Life, info metadata.BrokerInfo, cutOff map[int32]metadata.BrokerInfo) *view {
	self := life.Broker
	id := strconv.Itoa(int(self))
	own := map[string]string{"broker.id": id, "node.id": id} // told whether it was given or found
	maps.Copy(own, static)
	v := &view{img: img, life: life, self: self, selfInfo: info, layers: kafkaconfig.Layers{
		Broker:         img.BrokerConfigs[self].Values,
		ClusterDefault: img.BrokerConfigs[metadata.DefaultBroker].Values,
		Static:         own,
	}}
	v.metricNames = sync.OnceValue(func() map[string]string {
		names := make(map[string]string, len(img.Topics))
		for name := range img.Topics {
			names[metricName(name)] = name
		}
		return names
	})
	v.settings = kafkaconfig.ResolveBroker(v.layers)
	v.brokers = append(v.brokers, liveBroker{self, info})
	for id, other := range img.Brokers {
		if id != self {
			v.brokers = append(v.brokers, liveBroker{id, other.BrokerInfo})
		}
	}
	for id, info := range cutOff {
		if _, registered := img.Brokers[id]; !registered && id != self {
			v.brokers = append(v.brokers, liveBroker{id, info})
		}
	}
	slices.SortFunc(v.brokers, func(a, b liveBroker) int { return cmp.Compare(a.id, b.id) })
	return v
}

// logConfig returns what holds for the topic.
func (v *view) logConfig(t *metadata.Topic) *kafkaconfig.LogConfig {
	if c, ok := v.logConfigs.Load(t); ok {
		return c.(*kafkaconfig.LogConfig)
	}
	c := kafkaconfig.Resolve(t.Configs, v.layers)
	v.logConfigs.Store(t, &c)
	return &c
}

// topicNames returns all names in order.
func (v *view) topicNames() []string { return slices.Sorted(maps.Keys(v.img.Topics)) }

// alive reports whether a broker is in the list that clients are given.
func (v *view) alive(id int32) bool {
	_, ok := slices.BinarySearchFunc(v.brokers, id, func(b liveBroker, id int32) int { return cmp.Compare(b.id, id) })
	return ok
}

// leader returns the broker that owns the partition, -1 and LEADER_NOT_AVAILABLE when it is not alive.
func (v *view) leader(p metadata.Partition) (int32, protocol.ErrorCode) {
	if v.alive(p.Owner.Broker) {
		return p.Owner.Broker, protocol.CodeNone
	}
	return -1, protocol.CodeLeaderNotAvailable
}

// replicas lists what an operator assigned, and the leader; or the leader and then other live brokers, as many as the replication
// factor says and there are. Data is in the object store, so any list is as true as another; ids that clients do not know
// would confuse them.
func (v *view) replicas(p metadata.Partition, leader int32, factor int16) []int32 {
	if p.Pin != nil {
		if out := v.assigned(p.Pin, leader); len(out) > 0 {
			return out
		}
	}
	n := min(max(int(factor), 1), len(v.brokers))
	out := make([]int32, 0, n)
	if leader >= 0 {
		out = append(out, leader)
	}
	for _, b := range v.brokers {
		if len(out) == n {
			break
		}
		if b.id != leader {
			out = append(out, b.id)
		}
	}
	return out
}

// assigned lists the live brokers of an assignment in its order, so that the preferred one is first, and the leader.
func (v *view) assigned(pin *metadata.Pin, leader int32) []int32 {
	out := make([]int32, 0, len(pin.Replicas)+1)
	for _, id := range pin.Replicas {
		if v.alive(id) {
			out = append(out, id)
		}
	}
	if leader >= 0 && !slices.Contains(out, leader) {
		out = append(out, leader)
	}
	return out
}

// topicByRef finds a topic by id, or by name when the id is zero.
func (v *view) topicByRef(id protocol.TopicID, name string) (*metadata.Topic, protocol.ErrorCode) {
	if !id.IsZero() {
		if t, ok := v.img.TopicsByID[id]; ok {
			return t, protocol.CodeNone
		}
		return nil, protocol.CodeUnknownTopicID
	}
	if len(name) <= topicNameMax { // a longer one is not worth the hashing
		if t, ok := v.img.Topics[name]; ok {
			return t, protocol.CodeNone
		}
	}
	return nil, protocol.CodeUnknownTopicOrPartition
}

// TopicByName implements group.TopicResolver.
func (v *view) TopicByName(name string) (protocol.TopicID, int32, bool) {
	t, ok := v.img.Topics[name]
	if !ok {
		return protocol.TopicID{}, 0, false
	}
	return t.ID, int32(len(t.Partitions)), true
}

// TopicByID implements group.TopicResolver.
func (v *view) TopicByID(id protocol.TopicID) (string, int32, bool) {
	t, ok := v.img.TopicsByID[id]
	if !ok {
		return "", 0, false
	}
	return t.Name, int32(len(t.Partitions)), true
}
