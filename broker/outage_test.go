package broker

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidemill/tidemill/internal/outagetest"
	"github.com/tidemill/tidemill/objectstore"
	"github.com/tidemill/tidemill/objectstore/faultstore"
)

// These are the outages of e2e's TestOutages, short and in one process, and the interleavings that need a hand inside.

// patience lets a test's idempotent producer send again what is not answered within a second.
var patience = outagetest.Options{ProduceTimeout: time.Second}

// startFaulty starts a broker whose store a test makes faulty.
func startFaulty(t *testing.T, args ...string) (*testBroker, *faultstore.Store) {
	t.Helper()
	b, faults := prepareFaulty(t, args...)
	b.start()
	return b, faults()
}

// prepareFaulty returns a broker that is not started, and its store, which there is once it is.
func prepareFaulty(t *testing.T, args ...string) (*testBroker, func() *faultstore.Store) {
	t.Helper()
	var faults atomic.Pointer[faultstore.Store]
	b := prepareBroker(t, func(below objectstore.Store) objectstore.Store {
		s := faultstore.New(below, 1)
		if old := faults.Load(); old != nil {
			s.SetRules(old.Rules()...) // a restart mends no storage
		}
		faults.Store(s)
		return closingStore{s, below}
	}, args...)
	return b, faults.Load
}

// closingStore closes the store below one that cannot be closed.
type closingStore struct {
	*faultstore.Store
	below objectstore.Store
}

func (c closingStore) Close() error { return c.below.(io.Closer).Close() }

func (b *testBroker) load(o outagetest.Options) *outagetest.Load {
	b.t.Helper()
	return outagetest.Start(b.t, b.kafka, o)
}

func (b *testBroker) observe() outagetest.Observer {
	return outagetest.Observer{T: b.t, Address: b.http}
}

// errSlowDown is how a driver tells of a 503.
var errSlowDown = fmt.Errorf("503 SlowDown: %w", objectstore.ErrAmbiguous)

// TestLyingStore: PUTs that fail, and PUTs that are applied but answered with an error, are nobody's business but the log's.
func TestLyingStore(t *testing.T) {
	t.Parallel()
	b, faults := startFaulty(t)
	load := b.load(patience)
	for _, tc := range []struct {
		name string
		rule faultstore.Rule
	}{
		{"applied but answered with an error", faultstore.Rule{Op: faultstore.Put, Fault: faultstore.LostReply, Chance: .7}},
		{"not applied", faultstore.Rule{Op: faultstore.Put, Fault: faultstore.Lost, Chance: .7}},
		{"applied twice", faultstore.Rule{Op: faultstore.Put, Fault: faultstore.Twice, Chance: .7}},
		{"applied later", faultstore.Rule{Op: faultstore.Put, Fault: faultstore.Late, Delay: 50 * time.Millisecond, Chance: .7}},
	} {
		before := faults.Faulted()
		faults.SetRules(tc.rule)
		waitFor(t, "faults: "+tc.name, func() bool { return faults.Faulted() > before+15 })
		faults.SetRules()
		load.AwaitProgress("after PUTs " + tc.name)
	}
	faults.Wait()
	load.Finish()
}

// TestStorageOutage: nothing can be stored or read from storage, until the log counts as stalled; then it can.
func TestStorageOutage(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for a log to count as stalled: skipped with -short")
	}
	for _, tc := range []struct {
		name string
		rule faultstore.Rule
	}{
		{"503 SlowDown", faultstore.Rule{Fault: faultstore.Lost, Err: errSlowDown}},
		{"no answer", faultstore.Rule{Fault: faultstore.Lost, Latency: time.Hour}},
		{"PUTs land but every answer is an error", faultstore.Rule{Fault: faultstore.LostReply}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			const memory, size = 64 << 20, 64 << 10
			b, faults := startFaulty(t, "--memory", "64MiB")
			load, see := b.load(patience), b.observe()
			faults.SetRules(tc.rule)
			load.Flood(2*memory*produceShare/100/size, size)
			see.AwaitReady(http.StatusServiceUnavailable, "stalled")
			if v := see.Metric("tidemill_wal_stalled"); v != 1 {
				t.Errorf("tidemill_wal_stalled is %v", v)
			}
			acked := load.Acked()
			load.CheckReadable("during the outage")
			outagetest.Eventually(t, "the flood to fill the budget", func() error {
				if held := see.Metric(`tidemill_server_budget_used_bytes{kind="produce"}`); held < memory*produceShare/100*3/4 {
					return fmt.Errorf("%.0f bytes of produces", held)
				}
				return nil
			})
			if held := see.Metric(`tidemill_server_budget_used_bytes{kind="produce"}`); held > memory*produceShare/100 {
				t.Errorf("%.0f bytes of produces in memory, more than the budget", held)
			}
			if n := load.Acked() - acked; n > 0 {
				t.Errorf("%d records were acknowledged while nothing could be stored", n)
			}
			faults.SetRules()
			load.AwaitProgress("after the outage")
			see.AwaitReady(http.StatusOK, "ok\n")
			if v := see.Metric("tidemill_wal_stalled"); v != 0 {
				t.Errorf("tidemill_wal_stalled is %v after the outage", v)
			}
			load.Finish()
		})
	}
}

// TestSlowStorage: ten times the latency is ten times the wait, and nothing else.
func TestSlowStorage(t *testing.T) {
	t.Parallel()
	b, faults := startFaulty(t)
	usual := faultstore.Rule{Latency: 10 * time.Millisecond, Jitter: 10 * time.Millisecond}
	faults.SetRules(usual)
	load := b.load(patience)
	tenTimes := faultstore.Rule{Latency: 100 * time.Millisecond, Jitter: 100 * time.Millisecond}
	faults.SetRules(tenTimes)
	load.Flood(200, 64<<10)
	load.AwaitProgress("while storage is slow")
	b.observe().AwaitReady(http.StatusOK, "ok\n")
	faults.SetRules(usual)
	load.Finish()
}

// TestEtcdOutage: no produce, fetch, heartbeat or commit needs etcd (section 11); afterwards admin requests work again.
func TestEtcdOutage(t *testing.T) {
	if testing.Short() {
		t.Skip("an outage of seconds: skipped with -short")
	}
	t.Parallel()
	etcd := startEtcd(t)
	b := startBroker(t, "--cluster", etcd.url(), "--bucket", "file://"+t.TempDir())
	load := b.load(patience)
	etcd.stop()
	waitFor(t, "etcd to be silent", func() bool { return b.observe().Metric("tidemill_metadata_silent_seconds") > 3 })
	load.AwaitProgress("while etcd is away")
	load.CheckReadable("while etcd is away")
	if code := b.httpStatus("/readyz"); code != http.StatusOK {
		t.Errorf("/readyz answers %d while etcd is away", code)
	}
	etcd.start()
	dial(t, b.kafka).createTopic("later", 1)
	load.AwaitProgress("after the outage")
	waitFor(t, "etcd to be heard again", func() bool { return b.observe().Metric("tidemill_metadata_silent_seconds") < 3 })
	load.Finish()
}

// TestOutageDuringStart: a start that cannot reach what it needs ends with words, and leaves everything as it was; one that
// loses storage later, while it ends the previous life, waits for it.
func TestOutageDuringStart(t *testing.T) {
	t.Parallel()
	etcd := startEtcd(t)
	b, faults := prepareFaulty(t, "--cluster", etcd.url(), "--bucket", "file://"+t.TempDir())
	b.start()
	load := b.load(outagetest.Options{Restarts: true, ProduceTimeout: time.Second})
	b.kill(faults())

	etcd.stop()
	b.begin()
	if err := b.end(); err == nil || !strings.Contains(err.Error(), "etcd") {
		t.Errorf("a start without etcd ended with: %v", err)
	}
	etcd.start()
	faults().SetRules(faultstore.Rule{Fault: faultstore.Lost, Err: errSlowDown})
	b.begin()
	if err := b.end(); err == nil || !strings.Contains(err.Error(), "bucket") {
		t.Errorf("a start without storage ended with: %v", err)
	}
	faults().SetRules(faultstore.Rule{
		Match: func(key string) bool { return strings.HasPrefix(key, "wal/") || strings.HasPrefix(key, "recovery/") },
		Fault: faultstore.Lost, Err: errSlowDown,
	})
	before := faults().Faulted()
	b.begin()
	waitFor(t, "the seal to meet the outage", func() bool { return faults().Faulted() > before+3 })
	faults().SetRules()
	b.awaitReady()
	load.AwaitProgress("after the start")
	load.Finish()
}

// TestOutageDuringCleanStop: a stop without storage ends in bounded time and says that the log is not closed; the next start
// has everything that was acknowledged.
func TestOutageDuringCleanStop(t *testing.T) {
	for name, fault := range map[string]faultstore.Fault{"nothing lands": faultstore.Lost, "PUTs land": faultstore.LostReply} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, faults := prepareFaulty(t)
			b.start()
			load := b.load(outagetest.Options{Restarts: true, ProduceTimeout: time.Second})
			faults().SetRules(faultstore.Rule{Fault: fault, Err: errSlowDown})
			if err := b.end(); err == nil || !strings.Contains(err.Error(), "close the log") {
				t.Errorf("a stop without storage ended with: %v", err)
			}
			faults().SetRules()
			b.start()
			load.AwaitProgress("after the start")
			load.Finish()
		})
	}
}

// TestOutageAcrossCheckpoint: checkpoints are owed, not due. One that storage or etcd interrupts, at whatever step, leaves the
// log as it was and is made up for by the next; a life that is killed between loses nothing.
func TestOutageAcrossCheckpoint(t *testing.T) {
	t.Parallel()
	etcd := startEtcd(t)
	b, faults := prepareFaulty(t, "--cluster", etcd.url(), "--bucket", "file://"+t.TempDir())
	b.start()
	load := b.load(outagetest.Options{Restarts: true, ProduceTimeout: time.Second})
	manifests := func(r faultstore.Rule) faultstore.Rule {
		r.Op, r.Match = faultstore.Put, func(key string) bool { return strings.HasPrefix(key, "manifest/") }
		return r
	}
	checkpoint := func(when string, ok bool) {
		t.Helper()
		load.AwaitProgress("before a checkpoint " + when)
		if err := b.broker.logs.Checkpoint(testContext(t)); (err == nil) != ok {
			t.Errorf("a checkpoint %s: error %v", when, err)
		}
	}
	faults().SetRules(manifests(faultstore.Rule{Fault: faultstore.LostReply, Limit: 3}))
	checkpoint("whose PUTs land but answer with an error", true)
	faults().SetRules(manifests(faultstore.Rule{Fault: faultstore.LostReply}))
	checkpoint("whose PUT lands and never answers", false)
	faults().SetRules(manifests(faultstore.Rule{Fault: faultstore.Lost, Err: errSlowDown}))
	checkpoint("whose PUT is refused", false)
	faults().SetRules()
	etcd.stop()
	checkpoint("without etcd", false)
	b.kill(faults())
	etcd.start()
	b.start()
	checkpoint("after a kill", true)

	etcd.stop()
	checkpoint("without etcd", false)
	etcd.start()
	checkpoint("after an outage of etcd", true)
	if lag := b.observe().Metric("tidemill_partition_trim_lag_slots"); lag > 500 {
		t.Errorf("%v slots are not trimmed after a checkpoint", lag)
	}
	load.Finish()
	b.kill(faults())
	b.start()
}

// TestKillInOutage: PUTs land and nobody is told, then etcd goes too, then the broker is killed. What landed is the
// producers' all the same: an idempotent one that asks again gets its old offsets.
func TestKillInOutage(t *testing.T) {
	t.Parallel()
	etcd := startEtcd(t)
	b, faults := prepareFaulty(t, "--cluster", etcd.url(), "--bucket", "file://"+t.TempDir())
	b.start()
	load := b.load(outagetest.Options{Restarts: true, ProduceTimeout: time.Second})
	before := faults().Faulted()
	faults().SetRules(faultstore.Rule{Fault: faultstore.LostReply})
	waitFor(t, "PUTs to land", func() bool { return faults().Faulted() > before+10 })
	etcd.stop()
	load.CheckReadable("without storage and etcd")
	b.kill(faults())
	etcd.start()
	faults().SetRules()
	b.start()
	load.AwaitProgress("after the start")
	load.Finish()
}

// kill ends the broker as kill -9 does, as far as the store can tell: nothing is written from now on, no CLOSE either.
func (b *testBroker) kill(faults *faultstore.Store) {
	b.t.Helper()
	faults.SetRules(faultstore.Rule{Op: faultstore.Put, Fault: faultstore.Lost})
	b.stop()
	b.stop = nil
	if err := <-b.stopped; err == nil {
		b.t.Error("the broker closed its log on a store that takes nothing")
	}
	faults.SetRules()
}

// end returns what the broker ends with, if it does not by itself then when it is told to.
func (b *testBroker) end() error {
	b.t.Helper()
	stop := b.stop
	b.stop = nil
	if b.broker.serving.Load() {
		stop()
	}
	defer stop()
	select {
	case err := <-b.stopped:
		return err
	case <-time.After(time.Minute):
		b.t.Error("the broker goes on")
		return errors.New("it goes on")
	}
}
