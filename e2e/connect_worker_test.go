package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tidemill/tidemill/e2e/harness"
	"github.com/tidemill/tidemill/internal/proctest"
)

const (
	// workerLimit is for a worker to start or stop, pipelineLimit for all lines to arrive: both on a busy machine.
	workerLimit   = 4 * time.Minute
	pipelineLimit = 4 * time.Minute
	workerHeap    = 384
	workerGroup   = "connect-cluster"
	statusTopic   = "connect-status"

	running, paused, stopped, failed = "RUNNING", "PAUSED", "STOPPED", "FAILED"
)

// A worker is one worker of Connect as one test sees it: t is what fails when the worker does not do as it should.
type worker struct {
	t *testing.T
	*node
}

// A node is a worker's process. It ends with the test that made it, which may share it with its subtests.
type node struct {
	owner   *testing.T
	url     string
	argv    []string
	process *harness.Process
}

// newWorker prepares a distributed worker; settings ("name=value") come after the usual ones and override them.
func newWorker(t *testing.T, broker *harness.Broker, settings ...string) *worker {
	t.Helper()
	usual := []string{
		"group.id=" + workerGroup,
		"config.storage.topic=connect-configs", "offset.storage.topic=connect-offsets", "status.storage.topic=" + statusTopic,
		"scheduled.rebalance.max.delay.ms=2000",
	}
	for _, topic := range []string{"config", "offset", "status"} {
		usual = append(usual, topic+".storage.replication.factor="+replicas())
	}
	return prepareWorker(t, broker, "org.apache.kafka.connect.cli.ConnectDistributed", append(usual, settings...))
}

// replicas is Connect's default of 3, which one Kafka broker refuses and ours accepts (2.0).
func replicas() string {
	if harness.OnKafka() {
		return "1"
	}
	return "3"
}

// prepareWorker writes the worker's properties. args come after their file on the command line.
func prepareWorker(t *testing.T, broker *harness.Broker, class string, settings []string, args ...string) *worker {
	t.Helper()
	rest := proctest.FreeAddress(t)
	props := append([]string{
		"bootstrap.servers=" + broker.Addr,
		"key.converter=org.apache.kafka.connect.storage.StringConverter",
		"value.converter=org.apache.kafka.connect.storage.StringConverter",
		"offset.flush.interval.ms=1000",
		// Offsets are committed within the shutdown, however slow the disk is.
		"offset.flush.timeout.ms=60000", "task.shutdown.graceful.timeout.ms=60000",
		"plugin.path=" + harness.PluginPath(t), "plugin.discovery=service_load",
		"listeners=http://" + rest, "rest.advertised.host.name=127.0.0.1",
	}, settings...)
	file := harness.WriteFile(t, "worker.properties", strings.Join(props, "\n")+"\n")
	argv := harness.Java(t, workerHeap, class, append([]string{file}, args...)...)
	return &worker{t: t, node: &node{owner: t, url: "http://" + rest, argv: argv}}
}

// with is the same worker as seen by a subtest.
func (w *worker) with(t *testing.T) *worker { return &worker{t: t, node: w.node} }

// id is the worker's name in statuses.
func (w *worker) id() string { return strings.TrimPrefix(w.url, "http://") }

func (w *worker) start() {
	w.t.Helper()
	w.launch()
	w.waitReady()
}

// launch starts the process and does not wait for it.
func (w *worker) launch() { w.process = harness.Start(w.owner, "connect-worker", w.argv...) }

func (w *worker) waitReady() {
	w.t.Helper()
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

// must makes a request until it is granted: Connect refuses what changes anything while its group rebalances (409).
func (w *worker) must(method, path string, body any) {
	w.t.Helper()
	harness.Eventually(w.t, workerLimit, method+" "+path, func() error { return w.call(method, path, body, nil) })
}

// connectorStatus is what GET /connectors/<name>/status answers.
type connectorStatus struct {
	Connector taskStatus
	Tasks     []taskStatus
}

type taskStatus struct {
	ID       int
	State    string
	Trace    string
	WorkerID string `json:"worker_id"`
}

func (w *worker) status(name string) (status connectorStatus, err error) {
	err = w.call(http.MethodGet, "/connectors/"+name+"/status", nil, &status)
	return status, err
}

// waitStates waits until a connector and each of its n tasks are in the given states.
func (w *worker) waitStates(name, connector, task string, n int) connectorStatus {
	w.t.Helper()
	var status connectorStatus
	harness.Eventually(w.t, workerLimit, fmt.Sprintf("%s is %s with %d tasks %s", name, connector, n, task), func() (err error) {
		if status, err = w.status(name); err != nil {
			return err
		}
		ok := status.Connector.State == connector && len(status.Tasks) == n
		for _, s := range status.Tasks {
			ok = ok && s.State == task
		}
		if !ok {
			return fmt.Errorf("status %+v", status)
		}
		return nil
	})
	return status
}

// checkRunning checks that connectors of one task each run.
func (w *worker) checkRunning(names ...string) {
	w.t.Helper()
	for _, name := range names {
		w.waitStates(name, running, running, 1)
	}
}

// stop stops a connector, after which its tasks are gone and its offsets may be changed.
func (w *worker) stop(name string) {
	w.t.Helper()
	w.must(http.MethodPut, "/connectors/"+name+"/stop", nil)
	w.waitStates(name, stopped, "", 0)
}

// resume lets a paused or stopped connector of one task go on.
func (w *worker) resume(name string) {
	w.t.Helper()
	w.must(http.MethodPut, "/connectors/"+name+"/resume", nil)
	w.checkRunning(name)
}

// waitOffsets waits until a connector's offsets are what they should be: a task commits them before it ends.
func (w *worker) waitOffsets(name string, want connectOffsets) {
	w.t.Helper()
	harness.Eventually(w.t, workerLimit, "offsets of "+name, func() error {
		var got connectOffsets
		if err := w.call(http.MethodGet, "/connectors/"+name+"/offsets", nil, &got); err != nil {
			return err
		}
		if diff := cmp.Diff(want, got); diff != "" {
			return fmt.Errorf("(-want +got)\n%s", diff)
		}
		return nil
	})
}
