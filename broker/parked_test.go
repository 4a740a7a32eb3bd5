package broker

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/protocol"
)

// TestParkedFetchHoldsNoBudget parks a fetch whose frame takes all that admits requests: others must go on (D11).
func TestParkedFetchHoldsNoBudget(t *testing.T) {
	b := startBroker(t, "--memory", "64MiB")
	c := dial(t, b.kafka)
	c.createTopic("t", 1)
	for offset, epoch := range []int32{finalEpoch, initialEpoch} {
		parked := dial(t, b.kafka)
		parked.send(kmsg.NewPtrApiVersionsRequest()) // later frames may be large
		if _, _, err := parked.receive(); err != nil {
			t.Fatal(err)
		}
		req := fetchRequest(11, "t", protocol.TopicID{}, 0, int64(offset))
		req.MaxWaitMillis, req.MinBytes, req.SessionEpoch = 60_000, 1, epoch
		one := req.Topics[0].Partitions[0]
		for range 130_000 {
			req.Topics[0].Partitions = append(req.Topics[0].Partitions, one)
		}
		corr := parked.send(req)
		ask[*kmsg.MetadataResponse](c, kmsg.NewPtrMetadataRequest())

		c.produce("t", 0, batchOf("wake"))
		resp := answer[*kmsg.FetchResponse](parked, req, corr)
		if got := resp.Topics[0]; got.Topic != "t" || len(got.Partitions) != 1 || len(got.Partitions[0].RecordBatches) == 0 {
			t.Errorf("the parked fetch was answered for %q with %d partitions, want t with the record", got.Topic, len(got.Partitions))
		}
	}
}

// TestParkedFetchHoldsNoMemory parks a fetch of 40 MiB: what its budget does not count any more must be garbage (D11).
func TestParkedFetchHoldsNoMemory(t *testing.T) {
	b := startBroker(t, "--memory", "1GiB")
	c := dial(t, b.kafka)
	c.createTopic("t", 1)
	for _, epoch := range []int32{finalEpoch, initialEpoch} {
		parked := dial(t, b.kafka).warm()
		heap := func() uint64 {
			runtime.GC()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			return m.HeapAlloc
		}
		most := heap() + 20<<20
		req := fetchRequest(12, "t", protocol.TopicID{}, 0, 0)
		req.MaxWaitMillis, req.MinBytes, req.SessionEpoch, req.Rack = 60_000, 1, epoch, strings.Repeat("r", 40<<20)
		parked.send(req)
		waitFor(t, "the memory to be given back", func() bool { return heap() < most })
	}
}

// TestParkedJoinsHoldNoBudget parks joins whose frames take all that admits requests: others must go on (D11).
func TestParkedJoinsHoldNoBudget(t *testing.T) {
	b := startBroker(t, "--memory", "64MiB", "--kafka", "group.initial.rebalance.delay.ms=0")
	c := dial(t, b.kafka).warm()
	c.createTopic("t", 1)
	for i := range 3 {
		group := fmt.Sprint("g", i)
		commitMetadata(t, b, group, "t", "") // its coordinator is there
		wantCode(t, group, ask[*kmsg.JoinGroupResponse](c, joinRequest(group, "")).ErrorCode, protocol.CodeNone)
		req := joinRequest(group, "") // waits for the first member
		req.Protocols[0].Metadata = make([]byte, 1_000_000)
		dial(t, b.kafka).warm().send(req)
	}
	describe := kmsg.NewPtrDescribeGroupsRequest()
	describe.Groups = []string{"g0", "g1", "g2"}
	waitFor(t, "the joins to be parked", func() bool {
		for _, g := range ask[*kmsg.DescribeGroupsResponse](c, describe).Groups {
			if g.State != "PreparingRebalance" {
				return false
			}
		}
		return true
	})
	req := joinRequest("g0", "")
	req.Protocols[0].Metadata = make([]byte, 2_000_000)
	wantCode(t, "a large join beside them", ask[*kmsg.JoinGroupResponse](c, req).ErrorCode, protocol.CodeGroupMaxSizeReached)
}
