package e2e

import (
	"fmt"
	"slices"
	"testing"

	"github.com/tidemill/tidemill/e2e/harness"
)

// testConnectRebalance kills one of three workers and restarts another while lines flow through two pipelines. The group
// speaks the incremental cooperative protocol, so what stays on its worker is never stopped; and every line arrives.
func testConnectRebalance(t *testing.T, c *connectCluster) {
	var workers []*worker
	for _, w := range c.workers {
		workers = append(workers, w.with(t))
	}
	work := map[string]int{}
	var pipes []*pipeline
	for _, name := range []string{"north", "south"} {
		p := workers[0].newPipeline(name)
		c.createTopic(t, name, 3)
		p.create("source", p.source)
		p.create("sink", p.sink, config{"tasks.max": "3"})
		work[name+"-source"], work[name+"-sink"] = 1, 3
		pipes = append(pipes, p)
	}
	before := c.settle(t, work, workers...)
	var finish []func() int
	for _, p := range pipes {
		finish = append(finish, p.stream())
	}
	flowing := func() {
		t.Helper()
		for _, p := range pipes {
			n := len(p.lines())
			harness.Eventually(t, pipelineLimit, p.name+" flows", func() error {
				if now := len(p.lines()); now < n+200 {
					return fmt.Errorf("%d lines, %d before", now, n)
				}
				return nil
			})
		}
	}
	flowing()

	victim := c.at(workers, before["north-source/0"])
	rest := slices.DeleteFunc(slices.Clone(workers), func(w *worker) bool { return w == victim })
	mark := c.log.read(t)
	victim.process.Kill9()
	after := c.settle(t, work, rest...)
	c.checkKept(t, mark, before, after)
	flowing()

	before, mark = after, c.log.read(t)
	victim.start()
	after = c.settle(t, work, workers...)
	c.checkKept(t, mark, before, after)
	flowing()

	gentle := c.at(workers, after["south-source/0"])
	rest = slices.DeleteFunc(slices.Clone(workers), func(w *worker) bool { return w == gentle })
	before, mark = after, c.log.read(t)
	gentle.process.Terminate(workerLimit)
	after = c.settle(t, work, rest...)
	c.checkKept(t, mark, before, after)
	before, mark = after, c.log.read(t)
	gentle.start()
	c.checkKept(t, mark, before, c.settle(t, work, workers...))
	flowing()

	for i, p := range pipes {
		p.waitDistinct(finish[i]())
		p.remove()
	}
}

// at is the worker of an id.
func (c *connectCluster) at(workers []*worker, id string) *worker {
	return workers[slices.IndexFunc(workers, func(w *worker) bool { return w.id() == id })]
}

// checkKept checks that what is on the same worker after a rebalance as before was not touched meanwhile. The eager
// protocol would have stopped and started everything.
func (c *connectCluster) checkKept(t *testing.T, mark int, before, after placement) {
	t.Helper()
	kept := 0
	for of, id := range after {
		if before[of] != id {
			continue
		}
		kept++
		if states := c.log.since(t, mark, of); len(states) > 0 {
			t.Errorf("%s stayed on %s and yet went through %v", of, id, states)
		}
	}
	t.Logf("%d of %d connectors and tasks stayed where they were", kept, len(after))
	if kept == 0 {
		t.Error("nothing stayed on its worker")
	}
}
