package e2e

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tidemill/tidemill/e2e/harness"
)

// A refusal is a worker that is given one internal topic which is not compacted.
type refusal struct {
	*worker
	role, policy string
}

// startRefusals launches one such worker for each internal topic. They do not wait for each other, and nobody waits for
// them until the end: a worker that found its topic wrong takes half a minute or more to give up and exit.
func startRefusals(t *testing.T, c *connectCluster) []refusal {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	all := []refusal{{role: "offset", policy: "delete"}, {role: "config", policy: "compact,delete"}, {role: "status", policy: "delete"}}
	for i := range all {
		r := &all[i]
		topic := "wrong-" + r.role
		if _, err := c.admin.CreateTopic(ctx, 1, 1, map[string]*string{"cleanup.policy": &r.policy}, topic); err != nil {
			t.Fatal(err)
		}
		settings := []string{"group.id=refused-" + r.role, "worker.sync.timeout.ms=1", "task.shutdown.graceful.timeout.ms=1"}
		for _, other := range all {
			settings = append(settings, other.role+".storage.topic=right-for-"+r.role+"-"+other.role)
		}
		r.worker = newWorker(t, c.broker, append(settings, r.role+".storage.topic="+topic)...)
		r.launch()
	}
	return all
}

// testConnectRefusals checks that each worker has been told truly of its topic's policy and has exited with Kafka's message,
// rather than lose offsets, configurations or states later.
func testConnectRefusals(t *testing.T, refusals []refusal) {
	for _, r := range refusals {
		select {
		case <-r.process.Exited():
		case <-time.After(workerLimit):
			t.Fatalf("the worker has not exited:\n%s", r.process.Tail())
		}
		if code := r.process.ExitCode(); code != 1 && code != 3 { // 3 if it was still starting its REST server
			t.Errorf("exit status %d, want 1 or 3", code)
		}
		want := "Topic 'wrong-" + r.role + "' supplied via the '" + r.role + ".storage.topic' property is required to have " +
			"'cleanup.policy=compact' to guarantee consistency and durability of "
		found := "but found the topic currently has 'cleanup.policy=" + r.policy + "'"
		if out := r.process.Output(); !strings.Contains(out, want) || !strings.Contains(out, found) {
			t.Errorf("the worker does not say %q and %q:\n%s", want, found, r.process.Tail())
		}
	}
}

// TestConnectStandalone runs a worker that keeps source offsets in a file and has its connectors from files. It finds both
// sides' offsets again when it comes back, so nothing arrives twice.
func TestConnectStandalone(t *testing.T) {
	broker := harness.NewBroker(t, harness.Settings{"group.initial.rebalance.delay.ms": "0"})
	p := (&worker{t: t}).newPipeline("standalone")
	var files []string
	for side, settings := range map[string]config{"source": p.source, "sink": p.sink} {
		props := []string{"name=" + p.name + "-" + side}
		for key, value := range settings {
			props = append(props, key+"="+value)
		}
		files = append(files, harness.WriteFile(t, side+".properties", strings.Join(props, "\n")+"\n"))
	}
	slices.Sort(files)
	offsets := "offset.storage.file.filename=" + filepath.Join(t.TempDir(), "offsets")
	p.w = prepareWorker(t, broker, "org.apache.kafka.connect.cli.ConnectStandalone", []string{offsets}, files...)
	const n = 10_000
	p.write(0, n)
	p.w.start()
	p.waitExact(n)
	p.w.restart()
	p.w.checkRunning("standalone-source", "standalone-sink")
	p.write(n, 2*n)
	p.waitExact(2 * n)
}
