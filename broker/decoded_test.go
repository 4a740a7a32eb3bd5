package broker

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/server"
)

// TestDenseRequestsTakeTurns: what dense requests take when they are decoded is bounded, and given back once (D11).
func TestDenseRequestsTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		budget := server.NewBudget(100)
		request := func() *call { return &call{ctx: t.Context(), done: func(server.Response) {}} }
		first, second := request(), request()
		if !first.admitDecoded(budget, 80) {
			t.Fatal("the first was not admitted")
		}
		admitted := make(chan bool, 1)
		go func() { admitted <- second.admitDecoded(budget, 80) }()
		synctest.Wait()
		if len(admitted) != 0 {
			t.Fatal("the second did not wait")
		}
		first.done(server.Response{})
		first.decoded.giveBack() // no more
		if !<-admitted || budget.InUse() != 80 {
			t.Errorf("%d bytes are taken, want 80", budget.InUse())
		}
		func() {
			defer func() { _ = recover() }()
			second.handleCounted(func() { panic("lost") })
		}()
		if n := budget.InUse(); n != 0 {
			t.Errorf("%d bytes went with a handler that panicked", n)
		}
	})
}

// TestDenseFetchDoesNotPark: a fetch of very many partitions is answered soon, whatever it asks for (D11).
func TestDenseFetchDoesNotPark(t *testing.T) {
	b := startBroker(t)
	c := dial(t, b.kafka).warm()
	c.createTopic("t", 1000) // two topics: each has its own time to be created in
	c.createTopic("u", 1000)
	req := fetchRequest(11, "t", protocol.TopicID{}, 0, 0)
	req.MaxWaitMillis, req.MinBytes, req.SessionEpoch = 1<<31-1, 1, finalEpoch
	req.Topics[0].Partitions = partitions(1000, func(i int) kmsg.FetchRequestTopicPartition {
		return kmsg.FetchRequestTopicPartition{Partition: int32(i), PartitionMaxBytes: 1 << 20}
	})
	req.Topics = append(req.Topics, req.Topics[0])
	req.Topics[1].Topic = "u"
	begun, n := time.Now(), 0
	for _, topic := range ask[*kmsg.FetchResponse](c, req).Topics {
		n += len(topic.Partitions)
	}
	if n != 2000 {
		t.Errorf("%d partitions after %v", n, time.Since(begun))
	}
}
