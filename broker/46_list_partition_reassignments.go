package broker

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/metadata"
	"github.com/tidemill/tidemill/protocol"
)

// ListPartitionReassignments: v0
//
// Every intent that is under way, also the controller's: the broker that is to own the partition is being added, and the one that
// owns it removed.
func init() {
	handle(protocol.KeyListPartitionReassignments, (*Broker).listPartitionReassignments)
}

func (b *Broker) listPartitionReassignments(c *call, req *kmsg.ListPartitionReassignmentsRequest) {
	v := b.view()
	resp := req.ResponseKind().(*kmsg.ListPartitionReassignmentsResponse)
	if req.Topics == nil {
		for _, name := range v.topicNames() {
			out := kmsg.NewListPartitionReassignmentsResponseTopic()
			out.Topic = name
			for i, p := range v.img.Topics[name].Partitions {
				if onItsWay(p) {
					out.Partitions = append(out.Partitions, underWay(int32(i), p))
				}
			}
			if len(out.Partitions) > 0 {
				resp.Topics = append(resp.Topics, out)
			}
		}
	}
	for _, in := range req.Topics {
		t, code := v.topicByRef(protocol.TopicID{}, in.Topic)
		if code != protocol.CodeNone {
			continue
		}
		out := kmsg.NewListPartitionReassignmentsResponseTopic()
		out.Topic = in.Topic
		for _, i := range in.Partitions {
			if i >= 0 && int(i) < len(t.Partitions) && onItsWay(t.Partitions[i]) {
				out.Partitions = append(out.Partitions, underWay(i, t.Partitions[i]))
			}
		}
		if len(out.Partitions) > 0 {
			resp.Topics = append(resp.Topics, out)
		}
	}
	c.reply(resp)
}

func underWay(i int32, p metadata.Partition) kmsg.ListPartitionReassignmentsResponseTopicPartition {
	out := kmsg.NewListPartitionReassignmentsResponseTopicPartition()
	out.Partition, out.Replicas = i, []int32{p.Target.Broker}
	if p.Owner.Broker != p.Target.Broker { // not from one life of a broker to its next
		out.Replicas = append(out.Replicas, p.Owner.Broker)
		out.AddingReplicas, out.RemovingReplicas = []int32{p.Target.Broker}, []int32{p.Owner.Broker}
	}
	return out
}
