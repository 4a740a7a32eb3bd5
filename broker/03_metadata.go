package broker

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/metadata"
	"github.com/tidemill/tidemill/protocol"
)

// Metadata: v0-13
//
// Answers from the image in memory. A topic that is missing and may be created is created beside the request, which is
// answered UNKNOWN_TOPIC_OR_PARTITION so that the client asks again (M1, M2).
func init() { handle(protocol.KeyMetadata, (*Broker).metadata) }

// Operations that are allowed on a resource while there is no authorizer, as bits of Kafka's AclOperation: all that
// Kafka knows for the resource. noOperations says that the client did not ask.
const (
	topicOperations   int32 = 1<<3 | 1<<4 | 1<<5 | 1<<6 | 1<<7 | 1<<8 | 1<<10 | 1<<11
	clusterOperations int32 = 1<<5 | 1<<7 | 1<<8 | 1<<9 | 1<<10 | 1<<11 | 1<<12
	groupOperations   int32 = 1<<3 | 1<<6 | 1<<8 | 1<<10 | 1<<11
	noOperations      int32 = -1 << 31
)

func (b *Broker) metadata(c *call, req *kmsg.MetadataRequest) {
	v := b.view()
	resp := req.ResponseKind().(*kmsg.MetadataResponse)
	if req.Version < 12 && namesTopicsByID(req) {
		refuseTopicIDs(resp, req)
		c.reply(resp)
		return
	}
	for _, broker := range v.brokers {
		out := kmsg.NewMetadataResponseBroker()
		out.NodeID, out.Host, out.Port, out.Rack = broker.id, broker.Host, broker.Port, rackPtr(broker.Rack)
		resp.Brokers = append(resp.Brokers, out)
	}
	resp.ClusterID = kmsg.StringPtr(v.img.Cluster.ID)
	resp.ControllerID = v.self // every broker takes admin requests
	resp.AuthorizedOperations = noOperations
	if req.IncludeClusterAuthorizedOperations {
		resp.AuthorizedOperations = clusterOperations
	}
	if req.Topics == nil || req.Version == 0 && len(req.Topics) == 0 {
		for _, name := range v.topicNames() {
			resp.Topics = append(resp.Topics, v.metadataTopic(v.img.Topics[name], req.IncludeTopicAuthorizedOperations))
		}
		c.reply(resp)
		return
	}
	b.metadataTopics(v, req, resp)
	c.reply(resp)
}

// metadataTopics answers for the topics that were named, each once.
func (b *Broker) metadataTopics(v *view, req *kmsg.MetadataRequest, resp *kmsg.MetadataResponse) {
	mayCreate := (req.Version < 4 || req.AllowAutoTopicCreation) && v.settings.AutoCreateTopics
	type ref struct {
		id   protocol.TopicID
		name string
	}
	seen := make(map[ref]bool, len(req.Topics))
	for _, in := range req.Topics {
		r := ref{id: in.TopicID}
		if in.Topic != nil && r.id.IsZero() {
			r.name = *in.Topic
		}
		if seen[r] {
			continue
		}
		seen[r] = true
		if r.id.IsZero() && in.Topic == nil {
			resp.Topics = append(resp.Topics, metadataError(in, protocol.CodeUnknownServerError))
			if req.Version >= 13 {
				resp.ErrorCode = int16(protocol.CodeUnknownServerError)
			}
			continue
		}
		t, code := v.topicByRef(r.id, r.name)
		if code == protocol.CodeUnknownTopicOrPartition {
			switch {
			case checkTopicName(r.name) != nil:
				code = protocol.CodeInvalidTopicException
			case mayCreate:
				b.autoCreate(r.name)
			}
		}
		if code != protocol.CodeNone {
			resp.Topics = append(resp.Topics, metadataError(in, code))
			continue
		}
		resp.Topics = append(resp.Topics, v.metadataTopic(t, req.IncludeTopicAuthorizedOperations))
	}
}

func (v *view) metadataTopic(t *metadata.Topic, operations bool) kmsg.MetadataResponseTopic {
	out := kmsg.NewMetadataResponseTopic()
	out.Topic, out.TopicID, out.IsInternal = &t.Name, t.ID, t.Internal
	out.AuthorizedOperations = noOperations
	if operations {
		out.AuthorizedOperations = topicOperations
	}
	out.Partitions = make([]kmsg.MetadataResponseTopicPartition, len(t.Partitions))
	for i, p := range t.Partitions {
		leader, code := v.leader(p)
		q := kmsg.NewMetadataResponseTopicPartition()
		q.ErrorCode, q.Partition, q.Leader, q.LeaderEpoch = int16(code), int32(i), leader, p.LeaderEpoch
		q.Replicas = v.replicas(p, leader, t.ReplicationFactor)
		q.ISR = q.Replicas
		out.Partitions[i] = q
	}
	return out
}

func metadataError(in kmsg.MetadataRequestTopic, code protocol.ErrorCode) kmsg.MetadataResponseTopic {
	out := kmsg.NewMetadataResponseTopic()
	out.ErrorCode, out.Topic, out.TopicID, out.AuthorizedOperations = int16(code), in.Topic, in.TopicID, noOperations
	return out
}

// namesTopicsByID reports whether a request uses topic ids, which v10 and v11 can carry but not mean.
func namesTopicsByID(req *kmsg.MetadataRequest) bool {
	for _, t := range req.Topics {
		if t.Topic == nil || t.TopicID != [16]byte{} {
			return true
		}
	}
	return false
}

// refuseTopicIDs answers as Kafka does when it cannot serve the request as a whole: no broker, no cluster, one error.
func refuseTopicIDs(resp *kmsg.MetadataResponse, req *kmsg.MetadataRequest) {
	resp.ControllerID, resp.AuthorizedOperations = -1, noOperations
	for _, in := range req.Topics {
		if in.Topic == nil {
			in.Topic = kmsg.StringPtr("")
		}
		resp.Topics = append(resp.Topics, metadataError(in, protocol.CodeInvalidRequest))
	}
}

// rackPtr returns nil for a broker without a rack, as Kafka answers.
func rackPtr(rack string) *string {
	if rack == "" {
		return nil
	}
	return &rack
}
