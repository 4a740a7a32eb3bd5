package broker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidemill/tidemill/config"
	"github.com/tidemill/tidemill/internal/proctest"
	"github.com/tidemill/tidemill/objectstore"
	"github.com/tidemill/tidemill/partition"
)

// A testBroker is a broker in this process, on free ports and a folder of its own.
type testBroker struct {
	t        *testing.T
	dir      string
	kafka    string
	http     string
	args     []string
	wrap     func(objectstore.Store) objectstore.Store // nil: the store as it is
	wrapM    func(partition.ManifestStore) partition.ManifestStore
	pace     *loadPace     // nil: as always
	patience time.Duration // with the store; 0: as always
	stop     context.CancelFunc
	stopped  chan error
	logs     lockedBuffer
	broker   *Broker // the latest run
}

// startBroker starts a broker that ends with the test. args are further flags.
func startBroker(t *testing.T, args ...string) *testBroker {
	t.Helper()
	return startBrokerOn(t, nil, args...)
}

// startBrokerOn starts a broker whose store a test has put faults into.
func startBrokerOn(t *testing.T, wrap func(objectstore.Store) objectstore.Store, args ...string) *testBroker {
	t.Helper()
	b := prepareBroker(t, wrap, args...)
	b.start()
	return b
}

// prepareBroker returns a broker that is not started.
func prepareBroker(t *testing.T, wrap func(objectstore.Store) objectstore.Store, args ...string) *testBroker {
	t.Helper()
	b := &testBroker{t: t, dir: t.TempDir(), kafka: proctest.FreeAddress(t), http: proctest.FreeAddress(t), args: args, wrap: wrap}
	t.Cleanup(func() {
		b.shutdown()
		if t.Failed() {
			t.Logf("the broker's log:\n%s", b.logs.String())
		}
	})
	return b
}

func (b *testBroker) config() *config.Config {
	b.t.Helper()
	cfg, err := config.Load(config.Input{
		Args:     append([]string{"--data-dir", b.dir, "--listen", b.kafka, "--http", b.http}, b.args...),
		ReadFile: os.ReadFile, WorkDir: b.dir,
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return cfg
}

// start runs the broker and returns when it is ready.
func (b *testBroker) start() {
	b.t.Helper()
	b.begin()
	b.awaitReady()
}

// begin runs the broker.
func (b *testBroker) begin() {
	b.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	b.stop, b.stopped = cancel, make(chan error, 1)
	log := slog.New(slog.NewTextHandler(&b.logs, nil))
	broker := newBroker(b.config(), log)
	broker.wrapStore, broker.wrapManifests = b.wrap, b.wrapM
	if b.pace != nil {
		broker.loadPace = *b.pace
	}
	if b.patience > 0 {
		broker.storePatience = b.patience
	}
	b.broker = broker
	go func() { b.stopped <- broker.run(ctx, "test", &b.logs) }()
}

// awaitReady returns when the broker says that it is ready.
func (b *testBroker) awaitReady() {
	b.t.Helper()
	waitFor(b.t, "the broker to be ready", func() bool {
		select {
		case err := <-b.stopped:
			b.t.Fatalf("the broker ended: %v\n%s", err, b.logs.String())
		default:
		}
		resp, err := http.Get("http://" + b.http + "/readyz")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
}

// shutdown stops the broker as SIGTERM does. It may be called twice.
func (b *testBroker) shutdown() {
	b.t.Helper()
	if b.stop == nil {
		return
	}
	b.stop()
	b.stop = nil
	select {
	case err := <-b.stopped:
		if err != nil {
			b.t.Errorf("the broker ended with: %v", err)
		}
	case <-time.After(30 * time.Second):
		b.t.Error("the broker did not end")
	}
}

// restart stops the broker in order and starts it again on its data. Its clients have to dial again.
func (b *testBroker) restart(t *testing.T) {
	t.Helper()
	b.shutdown()
	b.start()
}

func (b *testBroker) client(opts ...kgo.Opt) *kgo.Client {
	b.t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(b.kafka)}, opts...)...)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(cl.Close)
	return cl
}

// waitFor polls a condition that another goroutine brings about.
func waitFor(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.After(time.Minute)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// testContext bounds a test's requests.
func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), time.Minute, errors.New("the test took too long"))
	t.Cleanup(cancel)
	return ctx
}

// lockedBuffer collects what the broker writes.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// records makes n records with values "prefix-i".
func records(topic, prefix string, n int) []*kgo.Record {
	out := make([]*kgo.Record, n)
	for i := range out {
		out[i] = &kgo.Record{Topic: topic, Value: fmt.Appendf(nil, "%s-%d", prefix, i)}
	}
	return out
}
