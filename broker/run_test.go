package broker

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

func TestProduceConsumeRestart(t *testing.T) {
	b := startBroker(t)
	ctx := testContext(t)
	cl := b.client(kgo.AllowAutoTopicCreation(), kgo.ConsumeTopics("hello"))
	want := records("hello", "v", 100)
	if err := cl.ProduceSync(ctx, want...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	checkConsumed(t, cl, want)

	b.shutdown()
	b.start()
	again := b.client(kgo.ConsumeTopics("hello"))
	checkConsumed(t, again, want)
}

// checkConsumed polls until as many records as wanted came, and compares values.
func checkConsumed(t *testing.T, cl *kgo.Client, want []*kgo.Record) {
	t.Helper()
	ctx := testContext(t)
	for got := 0; got < len(want); {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("after %d records: %v", got, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if got >= len(want) || string(r.Value) != string(want[got].Value) {
				t.Fatalf("record %d is %q at offset %d", got, r.Value, r.Offset)
			}
			got++
		})
	}
}
