package broker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/kafkaconfig"
	"github.com/tidemill/tidemill/metadata"
	"github.com/tidemill/tidemill/protocol"
)

// CreateTopics: v2-7
//
// Each topic by itself (M4). Any replication factor is kept and shown: durability comes from the object store. A manual assignment
// pins the partitions, as a reassignment does (M13). When the answer is sent the partitions take records.
func init() { handle(protocol.KeyCreateTopics, (*Broker).createTopics) }

// newPartitionsMax bounds the partitions of one request, as Kafka does.
const newPartitionsMax = 10000

func (b *Broker) createTopics(c *call, req *kmsg.CreateTopicsRequest) {
	ctx, cancel := adminContext(c.ctx, req.TimeoutMillis)
	defer cancel()
	v := b.view()
	var doubted doubts
	for i := range req.Topics {
		doubted.free(v, req.Topics[i].Topic)
	}
	v = b.catchUp(ctx, doubted)
	resp := req.ResponseKind().(*kmsg.CreateTopicsResponse)
	times := make(map[string]int, len(req.Topics))
	total := 0
	for _, t := range req.Topics {
		times[t.Topic]++
		total += partitionsAsked(v, &t)
	}
	var specs []metadata.TopicSpec
	var at []int // where in the response the answer to specs[i] goes
	for i := range req.Topics {
		t := &req.Topics[i]
		if n := times[t.Topic]; n != 1 {
			if n > 1 {
				resp.Topics = append(resp.Topics, createError(t.Topic, &refusal{protocol.CodeInvalidRequest, "Duplicate topic name."}))
				times[t.Topic] = 0 // answered once
			}
			continue
		}
		if total > newPartitionsMax {
			resp.Topics = append(resp.Topics, createError(t.Topic, &refusal{protocol.CodePolicyViolation,
				"Excessively large number of partitions per request."}))
			continue
		}
		spec, refused := v.topicSpec(t)
		if refused != nil {
			resp.Topics = append(resp.Topics, createError(t.Topic, refused))
			continue
		}
		resp.Topics = append(resp.Topics, createdTopic(v, spec))
		specs, at = append(specs, spec), append(at, len(resp.Topics)-1)
	}
	if !req.ValidateOnly && len(specs) > 0 {
		b.create(ctx, specs, func(i int, r metadata.CreateResult) {
			if r.Err != nil {
				resp.Topics[at[i]] = createError(specs[i].Name, b.createRefusal(specs[i].Name, r.Err))
				return
			}
			resp.Topics[at[i]].TopicID = r.Topic.ID
		})
	}
	c.reply(resp)
}

// create makes topics and opens their partitions before it tells each result.
func (b *Broker) create(ctx context.Context, specs []metadata.TopicSpec, result func(i int, r metadata.CreateResult)) {
	results := b.meta.CreateTopics(ctx, specs, b.placeTopics(specs, nil))
	for attempt := 1; attempt < placeAttempts; attempt++ {
		var again []metadata.TopicSpec
		var at []int // where in results those of again go
		for i, r := range results {
			if errors.Is(r.Err, metadata.ErrStale) {
				again, at = append(again, specs[i]), append(at, i)
			}
		}
		if len(again) == 0 {
			break
		}
		for k, r := range b.meta.CreateTopics(ctx, again, b.placeTopics(again, b.endedLogs(ctx))) {
			results[at[k]] = r
		}
	}
	b.reconcile()
	for i, r := range results {
		result(i, r)
	}
}

// placeAttempts bounds how often a topic is placed because a broker that was to own a partition has ended.
const placeAttempts = 3

// A refusal is an error code with the words for the client.
type refusal struct {
	code    protocol.ErrorCode
	message string
}

// refusalOf turns an error from below into what the client is told.
func refusalOf(err error) *refusal { return &refusal{codeOf(err), err.Error()} }

func (b *Broker) createRefusal(name string, err error) *refusal {
	r := refusalOf(err)
	switch r.code {
	case protocol.CodeTopicAlreadyExists:
		r.message = fmt.Sprintf("Topic '%s' already exists.", name)
	case protocol.CodeInvalidTopicException:
		r = b.view().collides(name)
	}
	return r
}

func (v *view) collides(name string) *refusal {
	return &refusal{protocol.CodeInvalidTopicException,
		fmt.Sprintf("Topic '%s' collides with existing topic: %s", name, v.metricNames()[metricName(name)])}
}

// collision reports whether another topic's name differs in '.' and '_' only (M3).
func (v *view) collision(name string) bool {
	if !strings.ContainsAny(name, "._") {
		return false
	}
	_, taken := v.metricNames()[metricName(name)]
	return taken
}

// metricName is what a topic is called in Kafka's metrics.
func metricName(topic string) string { return strings.ReplaceAll(topic, ".", "_") }

// topicSpec checks one topic of a request (M3, M4, M9).
func (v *view) topicSpec(t *kmsg.CreateTopicsRequestTopic) (metadata.TopicSpec, *refusal) {
	spec := metadata.TopicSpec{
		Name: strings.Clone(t.Topic), Partitions: t.NumPartitions, ReplicationFactor: t.ReplicationFactor,
		Internal: internalTopics[t.Topic], Configs: map[string]string{},
	}
	if err := checkTopicName(t.Topic); err != nil {
		return spec, &refusal{protocol.CodeInvalidTopicException, "Topic name is invalid: " + err.Error()}
	}
	if _, ok := v.img.Topics[t.Topic]; ok {
		return spec, &refusal{protocol.CodeTopicAlreadyExists, fmt.Sprintf("Topic '%s' already exists.", t.Topic)}
	}
	if v.collision(t.Topic) {
		return spec, v.collides(t.Topic)
	}
	for _, c := range t.Configs {
		if c.Value == nil {
			return spec, &refusal{protocol.CodeInvalidConfig, "Null value not supported for topic configs: " + c.Name}
		}
		spec.Configs[strings.Clone(c.Name)] = strings.Clone(*c.Value)
	}
	if err := kafkaconfig.ValidateTopicSet(spec.Configs, v.layers); err != nil {
		return spec, refusalOf(err)
	}
	if len(t.ReplicaAssignment) > 0 {
		return spec, v.assignedSpec(t, &spec)
	}
	switch {
	case spec.Partitions == -1:
		spec.Partitions = v.settings.NumPartitions
	case spec.Partitions < 1:
		return spec, &refusal{protocol.CodeInvalidPartitions, "Number of partitions was set to an invalid non-positive value."}
	}
	switch {
	case spec.ReplicationFactor == -1:
		spec.ReplicationFactor = v.settings.DefaultReplicationFactor
	case spec.ReplicationFactor < 1:
		return spec, &refusal{protocol.CodeInvalidReplicationFactor, "Replication factor was set to an invalid non-positive value."}
	}
	return spec, nil
}

// assignedSpec takes the numbers and the pins from a manual assignment.
func (v *view) assignedSpec(t *kmsg.CreateTopicsRequestTopic, spec *metadata.TopicSpec) *refusal {
	switch {
	case t.ReplicationFactor != -1:
		return &refusal{protocol.CodeInvalidRequest, "A manual partition assignment was specified, but replication factor was not set to -1."}
	case t.NumPartitions != -1:
		return &refusal{protocol.CodeInvalidRequest, "A manual partition assignment was specified, but numPartitions was not set to -1."}
	}
	lists := make(map[int32][]int32, len(t.ReplicaAssignment))
	for _, a := range t.ReplicaAssignment {
		if _, twice := lists[a.Partition]; twice {
			return &refusal{protocol.CodeInvalidReplicaAssignment, fmt.Sprintf("Found multiple manual partition assignments for partition %d", a.Partition)}
		}
		lists[a.Partition] = a.Replicas
	}
	factor := 0
	for i := range int32(len(lists)) {
		replicas, ok := lists[i]
		if !ok {
			return &refusal{protocol.CodeInvalidReplicaAssignment, "partitions should be a consecutive 0-based integer sequence"}
		}
		if refused := v.checkNewReplicas(i, replicas, factor); refused != nil {
			return refused
		}
		factor = len(replicas)
		spec.Replicas = append(spec.Replicas, slices.Clone(replicas))
	}
	spec.Partitions, spec.ReplicationFactor = int32(len(lists)), int16(factor)
	return nil
}

// partitionsAsked is what a topic counts towards newPartitionsMax.
func partitionsAsked(v *view, t *kmsg.CreateTopicsRequestTopic) int {
	switch {
	case len(t.ReplicaAssignment) > 0:
		return len(t.ReplicaAssignment)
	case t.NumPartitions == -1:
		return int(v.settings.NumPartitions)
	}
	return max(int(t.NumPartitions), 0)
}

func createError(name string, r *refusal) kmsg.CreateTopicsResponseTopic {
	out := kmsg.NewCreateTopicsResponseTopic()
	out.Topic, out.ErrorCode, out.ErrorMessage = name, int16(r.code), &r.message
	out.NumPartitions, out.ReplicationFactor = -1, -1
	return out
}

func createdTopic(v *view, spec metadata.TopicSpec) kmsg.CreateTopicsResponseTopic {
	out := kmsg.NewCreateTopicsResponseTopic()
	out.Topic, out.NumPartitions, out.ReplicationFactor = spec.Name, spec.Partitions, spec.ReplicationFactor
	for _, e := range kafkaconfig.DescribeCreated(spec.Configs, v.layers) {
		cfg := kmsg.NewCreateTopicsResponseTopicConfig()
		cfg.Name, cfg.Value, cfg.ReadOnly = e.Name, e.Value, e.ReadOnly
		cfg.Source, cfg.IsSensitive = int8(e.Source), e.Sensitive
		out.Configs = append(out.Configs, cfg)
	}
	return out
}

// adminContext bounds an admin write by the client's patience.
func adminContext(ctx context.Context, timeoutMillis int32) (context.Context, context.CancelFunc) {
	d := time.Duration(timeoutMillis) * time.Millisecond
	if d <= 0 || d > adminTimeout {
		d = adminTimeout
	}
	return context.WithTimeout(ctx, d)
}
