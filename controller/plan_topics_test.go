package controller

import (
	"testing"

	"github.com/tidemill/tidemill/protocol"
)

// TestNewBrokersGetOfEachTopic: partitions of which nobody knows what they carry are all alike, and still two new brokers get their
// share of each topic, the small one between the large ones too.
func TestNewBrokersGetOfEachTopic(t *testing.T) {
	sizes := map[string]int{"a": 50, "b": 12, "c": 90}
	s := State{Brokers: []Broker{{Life: life(1)}, {Life: life(2)}, {Life: life(3)}}}
	for name, n := range sizes {
		for i := range n {
			id := protocol.PartitionID{Topic: topicID(name), Partition: int32(i)}
			s.Partitions = append(s.Partitions, Partition{ID: id, Owner: life(1)})
		}
	}
	got := map[int32]map[protocol.TopicID]int{2: {}, 3: {}}
	for _, m := range Plan(s, Options{MovesMax: 1000}) {
		got[m.To.Broker][m.ID.Topic]++
	}
	for broker, topics := range got {
		for name, n := range sizes {
			if k := topics[topicID(name)]; k < n/4 || k > n/2 {
				t.Errorf("broker %d gets %d of the %d partitions of topic %s", broker, k, n, name)
			}
		}
	}
}
