package broker

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/protocol"
)

// TestManySmallBatches acknowledges many one-record batches, ends the broker and starts it again: the start reads
// manifests and a bounded tail, not the history. TIDEMILL_BATCHES=1000000 makes it the size that the design speaks of.
func TestManySmallBatches(t *testing.T) {
	batches := 20_000
	if testing.Short() {
		batches = 2_000
	}
	if n, err := strconv.Atoi(os.Getenv("TIDEMILL_BATCHES")); err == nil {
		batches = n
	}
	b := startBroker(t)
	dial(t, b.kafka).createTopic("many", 1)
	const connections, depth = 16, 32
	var wg sync.WaitGroup
	begun := time.Now()
	for range connections {
		c := dial(t, b.kafka)
		wg.Go(func() { pipelineBatches(c, batches/connections, depth) })
	}
	wg.Wait()
	t.Logf("%d batches acknowledged in %v", batches/connections*connections, time.Since(begun).Round(time.Millisecond))
	b.shutdown()
	begun = time.Now()
	b.start()
	t.Logf("started again after a clean stop in %v", time.Since(begun).Round(time.Millisecond))

	req := kmsg.NewPtrListOffsetsRequest()
	req.Version = 7
	topic, p := kmsg.NewListOffsetsRequestTopic(), kmsg.NewListOffsetsRequestTopicPartition()
	topic.Topic, p.Timestamp, p.CurrentLeaderEpoch = "many", latestOffset, -1
	topic.Partitions = append(topic.Partitions, p)
	req.Topics = append(req.Topics, topic)
	c := dial(t, b.kafka)
	if got, want := ask[*kmsg.ListOffsetsResponse](c, req).Topics[0].Partitions[0].Offset, int64(batches/connections*connections); got != want {
		t.Errorf("end offset is %d after the restart, want %d", got, want)
	}
	first := ask[*kmsg.FetchResponse](c, fetchRequest(11, "many", protocol.TopicID{}, 0, 0)).Topics[0].Partitions[0]
	if first.ErrorCode != 0 || len(first.RecordBatches) == 0 {
		t.Errorf("the first record is not readable after the restart: %v", protocol.ErrorCode(first.ErrorCode))
	}
}

// pipelineBatches produces n one-record batches, depth at a time.
func pipelineBatches(c *rawClient, n, depth int) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	window := make(chan struct{}, depth)
	req := produceRequest(9, "many", 0, batchOf("v"))
	go func() {
		for range n {
			select {
			case window <- struct{}{}:
				c.send(req)
			case <-ctx.Done():
				return
			}
		}
	}()
	for range n {
		_, body, err := c.receive()
		if err != nil {
			c.t.Error(fmt.Errorf("produce: %w", err))
			return
		}
		resp := kmsg.NewPtrProduceResponse()
		resp.Version = 9
		if err := resp.ReadFrom(body[1:]); err != nil || resp.Topics[0].Partitions[0].ErrorCode != 0 {
			c.t.Errorf("produce: %v, code %d", err, resp.Topics[0].Partitions[0].ErrorCode)
			return
		}
		<-window
	}
}
