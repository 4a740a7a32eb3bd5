package broker

import (
	"fmt"
	"slices"

	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/wal"
)

// checkAssignment checks the brokers of one partition's assignment, in Kafka's order and words.
func (v *view) checkAssignment(replicas []int32) *refusal {
	if len(replicas) == 0 {
		return &refusal{protocol.CodeInvalidReplicaAssignment, "The manual partition assignment includes an empty replica list."}
	}
	sorted := slices.Sorted(slices.Values(replicas))
	for i, id := range sorted {
		if !v.alive(id) {
			return &refusal{protocol.CodeInvalidReplicaAssignment, fmt.Sprintf(
				"The manual partition assignment includes broker %d, but no such broker is registered.", id)}
		}
		if i > 0 && sorted[i-1] == id {
			return &refusal{protocol.CodeInvalidReplicaAssignment, fmt.Sprintf(
				"The manual partition assignment includes the broker %d more than once.", id)}
		}
	}
	return nil
}

// checkNewReplicas checks the assignment of a new partition. factor is how many replicas the topic's others have, 0 if there are none.
func (v *view) checkNewReplicas(partition int32, replicas []int32, factor int) *refusal {
	if refused := v.checkAssignment(replicas); refused != nil {
		return refused
	}
	if factor > 0 && len(replicas) != factor {
		return &refusal{protocol.CodeInvalidReplicaAssignment, fmt.Sprintf(
			"The manual partition assignment includes a partition with %d replica(s), but this is not consistent with previous "+
				"partitions, which have %d replica(s).", len(replicas), factor)}
	}
	if _, ok := v.taker(replicas); !ok {
		return &refusal{protocol.CodeInvalidReplicaAssignment, fmt.Sprintf(
			"All brokers specified in the manual partition assignment for partition %d are fenced or in controlled shutdown.", partition)}
	}
	return nil
}

// taker is the life of the first broker of an assignment that takes partitions. This broker does though etcd may have lost its lease.
func (v *view) taker(replicas []int32) (wal.Life, bool) {
	for _, id := range replicas {
		switch to, registered := v.img.Brokers[id]; {
		case registered && !to.Draining:
			return to.Life, true
		case !registered && id == v.self:
			return v.life, true
		}
	}
	return wal.Life{}, false
}
