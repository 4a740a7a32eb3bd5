package workload

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidemill/tidemill/broker"
	"github.com/tidemill/tidemill/config"
	"github.com/tidemill/tidemill/internal/proctest"
	"github.com/tidemill/tidemill/verify"
)

// A restartable broker keeps its address and its data.
type restartable struct {
	t       *testing.T
	address string
	dir     string
	stop    context.CancelFunc
	exited  chan error
}

func startBroker(t *testing.T) *restartable {
	t.Helper()
	dir, err := os.MkdirTemp("", "tm") //nolint:usetesting // short: a unix socket lies in it
	if err != nil {
		t.Fatal(err)
	}
	b := &restartable{t: t, address: proctest.FreeAddress(t), dir: dir}
	t.Cleanup(func() {
		b.end()
		os.RemoveAll(dir)
	})
	b.start()
	return b
}

func (b *restartable) start() {
	b.t.Helper()
	c, err := config.Load(config.Input{
		Args: []string{"--listen", b.address, "--http", "127.0.0.1:0", "--data-dir", filepath.Join(b.dir, "d"),
			"--kafka", "group.initial.rebalance.delay.ms=0"},
		WorkDir: b.dir, ReadFile: os.ReadFile,
	})
	if err != nil {
		b.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(b.t.Context()))
	banner, out := io.Pipe()
	b.stop, b.exited = stop, make(chan error, 1)
	exited := b.exited
	go func() {
		exited <- broker.Run(ctx, c, "test", out, slog.New(slog.DiscardHandler))
		out.Close()
	}()
	if _, err := io.ReadFull(banner, make([]byte, 1)); err != nil {
		b.t.Fatalf("the broker did not start: %v", err)
	}
	go io.Copy(io.Discard, banner) // ends with the broker
}

// end stops the broker. It may be called again.
func (b *restartable) end() {
	b.stop()
	if err := <-b.exited; err != nil {
		b.t.Errorf("the broker failed: %v", err)
	}
	b.exited <- nil
}

// A link dials brokers, or does not.
type link struct {
	mu   sync.Mutex
	open map[net.Conn]bool
	cut  bool
}

func (l *link) dial(ctx context.Context, network, host string) (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cut {
		// As the system would say it: clients go on after it.
		return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.ECONNREFUSED}
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, network, host)
	if err == nil {
		l.open[conn] = true
	}
	return conn, err
}

// set cuts the link with all connections, or repairs it.
func (l *link) set(cut bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = cut
	for conn := range l.open {
		conn.Close()
		delete(l.open, conn)
	}
}

func small(address string, more ...kgo.Opt) Options {
	return Options{Bootstrap: []string{address}, Partitions: 3, Producers: 2, Consumers: 1, Rate: 500, Client: more}
}

// eventually waits until cond holds.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !cond(); {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
		pause(t.Context(), 20*time.Millisecond)
	}
}

// good wants a verdict without anomalies.
func good(t *testing.T, h *verify.History, err error) verify.Verdict {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	v := verify.Check(h)
	if !v.OK() {
		var b strings.Builder
		_ = v.WriteText(&b)
		t.Fatal(b.String())
	}
	return v
}

// TestThroughOutages: the broker is restarted and the network is cut, and nothing is lost or told wrongly.
func TestThroughOutages(t *testing.T) {
	b := startBroker(t)
	network := &link{open: map[net.Conn]bool{}}
	w, err := Start(t.Context(), small(b.address, kgo.Dialer(network.dial)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	progress := func() {
		before := w.Counts()
		eventually(t, "progress", func() bool {
			now := w.Counts()
			return now.Acknowledged > before.Acknowledged+100 && now.Read > before.Read+100 && now.ReadByGroups > before.ReadByGroups
		})
	}
	progress()
	from := w.Elapsed()
	network.set(true)
	pause(t.Context(), time.Second)
	network.set(false)
	progress()
	cut := w.LongestGap(from, w.Elapsed())
	b.end()
	b.start()
	progress()
	h, err := w.Stop(t.Context())
	v := good(t, h, err)
	if cut.Length() < 900*time.Millisecond || v.Longest.Length() < cut.Length() || v.LongestInPartition.Length() < v.Longest.Length() {
		t.Errorf("gaps of %v, %v and %v, want about a second and more", cut, v.Longest, v.LongestInPartition)
	}
	c := v.Counts
	if c.Sent != c.Acknowledged || c.InLog != c.Sent || c.Read != c.Sent || c.Unread != 0 || c.ReadByGroups < c.Sent || c.Commits == 0 {
		t.Errorf("counts %+v, first error %s", c, v.FirstError)
	}
	again, err := w.Stop(t.Context())
	if !errors.Is(err, errClosed) || again != h {
		t.Errorf("a second stop: %v", err)
	}
}

// TestUnknownAtTheEnd: what has no answer when the workload stops is unknown, and comes with an error for want of the log.
func TestUnknownAtTheEnd(t *testing.T) {
	b := startBroker(t)
	network := &link{open: map[net.Conn]bool{}}
	o := small(b.address, kgo.Dialer(network.dial))
	o.Settle = 300 * time.Millisecond
	w, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	eventually(t, "acknowledgements", func() bool { return w.Counts().Acknowledged > 50 })
	network.set(true)
	pause(t.Context(), 300*time.Millisecond)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	h, err := w.Stop(ctx)
	if err == nil || len(h.Logs) != 0 {
		t.Fatalf("stopped with %v and %d logs", err, len(h.Logs))
	}
	v := verify.Check(h)
	if c := v.Counts; c.Unknown == 0 || c.Sent != c.Acknowledged+c.Unknown || len(v.Unjudged) != 3 || len(v.Anomalies) != 0 {
		t.Errorf("verdict %+v", v)
	}
}

func TestRefusedRecords(t *testing.T) {
	b := startBroker(t)
	o := small(b.address)
	limit := "100"
	o.Configs, o.RecordBytes, o.Records, o.Members = map[string]*string{"max.message.bytes": &limit}, 1000, 50, -1
	w, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	select {
	case <-w.Sent():
	case <-time.After(time.Minute):
		t.Fatal("50 records are not sent in a minute")
	}
	h, err := w.Stop(t.Context())
	if v := good(t, h, err); v.Counts.Failed != 50 || v.Counts.InLog != 0 || !strings.HasPrefix(v.FirstError, "MESSAGE_TOO_LARGE") {
		t.Errorf("verdict %+v", v)
	}
	if err := w.Remove(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestStartThatFails(t *testing.T) {
	b := startBroker(t)
	o := small(b.address)
	o.Topic, o.Records = "twice", 1
	w, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
	if _, err := Start(t.Context(), o); !errors.Is(err, kerr.TopicAlreadyExists) {
		t.Errorf("the topic exists: %v", err)
	}
	for _, bad := range []Options{{}, {Bootstrap: []string{b.address}, Rate: -1}, small(b.address, kgo.MaxBufferedRecords(-1))} {
		if _, err := Start(t.Context(), bad); err == nil {
			t.Errorf("%+v: started", bad)
		}
	}
}

func TestOutcome(t *testing.T) {
	for err, want := range map[error]verify.Outcome{
		nil:                               verify.Acknowledged,
		kerr.MessageTooLarge:              verify.Failed,
		kgo.ErrMaxBuffered:                verify.Failed,
		kgo.ErrClientClosed:               verify.Unknown,
		kerr.RequestTimedOut:              verify.Unknown,
		kerr.NotLeaderForPartition:        verify.Unknown,
		kerr.NotEnoughReplicasAfterAppend: verify.Unknown,
	} {
		if got := outcome(err); got != want {
			t.Errorf("%v: got %v, want %v", err, got, want)
		}
	}
	if got := outcome(fmt.Errorf("send: %w", kerr.InvalidRecord)); got != verify.Failed {
		t.Errorf("a wrapped error: got %v", got)
	}
}

// TestPauseBefore: clients pause before a retry as Kafka's do, by default 100 ms, doubled up to a second, a fifth more or less.
func TestPauseBefore(t *testing.T) {
	for n, want := range []time.Duration{1: 100 * time.Millisecond, 2: 200 * time.Millisecond, 4: 800 * time.Millisecond, 5: time.Second, 100: time.Second} {
		if want == 0 {
			continue
		}
		if got := pauseBefore(n); got < want*8/10 || got > want*12/10 {
			t.Errorf("before retry %d: %v, want about %v", n, got, want)
		}
	}
}
