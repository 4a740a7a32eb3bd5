package e2e

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidemill/tidemill/e2e/harness"
)

// TestClusterConnect runs three workers of Kafka Connect on three brokers while lines flow from a file into a file, and takes away one
// thing after another. No task ever fails, the pipeline goes on by itself, and every line arrives.
func TestClusterConnect(t *testing.T) {
	r := startConnectRun(t)
	r.flows("at the beginning")
	watched := r.watch()
	for _, fault := range connectFaults() {
		r.survives(fault)
	}
	r.pipe.waitDistinct(r.finish())
	watched()
	if n := len(r.cluster.Running()); n != 3 {
		t.Errorf("%d brokers run, want 3", n)
	}
}

// A connectRun is a Connect cluster with a pipeline, on brokers to which something happens.
type connectRun struct {
	*testing.T
	cluster *harness.Cluster
	storage *faultyS3
	fleet   *connectCluster
	pipe    *pipeline
	work    map[string]int
	finish  func() int // ends the stream of lines
	arrived arrivals
}

func startConnectRun(t *testing.T) *connectRun {
	t.Helper()
	r := &connectRun{T: t, work: map[string]int{"fleet-source": 1, "fleet-sink": 3}}
	r.cluster = harness.NewCluster(t, harness.ClusterOptions{Proxied: true, Storage: func(endpoint string) string {
		r.storage = startFaultyS3(t, endpoint)
		return r.storage.Endpoint
	}})
	r.fleet = connectOn(t, r.cluster, 3)
	r.pipe = r.fleet.workers[0].newPipeline("fleet")
	r.fleet.createTopic(t, r.pipe.name, 3)
	r.pipe.create("source", r.pipe.source)
	r.pipe.create("sink", r.pipe.sink, config{"tasks.max": "3"})
	r.fleet.settle(t, r.work, r.fleet.workers...)
	r.arrived = arrivals{pipe: r.pipe, later: map[int]bool{}}
	r.finish = r.pipe.stream()
	return r
}

// connectOn starts workers of one group on a cluster. Their sessions and timeouts are those that Connect has by itself, shorter and
// longer than what befalls the brokers.
func connectOn(t *testing.T, c *harness.Cluster, n int) *connectCluster {
	t.Helper()
	client := c.Client()
	f := &connectCluster{client: client, admin: kadm.NewClient(client)}
	for range n {
		w := newWorker(t, &harness.Broker{Addr: strings.Join(c.Bootstrap(), ",")})
		w.argv = slices.Insert(w.argv, 1, c.JavaOptions()...)
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

// survives lets a fault happen, and checks that afterwards all is as before.
func (r *connectRun) survives(fault connectFault) {
	r.Helper()
	mark, begun := r.fleet.log.read(r.T), time.Now()
	r.Logf("begins: %s", fault.name)
	fault.do(r)
	over := time.Now()
	behind := r.arrived.behind()
	flow := r.flows("after " + fault.name)
	r.cluster.AwaitBrokers(3)
	r.cluster.AwaitSpread()
	r.fleet.settle(r.T, r.work, r.fleet.workers...)
	rest := time.Since(over)
	r.fleet.log.read(r.T)
	changes := r.fleet.log.changes[mark:]
	for _, change := range changes {
		if change.State == failed {
			r.Errorf("%s: %s failed on %s", fault.name, change.of, change.WorkerID)
		}
	}
	r.Logf("figure: Connect, %s for %v: %d lines waited at its end; they and 1000 more had arrived after %v; brokers and workers were at rest after %v; statuses changed %d times",
		fault.name, over.Sub(begun).Round(time.Second), behind, flow.Round(time.Millisecond), rest.Round(time.Millisecond), len(changes))
}

// flows waits until every line that has been written and so many that come now have arrived.
func (r *connectRun) flows(when string) time.Duration {
	r.Helper()
	const more = 1000
	n, since := r.arrived.written()+more, time.Now()
	harness.Eventually(r, pipelineLimit, "lines flow "+when, func() error { return r.arrived.reached(n) })
	return time.Since(since)
}

// coordinator is the broker that the workers' group is on.
func (r *connectRun) coordinator() *harness.Node {
	r.Helper()
	var found *harness.Node
	harness.Eventually(r, time.Minute, "the workers have a coordinator", func() error {
		ctx, cancel := context.WithTimeout(r.Context(), lookLimit)
		defer cancel()
		c := r.fleet.admin.FindGroupCoordinators(ctx, workerGroup)[workerGroup]
		if c.Err != nil {
			return c.Err
		}
		for _, n := range r.cluster.Running() {
			if n.Addr == fmt.Sprintf("%s:%d", c.Host, c.Port) {
				found = n
				return nil
			}
		}
		return errorf("broker %d at port %d does not run", c.NodeID, c.Port)
	})
	return found
}

// watch asks all workers for all statuses until finish is called: a worker that cannot write a status still knows it.
func (r *connectRun) watch() (finish func()) {
	end := make(chan struct{})
	var watching sync.WaitGroup
	for _, w := range r.fleet.workers {
		watching.Go(func() {
			asked, told := 0, map[string]bool{}
			defer func() { r.Logf("%s has told its statuses %d times", w.id(), asked) }()
			tick := time.NewTicker(time.Second)
			defer tick.Stop()
			for {
				select {
				case <-end:
					return
				case <-w.process.Exited():
					r.Errorf("worker %s exited with status %d", w.id(), w.process.ExitCode())
					return
				case <-tick.C:
				}
				for name := range r.work {
					status, err := w.status(name)
					if err != nil {
						continue // what it cannot tell now it tells later
					}
					asked++
					for _, s := range append(status.Tasks, status.Connector) {
						if s.State == failed && !told[s.Trace] {
							told[s.Trace] = true
							r.Errorf("%s %d failed on %s: %s", name, s.ID, s.WorkerID, s.Trace)
						}
					}
				}
			}
		})
	}
	var once sync.Once
	finish = func() { once.Do(func() { close(end) }); watching.Wait() }
	r.Cleanup(finish)
	return finish
}

// arrivals knows which lines have come out of a pipeline. It reads on where it was, for all of them are many.
type arrivals struct {
	pipe  *pipeline
	at    int64        // up to here the sink's file was read
	first int          // the first line that has not arrived
	later map[int]bool // those after it that have
}

// written is how many lines the source's file has: all are of one length.
func (a *arrivals) written() int {
	a.pipe.t.Helper()
	info, err := os.Stat(a.pipe.in)
	if err != nil {
		a.pipe.t.Fatal(err)
	}
	return int(info.Size()) / len(a.pipe.line(0)+"\n")
}

// reached returns nil once the first n lines have arrived.
func (a *arrivals) reached(n int) error {
	if err := a.read(); err != nil {
		return err
	}
	if a.first < n {
		return errorf("of %d lines line %d has not arrived, and %d after it have", n, a.first, len(a.later))
	}
	return nil
}

// behind is how many lines have been written and have not arrived.
func (a *arrivals) behind() int {
	a.pipe.t.Helper()
	n := a.written()
	if err := a.read(); err != nil {
		a.pipe.t.Fatal(err)
	}
	return max(0, n-a.first-len(a.later))
}

func (a *arrivals) read() error {
	f, err := os.Open(a.pipe.out)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Seek(a.at, io.SeekStart); err != nil {
		return err
	}
	b, err := io.ReadAll(f)
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(b)) {
		if !strings.HasSuffix(line, "\n") {
			break // it is still being written
		}
		a.at += int64(len(line))
		var i int
		if _, err := fmt.Sscanf(line, a.pipe.name+" line %d of a file\n", &i); err == nil && i >= a.first {
			a.later[i] = true
		}
	}
	for ; a.later[a.first]; a.first++ {
		delete(a.later, a.first)
	}
	return nil
}
