package e2e

import (
	"context"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/tidemill/tidemill/e2e/harness"
)

const connectLines = 100_000

// TestConnectDistributed runs an unmodified distributed worker of Kafka Connect.
func TestConnectDistributed(t *testing.T) {
	broker := harness.NewBroker(t, harness.Settings{"group.initial.rebalance.delay.ms": "0"})
	w := newWorker(t, broker)
	w.start()
	checkInternalTopics(t, broker)

	p := w.pipeline("exact")
	p.write(0, connectLines)
	p.waitExact(connectLines)

	// The worker finds its topics, its connectors and both sides' offsets again, so nothing arrives twice.
	w.restart()
	checkInternalTopics(t, broker)
	p.write(connectLines, connectLines+1000)
	p.waitExact(connectLines + 1000)
	p.remove()

	killUnderPipeline(t, broker, w)
}

// killUnderPipeline kills the broker while lines flow. Connect's producers are not idempotent, so what was in flight at the
// kill may be there twice, on Kafka too; lines before it and lines long after it may not.
func killUnderPipeline(t *testing.T, broker *harness.Broker, w *worker) {
	t.Helper()
	const before, during, all = connectLines * 3 / 10, connectLines * 8 / 10, connectLines
	p := w.pipeline("killed")
	p.write(0, before)
	p.waitExact(before)
	p.write(before, during)
	harness.Eventually(t, pipelineLimit, "lines are under way", func() error { return p.reached(before + 1000) })
	broker.Kill9()
	seen := len(p.lines())
	broker.Start()
	harness.Eventually(t, pipelineLimit, "the pipeline goes on by itself", func() error { return p.reached(during) })
	p.checkNoLoss(before, during)
	w.checkRunning("killed-source", "killed-sink")

	settled := len(p.lines())
	t.Logf("%d lines had arrived at the kill; %d of %d arrived more than once", seen, settled-during, during)
	p.write(during, all)
	harness.Eventually(t, pipelineLimit, "the rest arrives", func() error { return p.reached(all) })
	got := p.lines()
	if want := settled + all - during; len(got) != want {
		t.Errorf("%d lines in the end, want %d: lines written long after the kill arrive once", len(got), want)
	}
	p.checkNoLoss(before, all)
}

// checkInternalTopics checks what the worker made of its defaults: replication factor 3, compaction, 1, 25 and 5 partitions.
func checkInternalTopics(t *testing.T, broker *harness.Broker) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	admin := kadm.NewClient(broker.Client())
	partitions := map[string]int{"connect-configs": 1, "connect-offsets": 25, "connect-status": 5}
	topics, err := admin.ListTopics(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range partitions {
		if got := len(topics[name].Partitions); got != want {
			t.Errorf("%s has %d partitions, want %d", name, got, want)
		}
		configs, err := admin.DescribeTopicConfigs(ctx, name)
		if err != nil {
			t.Fatal(err)
		}
		policy := ""
		for _, c := range configs[0].Configs {
			if c.Key == "cleanup.policy" {
				policy = c.MaybeValue()
			}
		}
		if policy != "compact" {
			t.Errorf("%s has cleanup.policy=%q, want compact", name, policy)
		}
	}
}
