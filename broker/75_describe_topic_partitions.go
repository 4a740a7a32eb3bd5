package broker

import (
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/metadata"
	"github.com/tidemill/tidemill/protocol"
)

// DescribeTopicPartitions: v0
//
// Topics in name order from the cursor on, at most as many partitions as asked for (KIP-966). Never creates a topic.
func init() {
	handle(protocol.KeyDescribeTopicPartitions, (*Broker).describeTopicPartitions)
}

// describedPartitionsMax is Kafka's max.request.partition.size.limit.
const describedPartitionsMax = 2000

func (b *Broker) describeTopicPartitions(c *call, req *kmsg.DescribeTopicPartitionsRequest) {
	v := b.view()
	resp := req.ResponseKind().(*kmsg.DescribeTopicPartitionsResponse)
	var names []string
	for _, t := range req.Topics {
		names = append(names, t.Topic)
	}
	all := len(names) == 0
	if all {
		names = v.topicNames()
	}
	slices.Sort(names)
	names = slices.Compact(names)
	first := 0
	if req.Cursor != nil {
		names = slices.DeleteFunc(names, func(n string) bool { return n < req.Cursor.Topic })
		if len(names) > 0 && names[0] == req.Cursor.Topic {
			first = int(max(req.Cursor.Partition, 0))
		}
	}
	left := describedPartitionsMax
	if limit := int(req.ResponsePartitionLimit); limit > 0 {
		left = min(limit, left)
	}
	for _, name := range names {
		t, ok := v.img.Topics[name]
		if !ok {
			resp.Topics = append(resp.Topics, undescribedTopic(name))
			continue
		}
		if left == 0 {
			resp.NextCursor = describeCursor(name, 0)
			break
		}
		out, n := v.describeTopic(t, first, left)
		resp.Topics = append(resp.Topics, out)
		if first+n < len(t.Partitions) {
			resp.NextCursor = describeCursor(name, first+n)
			break
		}
		left, first = left-n, 0
	}
	c.reply(resp)
}

// describeTopic lists up to n partitions from first on and says how many there were.
func (v *view) describeTopic(t *metadata.Topic, first, n int) (kmsg.DescribeTopicPartitionsResponseTopic, int) {
	out := kmsg.NewDescribeTopicPartitionsResponseTopic()
	out.Topic, out.TopicID, out.IsInternal, out.AuthorizedOperations = &t.Name, t.ID, t.Internal, topicOperations
	first = min(first, len(t.Partitions))
	for i, p := range t.Partitions[first:min(first+n, len(t.Partitions))] {
		leader, code := v.leader(p)
		q := kmsg.NewDescribeTopicPartitionsResponseTopicPartition()
		q.ErrorCode, q.Partition, q.LeaderID, q.LeaderEpoch = int16(code), int32(first+i), leader, p.LeaderEpoch
		q.Replicas = v.replicas(p, leader, t.ReplicationFactor)
		q.ISR = q.Replicas
		q.EligibleLeaderReplicas, q.LastKnownELR = []int32{}, []int32{}
		out.Partitions = append(out.Partitions, q)
	}
	return out, len(out.Partitions)
}

func undescribedTopic(name string) kmsg.DescribeTopicPartitionsResponseTopic {
	out := kmsg.NewDescribeTopicPartitionsResponseTopic()
	out.Topic, out.AuthorizedOperations = &name, noOperations
	out.ErrorCode = int16(protocol.CodeUnknownTopicOrPartition)
	if checkTopicName(name) != nil {
		out.ErrorCode = int16(protocol.CodeInvalidTopicException)
	}
	return out
}

func describeCursor(topic string, partition int) *kmsg.DescribeTopicPartitionsResponseNextCursor {
	next := kmsg.NewDescribeTopicPartitionsResponseNextCursor()
	next.Topic, next.Partition = topic, int32(partition)
	return &next
}
