package broker

import (
	"context"
	"errors"

	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/sync/errgroup"

	"github.com/tidemill/tidemill/metadata"
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
	resp := req.ResponseKind().(*kmsg.DeleteTopicsResponse)
	for _, name := range req.TopicNames {
		t := kmsg.NewDeleteTopicsRequestTopic()
		t.Topic = kmsg.StringPtr(name)
		req.Topics = append(req.Topics, t)
	}
	v := b.catchUp(ctx, b.view().undeletable(req.Topics))
	// A topic that is named more than once in whatever way is refused, and answered once for each way (3.13 M5).
	times := make(map[protocol.TopicID]int, len(req.Topics))
	for _, t := range req.Topics {
		if found, code := v.deleteRef(t); code == protocol.CodeNone {
			times[found.id]++
		}
	}
	answered := make(map[topicRef]bool, len(req.Topics))
	var deletions []deletion
	for _, t := range req.Topics {
		key := topicRef{id: t.TopicID}
		if t.Topic != nil {
			key.name = *t.Topic
		}
		if answered[key] {
			continue
		}
		answered[key] = true
		found, refused := v.deletable(t, times)
		if refused == nil {
			deletions = append(deletions, deletion{at: len(resp.Topics), topic: found, byName: t.Topic != nil})
		}
		resp.Topics = append(resp.Topics, deletedTopic(t.Topic, t.TopicID, refused))
	}
	b.deleteAll(ctx, deletions, resp.Topics)
	c.reply(resp)
}

// A deletion is a topic that goes, and where the answer says so.
type deletion struct {
	at     int
	topic  topicRef
	byName bool
}

// deletionsMax bounds the topics of one request that are being deleted at a time: each is some writes to etcd, one after
// the other, and what the broker makes of a change it makes of all that came meanwhile.
const deletionsMax = 16

func (b *Broker) deleteAll(ctx context.Context, deletions []deletion, answers []kmsg.DeleteTopicsResponseTopic) {
	if len(deletions) == 0 {
		return
	}
	var g errgroup.Group
	g.SetLimit(deletionsMax)
	for _, d := range deletions {
		g.Go(func() error {
			err := b.meta.DeleteTopic(ctx, d.topic.id)
			if errors.Is(err, metadata.ErrUnknownTopic) && d.byName { // another topic may have the name
				v := b.catchUp(ctx, doubts{{Name: d.topic.name}})
				if t, ok := v.img.Topics[d.topic.name]; ok {
					d.topic.id, err = t.ID, b.meta.DeleteTopic(ctx, t.ID)
				}
			}
			var refused *refusal
			if err != nil {
				refused = refusalOf(err)
			}
			answers[d.at] = deletedTopic(&d.topic.name, d.topic.id, refused)
			return nil
		})
	}
	_ = g.Wait() // each has its own answer
	b.reconcile()
}

func deletedTopic(name *string, id protocol.TopicID, refused *refusal) kmsg.DeleteTopicsResponseTopic {
	out := kmsg.NewDeleteTopicsResponseTopic()
	out.Topic, out.TopicID = name, id
	if refused != nil {
		out.ErrorCode, out.ErrorMessage = int16(refused.code), &refused.message
	}
	return out
}

// undeletable doubts that topics which the image does not know are not there.
func (v *view) undeletable(topics []kmsg.DeleteTopicsRequestTopic) (d doubts) {
	for _, t := range topics {
		switch _, code := v.deleteRef(t); code {
		case protocol.CodeUnknownTopicID:
			d.add(metadata.TopicRef{ID: t.TopicID})
		case protocol.CodeUnknownTopicOrPartition:
			d.known(v, *t.Topic)
		}
	}
	return d
}

// deletable finds the topic of one entry, or says why it stays.
func (v *view) deletable(t kmsg.DeleteTopicsRequestTopic, times map[protocol.TopicID]int) (topicRef, *refusal) {
	found, code := v.deleteRef(t)
	switch {
	case code == protocol.CodeInvalidRequest:
		return found, &refusal{code, "You must specify exactly one of the topic name and the topic id."}
	case !v.settings.DeleteTopics:
		return found, &refusal{protocol.CodeTopicDeletionDisabled, "Topic deletion is disabled."}
	case code != protocol.CodeNone:
		return found, &refusal{code, "This server does not host this topic."}
	case times[found.id] > 1:
		return found, &refusal{protocol.CodeInvalidRequest, "Duplicate topic name or id."}
	}
	return found, nil
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
