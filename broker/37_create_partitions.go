package broker

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/metadata"
	"github.com/tidemill/tidemill/protocol"
)

// CreatePartitions: v0-3
//
// Partitions are only added (M6). Kafka makes 10,000 partitions of a request for more and answers an error; here such a
// request changes nothing. Nor can __consumer_offsets grow: Kafka lets it, and loses sight of its groups.
func init() { handle(protocol.KeyCreatePartitions, (*Broker).createPartitions) }

func (b *Broker) createPartitions(c *call, req *kmsg.CreatePartitionsRequest) {
	ctx, cancel := adminContext(c.ctx, req.TimeoutMillis)
	defer cancel()
	resp := req.ResponseKind().(*kmsg.CreatePartitionsResponse)
	times := make(map[string]int, len(req.Topics))
	v := b.view()
	var doubted doubts
	for _, t := range req.Topics {
		times[t.Topic]++
		doubted.known(v, t.Topic)
	}
	b.catchUp(ctx, doubted)
	for _, t := range req.Topics {
		if times[t.Topic] == 0 {
			continue
		}
		out := kmsg.NewCreatePartitionsResponseTopic()
		out.Topic = t.Topic
		refused := &refusal{protocol.CodeInvalidRequest, "Duplicate topic name."}
		if times[t.Topic] == 1 {
			refused = b.addPartitions(ctx, t, req.ValidateOnly)
		}
		times[t.Topic] = 0 // answered once
		if refused != nil {
			out.ErrorCode, out.ErrorMessage = int16(refused.code), &refused.message
		}
		resp.Topics = append(resp.Topics, out)
	}
	c.reply(resp)
}

// addPartitions raises the number of a topic's partitions, and looks again when the topic changes or a broker ends meanwhile.
func (b *Broker) addPartitions(ctx context.Context, in kmsg.CreatePartitionsRequestTopic, validateOnly bool) *refusal {
	var ended notOpen
	for attempt := 1; ; attempt++ {
		v := b.view()
		t, replicas, refused := v.partitionsToAdd(in)
		if refused != nil || validateOnly {
			return refused
		}
		have := int32(len(t.Partitions))
		err := b.meta.CreatePartitions(ctx, t.ID, have, in.Count, b.placePartitions(t.ID, have, in.Count, replicas, ended), replicas)
		b.reconcile()
		switch {
		case err == nil:
			return nil
		case attempt == placeAttempts:
			return refusalOf(err)
		case errors.Is(err, metadata.ErrStale):
			ended = b.endedLogs(ctx)
		case errors.Is(err, metadata.ErrUnknownTopic):
			b.catchUp(ctx, mayBeOld(t, err))
		default:
			return refusalOf(err)
		}
	}
}

// partitionsToAdd checks what one topic is asked for, and returns the assignments of the new partitions, if there are any.
func (v *view) partitionsToAdd(in kmsg.CreatePartitionsRequestTopic) (*metadata.Topic, [][]int32, *refusal) {
	t, ok := v.img.Topics[in.Topic]
	if !ok {
		return nil, nil, &refusal{protocol.CodeUnknownTopicOrPartition, "This server does not host this topic-partition."}
	}
	if t.Name == offsetsTopic {
		return nil, nil, &refusal{protocol.CodePolicyViolation, "groups are found by the number of partitions of this topic, so it cannot change"}
	}
	have := int32(len(t.Partitions))
	switch {
	case in.Count == have:
		return nil, nil, &refusal{protocol.CodeInvalidPartitions, fmt.Sprintf("Topic already has %d partition(s).", have)}
	case in.Count < have:
		return nil, nil, &refusal{protocol.CodeInvalidPartitions, fmt.Sprintf(
			"The topic %s currently has %d partition(s); %d would not be an increase.", t.Name, have, in.Count)}
	case in.Count-have > newPartitionsMax:
		return nil, nil, &refusal{protocol.CodePolicyViolation, fmt.Sprintf(
			"%d new partitions are more than the %d that one request may add", in.Count-have, newPartitionsMax)}
	case in.Assignment == nil:
		return t, nil, nil
	case int32(len(in.Assignment)) != in.Count-have:
		return nil, nil, &refusal{protocol.CodeInvalidReplicaAssignment, fmt.Sprintf(
			"Attempted to add %d additional partition(s), but only %d assignment(s) were specified.", in.Count-have, len(in.Assignment))}
	}
	factor := v.replicaCount(t, t.Partitions[0])
	replicas := make([][]int32, len(in.Assignment))
	for i, a := range in.Assignment {
		if refused := v.checkNewReplicas(have+int32(i), a.Replicas, factor); refused != nil {
			return nil, nil, refused
		}
		replicas[i] = slices.Clone(a.Replicas)
	}
	return t, replicas, nil
}
