package broker

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/protocol"
)

// DeleteTopics: v1-6
//
// By name or by id (M5). When the answer is sent the topic is unknown; one created again under the name is another topic
// and sees nothing of the old one.
func init() { handle(protocol.KeyDeleteTopics, (*Broker).deleteTopics) }

// topicRef is a topic as a request names it: by id, or by name when the id is zero.
type topicRef struct {
	id   protocol.TopicID
	name string
}

func (b *Broker) deleteTopics(c *call, req *kmsg.DeleteTopicsRequest) {
	ctx, cancel := adminContext(c.ctx, req.TimeoutMillis)
	defer cancel()
	v := b.view()
	resp := req.ResponseKind().(*kmsg.DeleteTopicsResponse)
	for _, name := range req.TopicNames {
		t := kmsg.NewDeleteTopicsRequestTopic()
		t.Topic = kmsg.StringPtr(name)
		req.Topics = append(req.Topics, t)
	}
	// A topic that is named more than once in whatever way is refused, and answered once for each way (3.13 M5).
	times := make(map[protocol.TopicID]int, len(req.Topics))
	for _, t := range req.Topics {
		if found, code := v.deleteRef(t); code == protocol.CodeNone {
			times[found.id]++
		}
	}
	answered := make(map[topicRef]bool, len(req.Topics))
	for _, t := range req.Topics {
		key := topicRef{id: t.TopicID}
		if t.Topic != nil {
			key.name = *t.Topic
		}
		if answered[key] {
			continue
		}
		answered[key] = true
		resp.Topics = append(resp.Topics, b.deleteTopic(ctx, v, t, times))
	}
	c.reply(resp)
}

func (b *Broker) deleteTopic(ctx context.Context, v *view, t kmsg.DeleteTopicsRequestTopic, times map[protocol.TopicID]int) kmsg.DeleteTopicsResponseTopic {
	out := kmsg.NewDeleteTopicsResponseTopic()
	out.Topic, out.TopicID = t.Topic, t.TopicID
	fail := func(code protocol.ErrorCode, message string) kmsg.DeleteTopicsResponseTopic {
		out.ErrorCode, out.ErrorMessage = int16(code), &message
		return out
	}
	found, code := v.deleteRef(t)
	switch {
	case code == protocol.CodeInvalidRequest:
		return fail(code, "You must specify exactly one of the topic name and the topic id.")
	case !v.settings.DeleteTopics:
		return fail(protocol.CodeTopicDeletionDisabled, "Topic deletion is disabled.")
	case code != protocol.CodeNone:
		return fail(code, "This server does not host this topic.")
	case times[found.id] > 1:
		return fail(protocol.CodeInvalidRequest, "Duplicate topic name or id.")
	}
	err := b.meta.DeleteTopic(ctx, found.id)
	b.reconcile()
	if err != nil {
		return fail(codeOf(err), err.Error())
	}
	out.Topic, out.TopicID = &found.name, found.id
	return out
}

// deleteRef finds the topic of one entry, whose name and id must not both be given.
func (v *view) deleteRef(t kmsg.DeleteTopicsRequestTopic) (topicRef, protocol.ErrorCode) {
	byID := t.TopicID != [16]byte{}
	if byID == (t.Topic != nil) {
		return topicRef{}, protocol.CodeInvalidRequest
	}
	name := ""
	if t.Topic != nil {
		name = *t.Topic
	}
	found, code := v.topicByRef(t.TopicID, name)
	if code != protocol.CodeNone {
		return topicRef{}, code
	}
	return topicRef{found.ID, found.Name}, protocol.CodeNone
}
