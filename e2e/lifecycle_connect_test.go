package e2e

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidemill/tidemill/e2e/harness"
)

// internalTopics are those of a Connect cluster, and their partitions: few, so that each is cleaned often.
var internalTopics = map[string]int32{"connect-configs": 1, "connect-offsets": 2, statusTopic: 2}

// TestConnectCompaction runs a Connect cluster on internal topics that are compacted all the time, while connectors come and
// go, workers are killed and the broker is killed once. In the end every line has arrived, the topics have shrunk, and a new
// worker that knows nothing else finds everything in them.
func TestConnectCompaction(t *testing.T) {
	c := newCompactedCluster(t)
	pipelines := []*pipeline{c.workers[0].pipeline("kept-a"), c.workers[0].pipeline("kept-b")}
	var finish []func() int
	for _, p := range pipelines {
		finish = append(finish, p.stream())
	}
	for round, victim := range c.workers {
		survivor := c.workers[1-round]
		c.churn(survivor, 4)
		for _, p := range pipelines {
			waitProgress(t, p)
		}
		if round == 1 {
			c.broker.Kill9()
			c.broker.Start()
			c.churn(survivor, 1)
		}
		victim.process.Kill9()
		c.churn(survivor, 1) // the group does not wait for the one that is lost
		victim.start()
	}
	c.waitChurnVanish(c.workers[0])
	for i, p := range pipelines {
		p.waitDistinct(finish[i]())
		p.w.checkRunning(p.name+"-source", p.name+"-sink")
	}
	for topic, partitions := range internalTopics {
		c.waitShrunk(c.workers[0], topic, partitions)
	}
	c.takeOver(pipelines)
}

// A compactedCluster is a broker, workers of one group, and connectors that come and go.
type compactedCluster struct {
	t       *testing.T
	broker  *harness.Broker
	client  *kgo.Client
	workers []*worker
	churned int
}

func newCompactedCluster(t *testing.T) *compactedCluster {
	t.Helper()
	broker := harness.NewBroker(t, eager(nil))
	client := broker.Client()
	c := &compactedCluster{t: t, broker: broker, client: client}
	ctx, cancel := context.WithTimeout(t.Context(), lookLimit)
	defer cancel()
	configs := map[string]*string{}
	for name, value := range map[string]string{
		"cleanup.policy": "compact", "internal.segment.bytes": "16384", "segment.ms": "1000",
		"min.cleanable.dirty.ratio": "0.01", "delete.retention.ms": "500",
	} {
		configs[name] = kadm.StringPtr(value)
	}
	for topic, partitions := range internalTopics {
		if _, err := kadm.NewClient(client).CreateTopic(ctx, partitions, 1, configs, topic); err != nil {
			t.Fatalf("%s: %v", topic, err)
		}
	}
	for range 2 {
		w := c.newWorker()
		w.launch()
		c.workers = append(c.workers, w)
	}
	for _, w := range c.workers {
		w.waitReady()
	}
	return c
}

// newWorker prepares a worker that commits often, and that is soon missed when it is killed.
func (c *compactedCluster) newWorker() *worker {
	c.t.Helper()
	return newWorker(c.t, c.broker, "offset.flush.interval.ms=50", "session.timeout.ms=6000", "heartbeat.interval.ms=500",
		"scheduled.rebalance.max.delay.ms=500", "consumer.session.timeout.ms=6000", "consumer.heartbeat.interval.ms=500")
}

// churn creates and deletes connectors, each of which leaves tombstones of its configuration and of its statuses.
func (c *compactedCluster) churn(w *worker, n int) {
	c.t.Helper()
	for range n {
		name := churnName(c.churned)
		c.churned++
		p := w.newPipeline(name)
		p.create("sink", p.sink, config{"topics": "kept-a"})
		w.must(http.MethodDelete, "/connectors/"+name+"-sink", nil)
	}
}

func churnName(i int) string { return fmt.Sprintf("churned-%d", i) }

// waitProgress waits until more lines arrive than had arrived.
func waitProgress(t *testing.T, p *pipeline) {
	t.Helper()
	before := len(p.lines())
	harness.Eventually(t, pipelineLimit, p.name+" makes progress", func() error {
		if n := len(p.lines()); n < before+100 {
			return fmt.Errorf("%d lines have arrived, %d before", n, before)
		}
		return nil
	})
}

// waitChurnVanish goes on until the cleaner has taken away the tombstones of the first connector that was deleted. It is what
// is written after them that lets the cleaner come by.
func (c *compactedCluster) waitChurnVanish(w *worker) {
	c.t.Helper()
	key := "connector-" + churnName(0) + "-sink"
	waitStored(c.t, c.client, "connect-configs", 0, key+" vanishes", func(s *stored) error {
		r := s.last[key]
		if r != nil && r.Value != nil {
			c.t.Fatalf("%s has come back: %s", key, r.Value)
		}
		if r != nil {
			c.churn(w, 1)
			return fmt.Errorf("it is among the %d of %d records that are left", len(s.records), s.end)
		}
		return nil
	})
}

// waitShrunk goes on until less than two thirds of what was ever written to a topic is in it, and all of it can be read to its
// end. Of the five records about a configuration Connect never deletes two, those of the connector's tasks; and as above, what
// was written last is cleaned once more is written.
func (c *compactedCluster) waitShrunk(w *worker, topic string, partitions int32) {
	c.t.Helper()
	harness.Eventually(c.t, cleanLimit, topic+" is compacted", func() error {
		ctx, cancel := context.WithTimeout(c.t.Context(), lookLimit)
		defer cancel()
		var left, written int64
		for partition := range partitions {
			s, err := readStored(ctx, c.client, topic, partition)
			if err != nil {
				return err
			}
			if s.start != 0 {
				c.t.Fatalf("%s/%d begins at %d: only compaction may take records away", topic, partition, s.start)
			}
			left, written = left+int64(len(s.records)), written+s.end
		}
		if 3*left >= 2*written {
			c.churn(w, 1)
			return fmt.Errorf("%d of %d records are left", left, written)
		}
		c.t.Logf("%s: %d of %d records are left", topic, left, written)
		return nil
	})
}

// takeOver kills all workers and starts one that was not there before: it reads the configurations, offsets and states of all
// connectors from the compacted topics, and no line is read or written again.
func (c *compactedCluster) takeOver(pipelines []*pipeline) {
	c.t.Helper()
	var names []string
	for _, p := range pipelines {
		names = append(names, p.name+"-sink", p.name+"-source")
		c.waitCommitted(p)
	}
	for _, w := range c.workers {
		w.process.Kill9()
	}
	fresh := c.newWorker()
	fresh.start()
	for _, name := range names {
		harness.Eventually(c.t, workerLimit, name+" has moved", func() error {
			s, err := fresh.status(name)
			if err == nil && (s.Connector.WorkerID != fresh.id() || s.Connector.State != running || len(s.Tasks) != 1 ||
				s.Tasks[0].WorkerID != fresh.id() || s.Tasks[0].State != running) {
				err = fmt.Errorf("status %+v", s)
			}
			return err
		})
	}
	var listed []string
	if err := fresh.call(http.MethodGet, "/connectors", nil, &listed); err != nil {
		c.t.Fatal(err)
	}
	if slices.Sort(listed); !slices.Equal(listed, names) {
		c.t.Errorf("the new worker has %v, want %v", listed, names)
	}
	const more = 500
	for _, p := range pipelines {
		p.w = fresh
		before := p.lines()
		written := strings.Count(p.input(), "\n")
		p.write(written, written+more)
		p.waitLines(append(before, p.numbered(written, written+more)...))
	}
}

// input is what the source's file holds.
func (p *pipeline) input() string {
	p.t.Helper()
	b, err := os.ReadFile(p.in)
	if err != nil {
		p.t.Fatal(err)
	}
	return string(b)
}

// waitCommitted waits until both sides have committed all that there is.
func (c *compactedCluster) waitCommitted(p *pipeline) {
	c.t.Helper()
	p.w.waitOffsets(p.name+"-source", sourceOffset(p.in, len(p.input())))
	ctx, cancel := context.WithTimeout(c.t.Context(), lookLimit)
	defer cancel()
	end, err := offsetOf(kadm.NewClient(c.client).ListEndOffsets(ctx, p.name))(p.name, 0)
	if err != nil {
		c.t.Fatal(err)
	}
	p.w.waitOffsets(p.name+"-sink", sinkOffset(p.name, int(end)))
}
