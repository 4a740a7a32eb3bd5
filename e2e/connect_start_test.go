package e2e

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/tidemill/tidemill/e2e/harness"
)

// TestConnectRefusesTopic starts workers on internal topics that are not compacted, which must be told to them truly: each
// exits with Kafka's message, as it would lose offsets, configurations or states otherwise.
func TestConnectRefusesTopic(t *testing.T) {
	broker := harness.NewBroker(t, nil)
	admin := kadm.NewClient(broker.Client())
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cases := []struct{ role, policy string }{{"offset", "delete"}, {"config", "compact,delete"}, {"status", "delete"}}
	var workers []*worker
	for _, c := range cases {
		topic := "wrong-" + c.role
		if _, err := admin.CreateTopic(ctx, 1, 1, map[string]*string{"cleanup.policy": &c.policy}, topic); err != nil {
			t.Fatal(err)
		}
		settings := []string{c.role + ".storage.topic=" + topic, "group.id=" + c.role}
		for _, other := range cases {
			if other.role != c.role {
				settings = append(settings, other.role+".storage.topic=right-"+c.role+"-"+other.role)
			}
		}
		w := newWorker(t, broker, settings...)
		w.launch()
		workers = append(workers, w)
	}
	for i, c := range cases {
		t.Run(c.role, func(t *testing.T) {
			select {
			case <-workers[i].process.Exited():
			case <-time.After(workerLimit):
				t.Fatalf("the worker has not exited:\n%s", workers[i].process.Tail())
			}
			if code := workers[i].process.ExitCode(); code != 1 && code != 3 {
				t.Errorf("exit status %d, want 1 or 3", code)
			}
			want := "Topic 'wrong-" + c.role + "' supplied via the '" + c.role + ".storage.topic' property is required to have " +
				"'cleanup.policy=compact' to guarantee consistency and durability of "
			found := "but found the topic currently has 'cleanup.policy=" + c.policy + "'"
			if out := workers[i].process.Output(); !strings.Contains(out, want) || !strings.Contains(out, found) {
				t.Errorf("the worker does not say %q and %q:\n%s", want, found, workers[i].process.Tail())
			}
		})
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
