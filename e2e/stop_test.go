package e2e

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidemill/tidemill/e2e/harness"
	"github.com/tidemill/tidemill/internal/ledger"
)

// TestCleanStop ends the broker by SIGTERM while fetches are parked at it and records are on their way, several times.
// It must go soon and with status 0, come back with everything that it acknowledged, and the clients must go on by themselves.
func TestCleanStop(t *testing.T) {
	const rounds = 3
	broker := harness.NewBroker(t, harness.Settings{"group.initial.rebalance.delay.ms": "0"})
	admin := kadm.NewClient(broker.Client())
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	for _, topic := range []string{idempotentTopic, connectLikeTopic, "silent"} {
		if _, err := admin.CreateTopic(ctx, killPartitions, 1, nil, topic); err != nil {
			t.Fatal(err)
		}
	}
	parked := broker.Client(kgo.ConsumeTopics("silent"), kgo.FetchMaxWait(time.Minute))
	arrived := make(chan string, rounds)
	go func() {
		for ctx.Err() == nil {
			parked.PollFetches(ctx).EachRecord(func(r *kgo.Record) { arrived <- string(r.Value) })
		}
	}()
	books := ledger.New()
	load := startLoad(ctx, t, broker, books)
	for round := range rounds {
		before := acked(books)
		harness.Eventually(t, time.Minute, "producers make progress", func() error {
			if n := acked(books) - before; n < acksBetweenKills {
				return fmt.Errorf("%d new acknowledgements", n)
			}
			return nil
		})
		took := broker.Terminate()
		t.Logf("stopped in %v, started in %v", took.Round(time.Millisecond), broker.Start().Round(time.Millisecond))
		want := fmt.Sprintf("round %d", round)
		one := &kgo.Record{Topic: "silent", Value: []byte(want)}
		if err := broker.Client().ProduceSync(ctx, one).FirstErr(); err != nil {
			t.Fatal(err)
		}
		harness.Eventually(t, time.Minute, "the parked consumer goes on", func() error {
			select {
			case got := <-arrived:
				if got != want {
					t.Fatalf("the consumer got %q, want %q", got, want)
				}
				return nil
			default:
				return errors.New("nothing arrived")
			}
		})
	}
	load.finish(ctx, t)
	final := readAll(ctx, t, broker, admin, idempotentTopic, connectLikeTopic)
	compareBooks(t, books, final, idempotentTopic)
	checkOrder(t, final)
}
