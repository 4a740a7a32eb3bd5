package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidemill/tidemill/e2e/harness"
)

// TestClusterConnect runs three workers of Kafka Connect on three brokers, of which one is killed and another stopped while lines flow
// from a file into a file. No task fails and every line arrives.
func TestClusterConnect(t *testing.T) {
	c := harness.NewCluster(t, harness.ClusterOptions{})
	fleet := connectOn(t, c, 3)
	p := fleet.workers[0].newPipeline("fleet")
	fleet.createTopic(t, p.name, 3)
	p.create("source", p.source)
	p.create("sink", p.sink, config{"tasks.max": "3"})
	work := map[string]int{"fleet-source": 1, "fleet-sink": 3}
	fleet.settle(t, work, fleet.workers...)
	finish := p.stream()
	flows := func(when string) {
		t.Helper()
		n, since := len(p.lines()), time.Now()
		harness.Eventually(t, pipelineLimit, "lines flow "+when, func() error {
			if now := len(p.lines()); now < n+1000 {
				return fmt.Errorf("%d lines, %d before", now, n)
			}
			return nil
		})
		t.Logf("figure: Connect, %s: 1000 more lines after %v", when, time.Since(since).Round(time.Millisecond))
	}
	flows("at the beginning")
	victims := others(c)
	for _, n := range []*harness.Node{c.Controller(), victims[0]} {
		n.Kill9()
		flows("after kill -9 of a broker")
		n.Start()
		c.AwaitBrokers(3)
		c.AwaitSpread()
	}
	for _, n := range []*harness.Node{c.Controller(), victims[1]} {
		n.Terminate()
		flows("after a broker's stop")
		n.Start()
		c.AwaitBrokers(3)
		c.AwaitSpread()
	}
	fleet.settle(t, work, fleet.workers...)
	fleet.log.read(t)
	for _, change := range fleet.log.changes {
		if change.State == failed {
			t.Errorf("%s failed on %s", change.of, change.WorkerID)
		}
	}
	p.waitDistinct(finish())
}

// connectOn starts workers of one group on a cluster.
func connectOn(t *testing.T, c *harness.Cluster, n int) *connectCluster {
	t.Helper()
	client := c.Client()
	f := &connectCluster{client: client, admin: kadm.NewClient(client)}
	for range n {
		w := newWorker(t, &harness.Broker{Addr: strings.Join(c.Bootstrap(), ",")},
			"session.timeout.ms=20000", "heartbeat.interval.ms=1000", "consumer.session.timeout.ms=20000", // above a takeover
			"task.shutdown.graceful.timeout.ms=60000")
		w.launch()
		f.workers = append(f.workers, w)
	}
	for _, w := range f.workers {
		w.waitReady()
	}
	f.log = &statusLog{t: t, admin: f.admin, seen: map[int32]int64{}, client: c.Client(
		kgo.ConsumeTopics(statusTopic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))}
	return f
}
