package broker

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/metadata"
	"github.com/tidemill/tidemill/protocol"
)

// OffsetForLeaderEpoch: v2-4
//
// Where an epoch ended, from the partition's history (E2). Logs are never truncated, so a consumer's position always
// stands.
func init() {
	handle(protocol.KeyOffsetForLeaderEpoch, (*Broker).offsetForLeaderEpoch)
}

func (b *Broker) offsetForLeaderEpoch(c *call, req *kmsg.OffsetForLeaderEpochRequest) {
	v := b.view()
	resp := req.ResponseKind().(*kmsg.OffsetForLeaderEpochResponse)
	for _, t := range req.Topics {
		out := kmsg.NewOffsetForLeaderEpochResponseTopic()
		out.Topic = t.Topic
		topic := v.img.Topics[t.Topic]
		for _, p := range t.Partitions {
			q := kmsg.NewOffsetForLeaderEpochResponseTopicPartition()
			q.Partition, q.LeaderEpoch, q.EndOffset = p.Partition, -1, -1
			q.ErrorCode = int16(b.epochEnd(v, topic, p, &q))
			out.Partitions = append(out.Partitions, q)
		}
		resp.Topics = append(resp.Topics, out)
	}
	c.reply(resp)
}

func (b *Broker) epochEnd(v *view, t *metadata.Topic, in kmsg.OffsetForLeaderEpochRequestTopicPartition,
	out *kmsg.OffsetForLeaderEpochResponseTopicPartition,
) protocol.ErrorCode {
	if t == nil {
		return protocol.CodeUnknownTopicOrPartition
	}
	l, code := b.ownedLog(v, t, in.Partition)
	if code != protocol.CodeNone {
		return code
	}
	if code := checkEpoch(in.CurrentLeaderEpoch, l.State().LeaderEpoch); code != protocol.CodeNone {
		return code
	}
	if code := b.checkFresh(l); code != protocol.CodeNone {
		return code
	}
	out.LeaderEpoch, out.EndOffset = l.EndOffsetForEpoch(in.LeaderEpoch)
	return protocol.CodeNone
}
