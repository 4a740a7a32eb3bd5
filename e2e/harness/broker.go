package harness

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidemill/tidemill/internal/proctest"
)

const (
	// readyLimit covers a cold start on a busy machine; a broker needs well under a second of it, Kafka about five.
	readyLimit = 60 * time.Second
	// stopLimit is for a clean exit with open connections and parked fetches: a broker needs well under a second of it, and its own
	// deadlines end within five when the disk is slow.
	stopLimit = 20 * time.Second
	// slowDisk is what a broker says that could not close its log in time. It ends with another status, and its log is sealed by the next.
	slowDisk = "close log: context deadline exceeded"
)

// slowDisks are the exits that a slow disk kept from being clean: one is bad luck.
var slowDisks atomic.Int32

// OnKafka reports whether the tests run against Apache Kafka instead of the broker under test.
func OnKafka() bool { return os.Getenv("TIDEMILL_E2E_BROKER") == "kafka" }

// A Broker is one broker on fixed ports with its own data, which survives restarts.
type Broker struct {
	t    testing.TB
	argv []string
	// Addr is the bootstrap address, HTTP that of the health endpoint (empty on Kafka).
	Addr, HTTP string
	process    *Process
}

// Settings are Kafka's broker settings by Kafka's names.
type Settings map[string]string

// NewBroker starts a broker with empty data and waits until it is ready.
func NewBroker(t testing.TB, settings Settings) *Broker {
	t.Helper()
	if OnKafka() {
		return NewKafka(t, settings)
	}
	b := &Broker{t: t, Addr: proctest.FreeAddress(t), HTTP: proctest.FreeAddress(t)}
	dir := filepath.Join(t.TempDir(), "data")
	b.argv = []string{binary(t), "--listen", b.Addr, "--advertise", b.Addr, "--http", b.HTTP, "--data-dir", dir}
	for _, name := range settings.names() {
		b.argv = append(b.argv, "--kafka", name+"="+settings[name])
	}
	b.Start()
	return b
}

func (s Settings) names() []string {
	var names []string
	for name := range s {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

// Start starts a stopped broker on its ports and data, and waits until it is ready.
func (b *Broker) Start() time.Duration {
	b.t.Helper()
	begun := time.Now()
	b.process = Start(b.t, "broker", b.argv...)
	Eventually(b.t, readyLimit, "broker is ready", func() error {
		select {
		case <-b.process.Exited():
			b.t.Fatalf("broker exited with status %d", b.process.ExitCode())
		default:
		}
		return b.ready()
	})
	return time.Since(begun)
}

// ready asks the health endpoint and then makes a client's first round trip.
func (b *Broker) ready() error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if b.HTTP != "" {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+b.HTTP+"/readyz", nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("readyz answers %s", resp.Status)
		}
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(b.Addr))
	if err != nil {
		return err
	}
	defer client.Close()
	return client.Ping(ctx)
}

// Kill9 ends the broker without any warning.
func (b *Broker) Kill9() { b.t.Helper(); b.process.Kill9() }

// Terminate asks the broker to end and fails the test if it does not do so cleanly and soon.
func (b *Broker) Terminate() time.Duration {
	b.t.Helper()
	onKafka := b.HTTP == ""
	limit := stopLimit
	if onKafka {
		limit = 2 * exitLimit
	}
	took := b.process.Terminate(limit)
	switch code := b.process.ExitCode(); {
	case code == 0 || onKafka:
	case strings.Contains(b.process.Output(), slowDisk) && slowDisks.Add(1) == 1:
		b.t.Logf("the disk was too slow for a clean exit within the broker's deadline")
	default:
		b.t.Errorf("broker exited with status %d after SIGTERM", code)
	}
	return took
}

// Client returns a client of the broker that is closed with the test.
func (b *Broker) Client(opts ...kgo.Opt) *kgo.Client {
	b.t.Helper()
	client, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(b.Addr), kgo.AlwaysRetryEOF()}, opts...)...)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(client.Close)
	return client
}

// build makes the broker binary once for all tests of a run.
var build = sync.OnceValues(func() (string, error) {
	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	path := filepath.Join(root, ".cache", "broker")
	_, err = TryRun(10*time.Minute, "", "go", "build", "-C", filepath.Dir(root), "-o", path, "./cmd/broker")
	return path, err
})

func binary(t testing.TB) string {
	t.Helper()
	path, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// moduleRoot is the folder of the e2e module.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	for err == nil {
		if _, statErr := os.Stat(filepath.Join(dir, "jvm", "pom.xml")); statErr == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("no jvm/pom.xml in any folder above: run the tests inside the e2e module")
		}
		dir = filepath.Dir(dir)
	}
	return "", err
}

// cacheDir holds what outlives a run.
func cacheDir() (string, error) {
	base, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(base, "tidemill-e2e")
	return dir, os.MkdirAll(dir, 0o755)
}
