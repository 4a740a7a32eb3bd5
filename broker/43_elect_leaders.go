package broker

import (
	"context"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/metadata"
	"github.com/tidemill/tidemill/protocol"
)

// ElectLeaders: v0-2
//
// A preferred election brings a partition back to the broker that an operator has assigned it to first, and is answered when it is
// there. What nobody has assigned is at home where it is (M13).
//
// Nothing unclean exists: every record that was acknowledged is in the object store, so no broker could lead with less than all of
// it. Of a partition whose owner is dead an unclean election says ELIGIBLE_LEADERS_NOT_AVAILABLE, which Kafka's tool prints with
// the message and counts as an error; ELECTION_NOT_NEEDED would tell an operator that all is well. The controller assigns
// the partition by itself once its owner's log is sealed.
func init() { handle(protocol.KeyElectLeaders, (*Broker).electLeaders) }

// Election types.
const (
	preferredElection = 0
	uncleanElection   = 1
)

func (b *Broker) electLeaders(c *call, req *kmsg.ElectLeadersRequest) {
	ctx, cancel := adminContext(c.ctx, req.TimeoutMillis)
	defer cancel()
	v := b.view()
	resp := req.ResponseKind().(*kmsg.ElectLeadersResponse)
	e := election{kind: req.ElectionType, moves: map[protocol.PartitionID]*change{}}
	if e.kind < preferredElection || e.kind > uncleanElection {
		e.unknownType = &refusal{protocol.CodeInvalidRequest, fmt.Sprintf("Unknown election type %d", req.ElectionType)}
		resp.ErrorCode = int16(e.unknownType.code)
	}
	if req.Topics == nil {
		req.Topics = e.needed(v)
	}
	v = b.catchUp(ctx, v.unelectable(req.Topics))
	outcomes := make([][]*refusal, len(req.Topics))
	changes := make([][]*change, len(req.Topics))
	for i, t := range req.Topics {
		outcomes[i], changes[i] = make([]*refusal, len(t.Partitions)), make([]*change, len(t.Partitions))
		for k, p := range t.Partitions {
			outcomes[i][k], changes[i][k] = e.partition(v, t.Topic, p)
		}
	}
	b.carryOut(ctx, e.all)
	for i, t := range req.Topics {
		out := kmsg.NewElectLeadersResponseTopic()
		out.Topic = t.Topic
		for k, p := range t.Partitions {
			q := kmsg.NewElectLeadersResponseTopicPartition()
			q.Partition = p
			refused := outcomes[i][k]
			if change := changes[i][k]; change != nil {
				refused = change.refused
			}
			if refused != nil {
				q.ErrorCode, q.ErrorMessage = int16(refused.code), &refused.message
			}
			out.Partitions = append(out.Partitions, q)
		}
		resp.Topics = append(resp.Topics, out)
	}
	c.reply(resp)
}

// unelectable doubts that what the image does not know is not there.
func (v *view) unelectable(topics []kmsg.ElectLeadersRequestTopic) (d doubts) {
	for _, t := range topics {
		d.known(v, t.Topic)
		if len(t.Partitions) > 0 {
			d.reaches(v, t.Topic, slices.Max(t.Partitions))
		}
	}
	return d
}

// An election is one request.
type election struct {
	kind        int8
	unknownType *refusal
	// moves are what is to be done, each partition once; all has them in order.
	moves map[protocol.PartitionID]*change
	all   []*change
	// strangers counts what does not exist.
	strangers int
}

// unknown refuses what does not exist. Kafka names it each time; here an answer that repeats a name of 32 KiB for each of a million
// partitions does not (D10).
func (e *election) unknown(name, message string) *refusal {
	if e.strangers++; e.strangers <= newPartitionsMax && len(name) <= 2*topicNameMax {
		return &refusal{protocol.CodeUnknownTopicOrPartition, message + name}
	}
	return unnamed
}

var unnamed = &refusal{protocol.CodeUnknownTopicOrPartition, "No such topic or partition."}

// needed names the partitions that are not led as they should be: what a request for all is answered for.
func (e *election) needed(v *view) []kmsg.ElectLeadersRequestTopic {
	var topics []kmsg.ElectLeadersRequestTopic
	if e.unknownType != nil {
		return nil
	}
	for _, name := range v.topicNames() {
		t := v.img.Topics[name]
		in := kmsg.NewElectLeadersRequestTopic()
		in.Topic = name
		for i := range t.Partitions {
			id := protocol.PartitionID{Topic: t.ID, Partition: int32(i)}
			if _, refused := e.elect(v, t, id); refused == nil || refused.code != protocol.CodeElectionNotNeeded {
				in.Partitions = append(in.Partitions, int32(i))
			}
		}
		if len(in.Partitions) > 0 {
			topics = append(topics, in)
		}
	}
	return topics
}

// partition says what to answer for one partition, or what is to be done for it.
func (e *election) partition(v *view, topic string, p int32) (*refusal, *change) {
	if e.unknownType != nil {
		return e.unknownType, nil
	}
	t, code := v.topicByRef(protocol.TopicID{}, topic)
	switch {
	case code != protocol.CodeNone:
		return e.unknown(topic, "No such topic as "), nil
	case p < 0 || int(p) >= len(t.Partitions):
		return e.unknown(fmt.Sprintf("%s-%d", topic, p), "No such partition as "), nil
	}
	id := protocol.PartitionID{Topic: t.ID, Partition: p}
	if _, refused := e.elect(v, t, id); refused != nil {
		return refused, nil
	}
	if e.moves[id] == nil {
		e.moves[id] = &change{topic: topic, partition: p, decide: e.elect}
		e.all = append(e.all, e.moves[id])
	}
	return nil, e.moves[id]
}

// electionNotNeeded is shared by all: a request may name a partition a million times.
var electionNotNeeded = &refusal{protocol.CodeElectionNotNeeded, "Leader election not needed for topic partition."}

// elect decides for one partition.
func (e *election) elect(v *view, t *metadata.Topic, id protocol.PartitionID) (metadata.Reassignment, *refusal) {
	p := t.Partitions[id.Partition]
	_, led := v.leader(p)
	home := p.Owner.Broker
	if p.Pin != nil {
		home = p.Pin.Replicas[0]
	}
	switch {
	case led == protocol.CodeNone && (e.kind == uncleanElection || home == p.Owner.Broker):
		return metadata.Reassignment{}, electionNotNeeded
	case e.kind == uncleanElection:
		return metadata.Reassignment{}, &refusal{protocol.CodeEligibleLeadersNotAvailable, "Eligible topic partition leaders are not available. " +
			"No election is unclean here: the data is in the object store, and the partition is assigned when its owner's log is sealed."}
	}
	to, alive := v.img.Brokers[home]
	if !alive || to.Draining || to.Life == p.Owner {
		return metadata.Reassignment{}, &refusal{protocol.CodePreferredLeaderNotAvailable, "The preferred leader was not available."}
	}
	return metadata.Reassignment{ID: id, To: to.Life, Was: p}, nil
}

// carryOut writes what elections decided and waits until it is done.
func (b *Broker) carryOut(ctx context.Context, changes []*change) {
	b.reassign(ctx, changes)
	for _, c := range changes {
		if c.refused == nil {
			c.refused = b.awaitOwner(ctx, c.wrote)
		}
	}
}

// awaitOwner waits until a partition is where a reassignment sends it, and says why it is not.
func (b *Broker) awaitOwner(ctx context.Context, r metadata.Reassignment) *refusal {
	for {
		img := b.meta.Image()
		t, ok := img.TopicsByID[r.ID.Topic]
		if !ok || int(r.ID.Partition) >= len(t.Partitions) {
			return &refusal{protocol.CodeUnknownTopicOrPartition, "The topic was deleted."}
		}
		switch p := t.Partitions[r.ID.Partition]; {
		case p.Owner == r.To:
			return nil
		case p.Target != r.To:
			return &refusal{protocol.CodePreferredLeaderNotAvailable, "The preferred leader was not available."}
		}
		select {
		case <-img.Changed():
		case <-ctx.Done():
			return &refusal{protocol.CodeRequestTimedOut, "The request timed out."}
		}
	}
}
