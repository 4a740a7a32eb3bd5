package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/tidemill/tidemill/e2e/harness"
)

const (
	// workerLimit is for a worker to start or stop, pipelineLimit for all lines to arrive: both on a busy machine.
	workerLimit   = 2 * time.Minute
	pipelineLimit = 4 * time.Minute
	connectLines  = 100_000
	workerHeap    = 384
)

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

// A worker is one distributed worker of Connect.
type worker struct {
	t       *testing.T
	url     string
	argv    []string
	process *harness.Process
}

func newWorker(t *testing.T, broker *harness.Broker) *worker {
	t.Helper()
	rest := harness.FreeAddr(t)
	props := []string{
		"bootstrap.servers=" + broker.Addr, "group.id=connect-cluster",
		"key.converter=org.apache.kafka.connect.storage.StringConverter",
		"value.converter=org.apache.kafka.connect.storage.StringConverter",
		"config.storage.topic=connect-configs", "offset.storage.topic=connect-offsets", "status.storage.topic=connect-status",
		"offset.flush.interval.ms=1000", "scheduled.rebalance.max.delay.ms=2000",
		"plugin.path=" + harness.PluginPath(t), "plugin.discovery=service_load",
		"listeners=http://" + rest, "rest.advertised.host.name=127.0.0.1",
	}
	if harness.OnKafka() { // one Kafka broker refuses Connect's default of 3 replicas; ours accepts it (2.0)
		for _, topic := range []string{"config", "offset", "status"} {
			props = append(props, topic+".storage.replication.factor=1")
		}
	}
	file := harness.WriteFile(t, "worker.properties", strings.Join(props, "\n")+"\n")
	argv := harness.Java(t, workerHeap, "org.apache.kafka.connect.cli.ConnectDistributed", file)
	return &worker{t: t, url: "http://" + rest, argv: argv}
}

func (w *worker) start() {
	w.t.Helper()
	w.process = harness.Start(w.t, "connect-worker", w.argv...)
	harness.Eventually(w.t, workerLimit, "the worker is in its group", func() error {
		select {
		case <-w.process.Exited():
			w.t.Fatalf("worker exited with status %d", w.process.ExitCode())
		default:
		}
		return w.call(http.MethodGet, "/connectors", nil, nil)
	})
}

func (w *worker) restart() {
	w.t.Helper()
	w.process.Terminate(workerLimit)
	w.start()
}

// call makes one REST request; a body that is not nil is sent as JSON, and an answer read into out.
func (w *worker) call(method, path string, body, out any) error {
	raw, err := json.Marshal(body)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, w.url+path, bytes.NewReader(raw))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode >= http.StatusBadRequest {
		return fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, answer)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(answer, out)
}

// checkRunning checks that connectors and their tasks run.
func (w *worker) checkRunning(names ...string) {
	w.t.Helper()
	type state struct{ State, Trace string }
	for _, name := range names {
		harness.Eventually(w.t, workerLimit, name+" runs", func() error {
			var status struct {
				Connector state
				Tasks     []state
			}
			if err := w.call(http.MethodGet, "/connectors/"+name+"/status", nil, &status); err != nil {
				return err
			}
			for _, s := range append(status.Tasks, status.Connector) {
				if s.State != "RUNNING" || len(status.Tasks) != 1 {
					return fmt.Errorf("status %+v", status)
				}
			}
			return nil
		})
	}
}

// A pipeline copies lines of a file through a topic into another file.
type pipeline struct {
	t       *testing.T
	w       *worker
	name    string
	in, out string
}

// pipeline creates FileStreamSource and FileStreamSink around a new topic, which the source creates.
func (w *worker) pipeline(name string) *pipeline {
	w.t.Helper()
	dir := w.t.TempDir()
	p := &pipeline{t: w.t, w: w, name: name, in: filepath.Join(dir, "in"), out: filepath.Join(dir, "out")}
	p.write(0, 0)
	replicas := "3"
	if harness.OnKafka() {
		replicas = "1"
	}
	p.create("source", map[string]string{
		"connector.class": "FileStreamSource", "tasks.max": "1", "file": p.in, "topic": name,
		"topic.creation.default.partitions": "1", "topic.creation.default.replication.factor": replicas,
	})
	p.create("sink", map[string]string{"connector.class": "FileStreamSink", "tasks.max": "1", "file": p.out, "topics": name})
	w.checkRunning(name+"-source", name+"-sink")
	return p
}

func (p *pipeline) create(side string, config map[string]string) {
	p.t.Helper()
	harness.Eventually(p.t, workerLimit, "create "+side, func() error { // 409 while the worker rebalances
		return p.w.call(http.MethodPut, "/connectors/"+p.name+"-"+side+"/config", config, nil)
	})
}

func (p *pipeline) remove() {
	p.t.Helper()
	for _, side := range []string{"-source", "-sink"} {
		harness.Eventually(p.t, workerLimit, "delete "+p.name+side, func() error {
			return p.w.call(http.MethodDelete, "/connectors/"+p.name+side, nil, nil)
		})
	}
}

func (p *pipeline) line(i int) string { return fmt.Sprintf("%s line %08d of a file", p.name, i) }

// write appends lines [from, to) to the source's file.
func (p *pipeline) write(from, to int) {
	p.t.Helper()
	f, err := os.OpenFile(p.in, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		p.t.Fatal(err)
	}
	defer f.Close()
	var b bytes.Buffer
	for i := from; i < to; i++ {
		fmt.Fprintln(&b, p.line(i))
	}
	if _, err := f.Write(b.Bytes()); err != nil {
		p.t.Fatal(err)
	}
}

// lines are the whole lines that have arrived.
func (p *pipeline) lines() []string {
	b, err := os.ReadFile(p.out)
	if err != nil && !os.IsNotExist(err) {
		p.t.Fatal(err)
	}
	lines := strings.Split(string(b), "\n")
	return lines[:len(lines)-1]
}

// reached returns nil once line n-1 has arrived.
func (p *pipeline) reached(n int) error {
	got := p.lines()
	if len(got) < n || got[len(got)-1] != p.line(n-1) && !contained(got, p.line(n-1)) {
		return fmt.Errorf("%d lines have arrived, waiting for line %d", len(got), n)
	}
	return nil
}

// contained looks from the end, where a line just written is.
func contained(lines []string, line string) bool {
	for i := len(lines) - 1; i >= 0; i-- {
		if lines[i] == line {
			return true
		}
	}
	return false
}

// waitExact waits for n lines and checks that they are exactly the first n, in order.
func (p *pipeline) waitExact(n int) {
	p.t.Helper()
	harness.Eventually(p.t, pipelineLimit, "all lines arrive", func() error { return p.reached(n) })
	got := p.lines()
	if len(got) != n {
		p.t.Errorf("%d lines have arrived, want %d", len(got), n)
	}
	for i := range min(n, len(got)) {
		if got[i] != p.line(i) {
			p.t.Fatalf("line %d is %q, want %q", i, got[i], p.line(i))
		}
	}
}

// checkNoLoss checks that every one of n lines has arrived, each for the first time in order, and that none of the first
// exact lines ever came again.
func (p *pipeline) checkNoLoss(exact, n int) {
	p.t.Helper()
	report := limited(p.t)
	next := 0
	for at, line := range p.lines() {
		var i int
		if _, err := fmt.Sscanf(line, p.name+" line %d of a file", &i); err != nil || line != p.line(i) {
			report("line %d is not ours: %q", at, line)
			continue
		}
		switch {
		case i == next:
			next++
		case i > next:
			report("line %d arrives where %d is due", i, next)
			next = i + 1
		case i < exact:
			report("line %d, written long before the kill, arrives again", i)
		}
	}
	if next != n {
		p.t.Errorf("%d lines have arrived in order, want %d", next, n)
	}
}
