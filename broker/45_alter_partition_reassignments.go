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

// AlterPartitionReassignments: v0-1
//
// In Kafka a reassignment sets the brokers that hold copies. Here the object store holds the data: the list is kept and shown, the
// first broker of it that is alive and not draining is to own the partition, and balance leaves it there (P7). Any broker takes the
// request. It is answered when the intent is written; the partition moves within a second or so, and until then the reassignment is
// listed and can be cancelled, which also takes back that the partition is pinned.
func init() {
	handle(protocol.KeyAlterPartitionReassignments, (*Broker).alterPartitionReassignments)
}

// reassignAttempts bounds how often a reassignment is decided anew because its partition has moved meanwhile.
const reassignAttempts = 5

func (b *Broker) alterPartitionReassignments(c *call, req *kmsg.AlterPartitionAssignmentsRequest) {
	ctx, cancel := adminContext(c.ctx, req.TimeoutMillis)
	defer cancel()
	resp := req.ResponseKind().(*kmsg.AlterPartitionAssignmentsResponse)
	mayResize := req.Version == 0 || req.AllowReplicationFactorChange
	resp.AllowReplicationFactorChange = mayResize
	asked := 0
	for _, t := range req.Topics {
		asked += len(t.Partitions)
	}
	if asked > newPartitionsMax { // Kafka's controller writes as many records at once, and counts only what changes anything
		message := "Unable to perform excessively large batch operation."
		resp.ErrorCode, resp.ErrorMessage = int16(protocol.CodePolicyViolation), &message
		c.reply(resp)
		return
	}
	changes := make([]*change, 0, asked)
	for _, t := range req.Topics {
		for _, p := range t.Partitions {
			changes = append(changes, &change{topic: t.Topic, partition: p.Partition, decide: func(v *view, t *metadata.Topic, id protocol.PartitionID) (metadata.Reassignment, *refusal) {
				return v.reassignment(t, id, p.Replicas, mayResize)
			}})
		}
	}
	b.catchUp(ctx, b.view().unreachable(changes))
	b.reassign(ctx, changes)
	for _, t := range req.Topics {
		out := kmsg.NewAlterPartitionAssignmentsResponseTopic()
		out.Topic = t.Topic
		for _, p := range t.Partitions {
			q := kmsg.NewAlterPartitionAssignmentsResponseTopicPartition()
			q.Partition = p.Partition
			if r := changes[0].refused; r != nil {
				q.ErrorCode, q.ErrorMessage = int16(r.code), &r.message
				if r.message == "" {
					q.ErrorMessage = nil
				}
			}
			out.Partitions = append(out.Partitions, q)
			changes = changes[1:]
		}
		resp.Topics = append(resp.Topics, out)
	}
	c.reply(resp)
}

// unreachable doubts that what the image does not know is not there.
func (v *view) unreachable(changes []*change) (d doubts) {
	for _, c := range changes {
		d.known(v, c.topic)
		d.reaches(v, c.topic, c.partition)
	}
	return d
}

// A change is one partition that an operator wants elsewhere.
type change struct {
	topic     string
	partition int32
	// decide says what to write, by the newest image. It may be asked again.
	decide  func(v *view, t *metadata.Topic, id protocol.PartitionID) (metadata.Reassignment, *refusal)
	settled bool
	refused *refusal // why nothing was written
	// wrote is what was written, unless refused.
	wrote metadata.Reassignment
}

// reassign writes changes. Of those of one partition the last counts, as in Kafka.
func (b *Broker) reassign(ctx context.Context, changes []*change) {
	for range reassignAttempts {
		list, at := decideChanges(b.view(), changes)
		if len(list) == 0 {
			return
		}
		outcomes := b.meta.Reassign(ctx, list)
		for i, of := range at {
			for _, c := range of {
				c.wrote, c.settled, c.refused = list[i], !errors.Is(outcomes[i], metadata.ErrStale), nil
				if outcomes[i] != nil {
					c.refused = refusalOf(outcomes[i])
				}
			}
		}
	}
}

// decideChanges returns what is to be written now, and the changes that each part of it is for.
func decideChanges(v *view, changes []*change) (list []metadata.Reassignment, at [][]*change) {
	index := map[protocol.PartitionID]int{}
	for _, c := range changes {
		if c.settled {
			continue
		}
		t, id, refused := v.partitionToChange(c.topic, c.partition)
		var r metadata.Reassignment
		if refused == nil {
			r, refused = c.decide(v, t, id)
		}
		if refused != nil {
			c.settled, c.refused = true, refused
			continue
		}
		i, twice := index[id]
		if !twice {
			i = len(list)
			index[id] = i
			list, at = append(list, r), append(at, nil)
		}
		list[i], at[i] = r, append(at[i], c)
	}
	return list, at
}

func (v *view) partitionToChange(topic string, partition int32) (*metadata.Topic, protocol.PartitionID, *refusal) {
	if len(topic) > topicNameMax {
		return nil, protocol.PartitionID{}, &refusal{protocol.CodeUnknownTopicOrPartition, "Unable to find a topic of so long a name."}
	}
	t, ok := v.img.Topics[topic]
	if !ok {
		return nil, protocol.PartitionID{}, &refusal{protocol.CodeUnknownTopicOrPartition, "Unable to find a topic named " + topic + "."}
	}
	if partition < 0 || int(partition) >= len(t.Partitions) {
		return nil, protocol.PartitionID{}, &refusal{protocol.CodeUnknownTopicOrPartition, fmt.Sprintf("Unable to find partition %s:%d.", topic, partition)}
	}
	return t, protocol.PartitionID{Topic: t.ID, Partition: partition}, nil
}

// reassignment decides what a list of replicas means for a partition; null cancels.
func (v *view) reassignment(t *metadata.Topic, id protocol.PartitionID, replicas []int32, mayResize bool) (metadata.Reassignment, *refusal) {
	was := t.Partitions[id.Partition]
	if replicas == nil {
		if !onItsWay(was) {
			return metadata.Reassignment{}, &refusal{protocol.CodeNoReassignmentInProgress, ""}
		}
		return metadata.Cancelled(id, was), nil
	}
	if refused := v.checkAssignment(replicas); refused != nil {
		return metadata.Reassignment{}, refused
	}
	if n := v.replicaCount(t, was); !mayResize && len(replicas) != n {
		return metadata.Reassignment{}, &refusal{protocol.CodeInvalidReplicationFactor, fmt.Sprintf(
			"The replication factor is changed from %d to %d", n, len(replicas))}
	}
	if to, ok := v.taker(replicas); ok {
		return metadata.Reassignment{ID: id, To: to, Was: was, Pin: metadata.PinIsSet, Replicas: slices.Clone(replicas)}, nil
	}
	return metadata.Reassignment{}, &refusal{protocol.CodeInvalidReplicaAssignment,
		"The manual partition assignment includes no broker that takes partitions: all of them are draining."}
}

// replicaCount is how many replicas a partition shows when it is not on its way.
func (v *view) replicaCount(t *metadata.Topic, p metadata.Partition) int {
	if p.Pin != nil {
		return len(p.Pin.Replicas)
	}
	leader, _ := v.leader(p)
	return len(v.replicas(p, leader, t.ReplicationFactor))
}

// onItsWay reports whether an intent sends a partition to another life.
func onItsWay(p metadata.Partition) bool { return !p.Target.IsZero() && p.Target != p.Owner }
