package broker

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/metadata"
	"github.com/tidemill/tidemill/protocol"
)

// DeleteRecords: v0-2
//
// Moves the log start to the exact offset, durably, before it answers (M7).
func init() { handle(protocol.KeyDeleteRecords, (*Broker).deleteRecords) }

func (b *Broker) deleteRecords(c *call, req *kmsg.DeleteRecordsRequest) {
	ctx, cancel := adminContext(c.ctx, req.TimeoutMillis)
	defer cancel()
	v := b.view()
	resp := req.ResponseKind().(*kmsg.DeleteRecordsResponse)
	seen := make(map[protocol.TopicPartition]bool)
	for _, t := range req.Topics {
		out := kmsg.NewDeleteRecordsResponseTopic()
		out.Topic = t.Topic
		for _, p := range t.Partitions {
			if seen[protocol.TopicPartition{Topic: t.Topic, Partition: p.Partition}] {
				continue // each is a durable write, so a request gets one
			}
			seen[protocol.TopicPartition{Topic: t.Topic, Partition: p.Partition}] = true
			q := kmsg.NewDeleteRecordsResponseTopicPartition()
			q.Partition = p.Partition
			low, code := b.deleteRecordsOf(ctx, v, v.img.Topics[t.Topic], t.Topic, p)
			q.LowWatermark, q.ErrorCode = low, int16(code)
			out.Partitions = append(out.Partitions, q)
		}
		resp.Topics = append(resp.Topics, out)
	}
	c.reply(resp)
}

func (b *Broker) deleteRecordsOf(ctx context.Context, v *view, t *metadata.Topic, name string,
	p kmsg.DeleteRecordsRequestTopicPartition,
) (low int64, code protocol.ErrorCode) {
	if t == nil {
		return -1, protocol.CodeUnknownTopicOrPartition
	}
	if internalTopics[name] {
		return -1, protocol.CodeInvalidTopicException
	}
	l, code := b.ownedLog(v, t, p.Partition)
	if code != protocol.CodeNone {
		return -1, code
	}
	if policy := v.logConfig(t).Cleanup; policy.Compact && !policy.Delete {
		return -1, protocol.CodePolicyViolation
	}
	if p.Offset < -1 {
		return -1, protocol.CodeOffsetOutOfRange
	}
	low, err := l.DeleteRecords(ctx, p.Offset)
	if err != nil {
		return -1, codeOf(err)
	}
	return low, protocol.CodeNone
}
