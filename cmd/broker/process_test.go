package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/tidemill/tidemill/internal/proctest"
)

// runMain in the environment makes this test's binary the command itself, so that tests can send it signals.
const runMain = "TIDEMILL_TEST_RUN_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(runMain) != "" {
		os.Unsetenv(runMain)
		main()
	}
	os.Exit(m.Run())
}

// A brokerProcess is the command in a process of its own.
type brokerProcess struct {
	t       *testing.T
	cmd     *exec.Cmd
	address string
	log     bytes.Buffer // may be read when exited is closed
	begun   time.Time
	ready   time.Duration // from exec to the banner
	exited  chan struct{}
}

// startProcess runs the command on a folder and returns when its banner is out.
func startProcess(t *testing.T, dir string, args ...string) *brokerProcess {
	t.Helper()
	p := &brokerProcess{t: t, address: proctest.FreeAddress(t), exited: make(chan struct{})}
	p.cmd = exec.Command(os.Args[0], append([]string{"--listen", p.address, "--http", "127.0.0.1:0", "--data-dir", dir}, args...)...)
	p.cmd.Env = append(os.Environ(), runMain+"=1")
	p.cmd.Stderr = &p.log
	banner, stdout := io.Pipe()
	p.cmd.Stdout = stdout
	p.begun = time.Now()
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait() // ProcessState says how it ended
		stdout.Close()
		close(p.exited)
	}()
	t.Cleanup(func() { p.signal(syscall.SIGKILL) })
	first := make([]byte, 1)
	if _, err := io.ReadFull(banner, first); err != nil {
		<-p.exited
		t.Fatalf("the broker ended before its banner: %v\n%s", p.cmd.ProcessState, p.log.String())
	}
	p.ready = time.Since(p.begun)
	go io.Copy(io.Discard, banner) // ends with the process
	return p
}

// signal sends a signal that ends the process, and returns how long that took.
func (p *brokerProcess) signal(s syscall.Signal) time.Duration {
	p.t.Helper()
	begun := time.Now()
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Errorf("signal %v: %v", s, err)
	}
	select {
	case <-p.exited:
	case <-time.After(time.Minute):
		p.t.Fatalf("the broker lives a minute after %v", s)
	}
	return time.Since(begun)
}

func (p *brokerProcess) client(opts ...kgo.Opt) *kgo.Client {
	p.t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(p.address)}, opts...)...)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(cl.Close)
	return cl
}

// createTopic makes a topic with one partition.
func (p *brokerProcess) createTopic(ctx context.Context, name string) {
	p.t.Helper()
	if _, err := kadm.NewClient(p.client()).CreateTopic(ctx, 1, 1, nil, name); err != nil {
		p.t.Fatal(err)
	}
}

// TestFirstAcknowledgedRecord prints how long a start takes, with nothing, a clean stop and a kill before it.
func TestFirstAcknowledgedRecord(t *testing.T) {
	dir := t.TempDir()
	ctx := t.Context()
	for i, before := range []struct {
		name string
		ends syscall.Signal
	}{{"fresh folder", syscall.SIGTERM}, {"after a clean stop", syscall.SIGKILL}, {"after kill -9", syscall.SIGTERM}} {
		p := startProcess(t, dir)
		if i == 0 {
			p.createTopic(ctx, "t")
		}
		r, err := p.client().ProduceSync(ctx, &kgo.Record{Topic: "t", Value: []byte("v")}).First()
		if err != nil {
			t.Fatalf("%s: %v", before.name, err)
		}
		if r.Offset != int64(i) {
			t.Errorf("%s: the record is at offset %d, want %d", before.name, r.Offset, i)
		}
		first := time.Since(p.begun)
		stopped := p.signal(before.ends)
		t.Logf("%s: banner after %v, first acknowledged record after %v, gone %v after %v",
			before.name, p.ready.Round(time.Millisecond), first.Round(time.Millisecond), stopped.Round(time.Millisecond), before.ends)
	}
}

// An acknowledged record is found at its offset later.
type ledger struct {
	mu    sync.Mutex
	acked map[int64]string
	twice []int64
	some  chan struct{} // closed when there are enough
}

func (l *ledger) note(r *kgo.Record, enough int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.acked[r.Offset]; ok {
		l.twice = append(l.twice, r.Offset)
	}
	l.acked[r.Offset] = string(r.Value)
	if len(l.acked) == enough {
		close(l.some)
	}
}

// check reads the topic from its beginning: every acknowledged record is at its offset, and no value is there twice.
func (l *ledger) check(ctx context.Context, t *testing.T, cl *kgo.Client) {
	t.Helper()
	end, err := kadm.NewClient(cl).ListEndOffsets(ctx, "t")
	if err != nil {
		t.Fatal(err)
	}
	o, _ := end.Lookup("t", 0)
	seen := map[string]int64{}
	for next := int64(0); next < o.Offset; {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatal(err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			next = r.Offset + 1
			if at, ok := seen[string(r.Value)]; ok {
				t.Errorf("%q is at offsets %d and %d", r.Value, at, r.Offset)
			}
			seen[string(r.Value)] = r.Offset
		})
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for offset, value := range l.acked {
		if at, ok := seen[value]; !ok || at != offset {
			t.Errorf("%q was acknowledged at offset %d: found %v at %d", value, offset, ok, at)
		}
	}
	if len(l.twice) > 0 {
		t.Errorf("offsets acknowledged for two records: %v", l.twice)
	}
	t.Logf("%d records acknowledged, %d in the topic", len(l.acked), o.Offset)
}

// produceUntil sends records, some in flight at any time, until ctx ends.
func (l *ledger) produceUntil(ctx context.Context, cl *kgo.Client, name string) {
	for i := 0; ctx.Err() == nil; i++ {
		cl.Produce(ctx, &kgo.Record{Topic: "t", Value: fmt.Appendf(nil, "%s-%d", name, i)}, func(r *kgo.Record, err error) {
			if err == nil {
				l.note(r, 2000)
			}
		})
	}
}

func TestSigtermUnderLoad(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	p := startProcess(t, dir, "--kafka", "group.initial.rebalance.delay.ms=60000")
	p.createTopic(ctx, "t")
	p.createTopic(ctx, "empty")

	var running sync.WaitGroup
	defer running.Wait()
	working, stopWork := context.WithCancel(ctx)
	defer stopWork()
	parked := p.park(working, &running)
	l := &ledger{acked: map[int64]string{}, some: make(chan struct{})}
	for i := range 3 {
		cl := p.client(kgo.MaxBufferedRecords(500), kgo.UnknownTopicRetries(-1))
		running.Go(func() { l.produceUntil(working, cl, fmt.Sprint("p", i)) })
	}
	idle := p.client()
	if err := idle.Ping(ctx); err != nil {
		t.Fatal(err)
	}
	<-l.some
	for groups := kadm.NewClient(idle); ; {
		g, err := groups.DescribeGroups(ctx, "g")
		if err != nil {
			t.Fatal(err)
		}
		if g["g"].State == "PreparingRebalance" {
			break
		}
	}
	if n := parked(); n != 0 {
		t.Errorf("%d of the requests that should wait were answered", n)
	}
	took := p.signal(syscall.SIGTERM)
	t.Logf("SIGTERM took %v\n%s", took.Round(time.Millisecond), p.log.String())
	if took > 10*time.Second {
		t.Errorf("SIGTERM took %v, want at most 5 s on an idle machine", took)
	}
	slowDisk := false // the log could not be closed in the broker's time for that
	for _, said := range []string{"the last checkpoint was not written", "not marked so", "close log: context deadline exceeded"} {
		slowDisk = slowDisk || strings.Contains(p.log.String(), said)
	}
	if code := p.cmd.ProcessState.ExitCode(); code != exitOK && !slowDisk {
		t.Errorf("exit code %d\n%s", code, p.log.String())
	}
	stopWork()
	running.Wait()

	again := startProcess(t, dir)
	l.check(ctx, t, again.client(kgo.ConsumeTopics("t")))
	took = again.signal(syscall.SIGTERM)
	t.Logf("the second start took %v to its banner, its stop %v", again.ready.Round(time.Millisecond), took.Round(time.Millisecond))
	if log := again.log.String(); strings.Contains(log, "ended the log of a previous life") && !slowDisk {
		t.Errorf("the log was not closed; the second start had to end it:\n%s", log)
	}
}

// park sends a fetch and a join that have nothing to answer for a minute. The result tells how many were answered.
func (p *brokerProcess) park(ctx context.Context, running *sync.WaitGroup) (answered func() int) {
	fetch := kmsg.NewPtrFetchRequest()
	fetch.ReplicaID, fetch.MaxWaitMillis, fetch.MinBytes, fetch.MaxBytes, fetch.SessionEpoch = -1, 60_000, 1, 1<<20, -1
	partition := kmsg.NewFetchRequestTopicPartition()
	partition.PartitionMaxBytes, partition.CurrentLeaderEpoch = 1<<20, -1
	topic := kmsg.NewFetchRequestTopic()
	topic.Topic, topic.Partitions = "empty", append(topic.Partitions, partition)
	fetch.Topics = append(fetch.Topics, topic)

	join := kmsg.NewPtrJoinGroupRequest()
	join.Group, join.ProtocolType, join.SessionTimeoutMillis, join.RebalanceTimeoutMillis = "g", "consumer", 30_000, 60_000
	protocol := kmsg.NewJoinGroupRequestProtocol()
	protocol.Name = "range"
	join.Protocols = append(join.Protocols, protocol)

	versions := kversion.Stable()
	versions.SetMaxKeyVersion(fetch.Key(), 12) // topics by name
	versions.SetMaxKeyVersion(join.Key(), 3)   // a member id is given at once
	cl := p.client(kgo.MaxVersions(versions), kgo.RetryTimeout(time.Minute))
	var mu sync.Mutex
	n := 0
	for _, req := range []kmsg.Request{fetch, join} {
		running.Go(func() {
			if req.Key() == fetch.Key() {
				_, _ = cl.Broker(1).Request(ctx, req) // the stop answers it or not
			} else {
				_, _ = cl.Request(ctx, req)
			}
			mu.Lock()
			defer mu.Unlock()
			n++
		})
	}
	return func() int {
		mu.Lock()
		defer mu.Unlock()
		return n
	}
}
