package broker

import (
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
