package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/tidemill/tidemill/metadata"
)

const (
	offsetsTopic = "__consumer_offsets"
	// adminTimeout bounds an admin write whose request gives no sensible timeout; clients default to 30 s.
	adminTimeout = 30 * time.Second
	// autoCreatingMax bounds topics being created on behalf of Metadata requests; what is beyond it is asked for again.
	autoCreatingMax = 64
	// topicNameMax is the length of the longest names of topics.
	topicNameMax = 249
)

// internalTopics are the names that belong to Kafka itself.
var internalTopics = map[string]bool{offsetsTopic: true, "__transaction_state": true, "__share_group_state": true}

// checkTopicName returns why a name is not a topic's, in Kafka's words (M3).
func checkTopicName(name string) error {
	switch {
	case name == "":
		return errors.New("the empty string is not allowed")
	case name == "." || name == "..":
		return fmt.Errorf("'%s' is not allowed", name)
	case len(name) > topicNameMax:
		return fmt.Errorf("the length of '%s' is longer than the max allowed length 249", name)
	}
	for _, r := range name {
		if !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '_' || r == '-') {
			return fmt.Errorf("'%s' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'", name)
		}
	}
	return nil
}

// topicNumbers numbers the names in a request. What is looked up for each partition has the number for its key: a name of
// 32 KiB with a million partitions is hashed once (D10).
type topicNumbers map[string]int

func (n topicNumbers) of(name string) int {
	i, ok := n[name]
	if !ok {
		i = len(n)
		n[name] = i
	}
	return i
}

// autoCreate creates a topic with the broker's defaults beside the request that named it (M1, M2).
func (b *Broker) autoCreate(name string) {
	name = strings.Clone(name) // the request's frame does not outlive it
	b.creating.Lock()
	if b.creating.topics[name] || len(b.creating.topics) >= autoCreatingMax {
		b.creating.Unlock()
		return
	}
	b.creating.topics[name] = true
	b.creating.Unlock()
	b.background.Go(func() {
		ctx, cancel := context.WithTimeout(b.ctx, adminTimeout)
		defer cancel()
		if err := b.createTopic(ctx, b.autoSpec(name)); err != nil && !errors.Is(err, metadata.ErrTopicExists) {
			b.log.Warn("topic was not created on demand", slog.String("topic", name), slog.Any("error", err))
		}
		b.creating.Lock()
		delete(b.creating.topics, name)
		b.creating.Unlock()
	})
}

// autoSpec describes a topic created on demand. Internal topics have Kafka's shape.
func (b *Broker) autoSpec(name string) metadata.TopicSpec {
	settings := b.view().settings
	spec := metadata.TopicSpec{
		Name: name, Partitions: settings.NumPartitions, ReplicationFactor: settings.DefaultReplicationFactor,
		Internal: internalTopics[name],
	}
	if name == offsetsTopic {
		spec.Partitions = settings.OffsetsPartitions
		spec.Configs = map[string]string{
			"cleanup.policy": "compact", "compression.type": "producer", "segment.bytes": strconv.FormatInt(settings.OffsetsSegment, 10),
		}
	}
	return spec
}

// createTopic creates one topic and opens its partitions.
func (b *Broker) createTopic(ctx context.Context, spec metadata.TopicSpec) (err error) {
	b.create(ctx, []metadata.TopicSpec{spec}, func(_ int, r metadata.CreateResult) { err = r.Err })
	return err
}

// ensureOffsetsTopic creates __consumer_offsets when the first group needs it. Many groups ask at once when a cluster is new: one request
// creates it, whether or not its client waits, and the others wait for that.
func (b *Broker) ensureOffsetsTopic(ctx context.Context) (*metadata.Topic, error) {
	if t, ok := b.view().img.Topics[offsetsTopic]; ok {
		return t, nil
	}
	made := make(chan error, 1)
	b.background.Go(func() {
		_, err, _ := b.creatingOffsets.Do("", func() (any, error) { return nil, b.createOffsetsTopic() })
		made <- err
	})
	var err error
	select {
	case err = <-made:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if t, ok := b.view().img.Topics[offsetsTopic]; ok {
		return t, nil
	}
	return nil, err
}

// createOffsetsTopic creates __consumer_offsets, if no other has, and returns when the image shows it.
func (b *Broker) createOffsetsTopic() error {
	if _, ok := b.view().img.Topics[offsetsTopic]; ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(b.ctx, adminTimeout)
	defer cancel()
	err := b.createTopic(ctx, b.autoSpec(offsetsTopic))
	if errors.Is(err, metadata.ErrTopicExists) {
		b.catchUp(ctx, doubts{{Name: offsetsTopic}})
	}
	return err
}

// reconcile opens the logs of partitions that are new to this life, drops those of deleted topics and loads the shards
// of the group coordinator. It is called after every change of the image, and by whoever made the change before it is
// answered; callers may overlap.
func (b *Broker) reconcile() {
	b.known.Lock()
	defer b.known.Unlock()
	v := b.view()
	img := v.img
	if b.known.img == img {
		return
	}
	for id, old := range b.known.topics {
		if _, ok := img.TopicsByID[id]; !ok {
			b.forget(old)
			delete(b.known.topics, id)
		}
	}
	for id, t := range img.TopicsByID {
		changed := b.known.topics[id] != t
		if changed { // new, more partitions, other owners or settings
			b.adopt(t)
			b.known.topics[id] = t
		}
		if changed || !sameConfigs(b.known.img, img) {
			b.setPolicy(t, policyOf(v.logConfig(t)))
		}
	}
	b.known.img = img
}
