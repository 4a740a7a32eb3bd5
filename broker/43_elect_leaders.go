package broker

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/protocol"
)

// ElectLeaders: v0-2
//
// A partition's one replica is its owner and so its preferred leader: there is never anything to elect (M13).
func init() { handle(protocol.KeyElectLeaders, (*Broker).electLeaders) }

// uncleanElection is the highest election type; 0 is the preferred leader.
const uncleanElection = 1

func (b *Broker) electLeaders(c *call, req *kmsg.ElectLeadersRequest) {
	v := b.view()
	resp := req.ResponseKind().(*kmsg.ElectLeadersResponse)
	var unknownType *refusal
	if req.ElectionType < 0 || req.ElectionType > uncleanElection {
		unknownType = &refusal{protocol.CodeInvalidRequest, fmt.Sprintf("Unknown election type %d", req.ElectionType)}
		resp.ErrorCode = int16(unknownType.code)
	}
	for _, t := range req.Topics {
		out := kmsg.NewElectLeadersResponseTopic()
		out.Topic = t.Topic
		topic := v.img.Topics[t.Topic]
		for _, p := range t.Partitions {
			refused := &refusal{protocol.CodeElectionNotNeeded, "Leader election not needed for topic partition."}
			switch {
			case unknownType != nil:
				refused = unknownType
			case topic == nil:
				refused = &refusal{protocol.CodeUnknownTopicOrPartition, "No such topic as " + t.Topic}
			case p < 0 || int(p) >= len(topic.Partitions):
				refused = &refusal{protocol.CodeUnknownTopicOrPartition, fmt.Sprintf("No such partition as %s-%d", t.Topic, p)}
			}
			q := kmsg.NewElectLeadersResponseTopicPartition()
			q.Partition, q.ErrorCode, q.ErrorMessage = p, int16(refused.code), &refused.message
			out.Partitions = append(out.Partitions, q)
		}
		resp.Topics = append(resp.Topics, out)
	}
	c.reply(resp)
}
