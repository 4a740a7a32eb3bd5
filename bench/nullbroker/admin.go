package nullbroker

import "github.com/twmb/franz-go/pkg/kmsg"

const keyAPIVersions = 18

// Error codes of Kafka.
const (
	errOffsetOutOfRange   = 1
	errCorruptMessage     = 2
	errUnknownTopic       = 3
	errUnsupportedVersion = 35
	errTopicExists        = 36
)

// versions are what the broker speaks. Produce and Fetch have one version each, which all clients of today know.
var versions = map[int16][2]int16{
	0:              {9, 9},   // Produce
	1:              {12, 12}, // Fetch
	2:              {1, 6},   // ListOffsets
	3:              {4, 9},   // Metadata
	keyAPIVersions: {0, 3},
	19:             {2, 5}, // CreateTopics
	22:             {0, 4}, // InitProducerId
}

func supported(key, version int16) bool {
	v, ok := versions[key]
	return ok && version >= v[0] && version <= v[1]
}

// answer answers what is not on the data path.
func (b *Broker) answer(req kmsg.Request) kmsg.Response {
	switch req := req.(type) {
	case *kmsg.MetadataRequest:
		return b.metadata(req)
	case *kmsg.ListOffsetsRequest:
		return b.listOffsets(req)
	case *kmsg.CreateTopicsRequest:
		return b.createTopics(req)
	case *kmsg.InitProducerIDRequest:
		return b.initProducerID(req)
	}
	return b.apiVersions(req.GetVersion(), 0)
}

func (b *Broker) apiVersions(version, code int16) kmsg.Response {
	resp := kmsg.NewPtrApiVersionsResponse()
	resp.Version, resp.ErrorCode = version, code
	for key, v := range versions {
		k := kmsg.NewApiVersionsResponseApiKey()
		k.ApiKey, k.MinVersion, k.MaxVersion = key, v[0], v[1]
		resp.ApiKeys = append(resp.ApiKeys, k)
	}
	return resp
}

func (b *Broker) metadata(req *kmsg.MetadataRequest) kmsg.Response {
	resp := req.ResponseKind().(*kmsg.MetadataResponse)
	self := kmsg.NewMetadataResponseBroker()
	self.NodeID, self.Host, self.Port = 1, b.host, b.port
	resp.Brokers, resp.ControllerID = append(resp.Brokers, self), 1
	var names []string
	for _, t := range req.Topics {
		names = append(names, *t.Topic)
	}
	if req.Topics == nil {
		names = b.names()
	}
	for _, name := range names {
		create := int32(0)
		if req.AllowAutoTopicCreation {
			create = b.options.Partitions
		}
		topic := kmsg.NewMetadataResponseTopic()
		topic.Topic = &name
		partitions := b.topic(name, create)
		if partitions == nil {
			topic.ErrorCode = errUnknownTopic
		}
		for i := range partitions {
			p := kmsg.NewMetadataResponseTopicPartition()
			p.Partition, p.Leader, p.LeaderEpoch, p.Replicas, p.ISR = int32(i), 1, 0, []int32{1}, []int32{1}
			topic.Partitions = append(topic.Partitions, p)
		}
		resp.Topics = append(resp.Topics, topic)
	}
	return resp
}

func (b *Broker) names() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var names []string
	for name := range b.topics {
		names = append(names, name)
	}
	return names
}

func (b *Broker) listOffsets(req *kmsg.ListOffsetsRequest) kmsg.Response {
	const earliest = -2
	resp := req.ResponseKind().(*kmsg.ListOffsetsResponse)
	for _, t := range req.Topics {
		topic := kmsg.NewListOffsetsResponseTopic()
		topic.Topic = t.Topic
		for _, asked := range t.Partitions {
			p := kmsg.NewListOffsetsResponseTopicPartition()
			p.Partition, p.LeaderEpoch = asked.Partition, 0
			if found := b.partition(t.Topic, asked.Partition); found == nil {
				p.ErrorCode = errUnknownTopic
			} else if start, next := found.bounds(b.arena); asked.Timestamp == earliest {
				p.Offset = start
			} else { // the latest, and for want of an index by time any other too
				p.Offset = next
			}
			topic.Partitions = append(topic.Partitions, p)
		}
		resp.Topics = append(resp.Topics, topic)
	}
	return resp
}

func (b *Broker) createTopics(req *kmsg.CreateTopicsRequest) kmsg.Response {
	resp := req.ResponseKind().(*kmsg.CreateTopicsResponse)
	for _, t := range req.Topics {
		topic := kmsg.NewCreateTopicsResponseTopic()
		topic.Topic, topic.ReplicationFactor = t.Topic, 1
		n := t.NumPartitions
		if n <= 0 {
			n = b.options.Partitions
		}
		if topic.NumPartitions = n; b.topic(t.Topic, 0) != nil {
			topic.ErrorCode = errTopicExists
		} else {
			b.topic(t.Topic, n)
		}
		resp.Topics = append(resp.Topics, topic)
	}
	return resp
}

func (b *Broker) initProducerID(req *kmsg.InitProducerIDRequest) kmsg.Response {
	resp := req.ResponseKind().(*kmsg.InitProducerIDResponse)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.producers++
	resp.ProducerID = b.producers
	return resp
}
