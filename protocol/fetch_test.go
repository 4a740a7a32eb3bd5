package protocol

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// toKmsg says the same in kmsg's types.
func toKmsg(r *FetchResponse, version int16) *kmsg.FetchResponse {
	k := kmsg.NewPtrFetchResponse()
	k.Version, k.ThrottleMillis, k.ErrorCode, k.SessionID = version, r.ThrottleMillis, int16(r.ErrorCode), r.SessionID
	for _, t := range r.Topics {
		kt := kmsg.NewFetchResponseTopic()
		kt.Topic, kt.TopicID = t.Name, t.ID
		for _, p := range t.Partitions {
			kp := kmsg.NewFetchResponseTopicPartition()
			kp.Partition, kp.ErrorCode = p.Partition, int16(p.ErrorCode)
			kp.HighWatermark, kp.LastStableOffset, kp.LogStartOffset = p.HighWatermark, p.LastStableOffset, p.LogStartOffset
			kp.DivergingEpoch.Epoch, kp.DivergingEpoch.EndOffset = p.DivergingEpoch.Epoch, p.DivergingEpoch.EndOffset
			kp.CurrentLeader.LeaderID, kp.CurrentLeader.LeaderEpoch = p.CurrentLeader.LeaderID, p.CurrentLeader.LeaderEpoch
			kp.PreferredReadReplica = p.PreferredReadReplica
			if p.AbortedTransactions != nil {
				kp.AbortedTransactions = []kmsg.FetchResponseTopicPartitionAbortedTransaction{}
			}
			for _, a := range p.AbortedTransactions {
				ka := kmsg.NewFetchResponseTopicPartitionAbortedTransaction()
				ka.ProducerID, ka.FirstOffset = a.ProducerID, a.FirstOffset
				kp.AbortedTransactions = append(kp.AbortedTransactions, ka)
			}
			kp.RecordBatches = append([]byte{}, bytes.Join(p.Batches, nil)...)
			kt.Partitions = append(kt.Partitions, kp)
		}
		k.Topics = append(k.Topics, kt)
	}
	if version >= 16 {
		for _, n := range r.NodeEndpoints {
			kb := kmsg.NewFetchResponseBroker()
			kb.NodeID, kb.Host, kb.Port = n.NodeID, n.Host, n.Port
			if n.Rack != "" {
				kb.Rack = &n.Rack
			}
			k.Brokers = append(k.Brokers, kb)
		}
	}
	return k
}

func fetchResponses() map[string]*FetchResponse {
	moved := NewFetchPartition(1)
	moved.ErrorCode = CodeNotLeaderOrFollower
	moved.CurrentLeader = LeaderEpoch{LeaderID: 3, LeaderEpoch: 9}
	diverged := NewFetchPartition(2)
	diverged.DivergingEpoch = EpochEnd{Epoch: 4, EndOffset: 77}
	diverged.CurrentLeader = LeaderEpoch{LeaderID: 0, LeaderEpoch: 0}
	data := NewFetchPartition(0)
	data.HighWatermark, data.LastStableOffset, data.LogStartOffset = 300, 290, 7
	data.Batches = [][]byte{[]byte("first batch"), bytes.Repeat([]byte("x"), 300)}
	txn := NewFetchPartition(5)
	txn.AbortedTransactions = []AbortedTransaction{{ProducerID: 1, FirstOffset: 2}, {ProducerID: 3, FirstOffset: 4}}
	txn.Batches = [][]byte{[]byte("b")}
	none := NewFetchPartition(6)
	none.AbortedTransactions = []AbortedTransaction{}
	return map[string]*FetchResponse{
		"empty": {ThrottleMillis: 5, ErrorCode: CodeFetchSessionIDNotFound, SessionID: 12},
		"data":  {Topics: []FetchTopic{{Name: "t", ID: TopicID{1}, Partitions: []FetchPartition{data, none}}}},
		"all": {
			Topics: []FetchTopic{
				{Name: "t", ID: TopicID{1}, Partitions: []FetchPartition{data, moved, diverged}},
				{Name: "no-partitions", ID: TopicID{2}},
				{Name: "u", ID: TopicID{3}, Partitions: []FetchPartition{txn, data, none}},
			},
			NodeEndpoints: []NodeEndpoint{{NodeID: 3, Host: "broker-3", Port: 9092, Rack: "a"}, {NodeID: 4, Host: "h", Port: 1}},
		},
	}
}

func TestFetchResponseMatchesKmsg(t *testing.T) {
	for name, r := range fetchResponses() {
		for version := int16(4); version <= 16; version++ {
			t.Run(fmt.Sprintf("%s/v%d", name, version), func(t *testing.T) {
				got := bytes.Join(r.Encode(42, version), nil)
				want := EncodeResponse(42, toKmsg(r, version))
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("frame differs (-kmsg +ours):\n%s", diff)
				}
			})
		}
	}
}

func TestFetchResponseSharesBatches(t *testing.T) {
	r := fetchResponses()["data"]
	batch := r.Topics[0].Partitions[0].Batches[1]
	for _, b := range r.Encode(1, 16) {
		if len(b) == len(batch) && &b[0] == &batch[0] {
			return
		}
	}
	t.Error("the batch was copied")
}
