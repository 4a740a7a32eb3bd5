package broker

import (
	"context"
	"errors"
	"log/slog"
	"slices"

	"github.com/tidemill/tidemill/metadata"
)

// In Kafka one controller takes all admin requests, so that each sees what those before it did. Here any broker takes them, and its image
// may be some milliseconds behind what another has acknowledged. What an image says yes to is compared when it is written; before it
// makes a broker say no, etcd is asked.

// doubts are the topics for which an image makes a request fail. Those beyond what one read of etcd takes are left to the image.
type doubts []metadata.TopicRef

func (d *doubts) add(t metadata.TopicRef) {
	if len(*d) < metadata.CatchUpMax && !slices.Contains(*d, t) {
		*d = append(*d, t)
	}
}

// known doubts that a name which is none of the image's topics is none at all.
func (d *doubts) known(v *view, name string) {
	if checkTopicName(name) != nil {
		return
	}
	if _, ok := v.img.Topics[name]; !ok {
		d.add(metadata.TopicRef{Name: name})
	}
}

// reaches doubts that a topic has no partition of an index.
func (d *doubts) reaches(v *view, name string, partition int32) {
	if len(name) > topicNameMax {
		return // not worth the hashing
	}
	if t, ok := v.img.Topics[name]; ok && int(partition) >= len(t.Partitions) {
		d.add(metadata.TopicRef{ID: t.ID})
	}
}

// free doubts that a name is taken.
func (d *doubts) free(v *view, name string) {
	if checkTopicName(name) != nil {
		return
	}
	if _, taken := v.img.Topics[name]; taken {
		d.add(metadata.TopicRef{Name: name})
	} else if v.collision(name) {
		d.add(metadata.TopicRef{Name: v.metricNames()[metricName(name)]})
	}
}

// mayBeOld doubts what a write found changed: the topic, or which topic has the name.
func mayBeOld(t *metadata.Topic, err error) (d doubts) {
	if errors.Is(err, metadata.ErrStale) || errors.Is(err, metadata.ErrUnknownTopic) {
		d = doubts{{ID: t.ID}, {Name: t.Name}}
	}
	return d
}

// catchUp returns a view that is as new as etcd for the topics that are doubted, or the newest there is when etcd does not tell.
func (b *Broker) catchUp(ctx context.Context, d doubts) *view {
	if len(d) > 0 {
		ctx, cancel := context.WithTimeout(ctx, askTimeout)
		defer cancel()
		if err := b.meta.CatchUp(ctx, d); err != nil {
			b.log.Debug("topics are unknown and etcd does not answer", slog.Any("error", err))
		}
	}
	return b.view()
}
