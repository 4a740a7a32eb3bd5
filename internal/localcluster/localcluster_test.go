package localcluster

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tidemill/tidemill/internal/proctest"
)

// runOptions in the environment makes this test's binary a cluster with these options, so that tests can send it signals.
const runOptions = "TIDEMILL_TEST_LOCAL_CLUSTER"

func TestMain(m *testing.M) {
	text := os.Getenv(runOptions)
	if text == "" {
		os.Exit(m.Run())
	}
	var o Options
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		panic(err)
	}
	o.Out = os.Stdout
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT)
	defer stop()
	if err := Run(ctx, o); err != nil {
		_, _ = io.WriteString(os.Stdout, err.Error())
		os.Exit(1)
	}
}

// A running cluster is a process whose children are the cluster's parts.
type running struct {
	t      *testing.T
	cmd    *exec.Cmd
	mu     sync.Mutex
	output strings.Builder
	exited chan struct{}
}

func startCluster(t *testing.T, o Options) *running {
	t.Helper()
	text, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	r := &running{t: t, cmd: exec.Command(os.Args[0]), exited: make(chan struct{})}
	r.cmd.Env = append(os.Environ(), runOptions+"="+string(text))
	out, err := r.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		for lines := bufio.NewScanner(out); lines.Scan(); {
			r.mu.Lock()
			r.output.WriteString(lines.Text() + "\n")
			r.mu.Unlock()
		}
		_ = r.cmd.Wait() // ProcessState says how it ended
		close(r.exited)
	}()
	t.Cleanup(r.interrupt)
	return r
}

// interrupt sends SIGINT and waits for the end.
func (r *running) interrupt() {
	_ = r.cmd.Process.Signal(syscall.SIGINT) // it may have ended
	select {
	case <-r.exited:
	case <-time.After(time.Minute):
		_ = r.cmd.Process.Kill()
		r.t.Errorf("the cluster lives a minute after SIGINT:\n%s", r.said())
	}
}

func (r *running) said() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.output.String()
}

func (r *running) waitFor(text string) {
	r.t.Helper()
	deadline := time.After(5 * time.Minute) // etcd and MinIO may have to be built
	for tick := time.Tick(20 * time.Millisecond); !strings.Contains(r.said(), text); {
		select {
		case <-tick:
		case <-r.exited:
			r.t.Fatalf("the cluster ended:\n%s", r.said())
		case <-deadline:
			r.t.Fatalf("never said %q:\n%s", text, r.said())
		}
	}
}

// children are the ids of the cluster's processes, by their command lines.
func (r *running) children() map[int]string {
	found := map[int]string{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, file := range stats {
		stat, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		_, rest, _ := strings.Cut(string(stat), ") ")
		fields := strings.Fields(rest)
		if len(fields) < 2 || fields[1] != strconv.Itoa(r.cmd.Process.Pid) {
			continue
		}
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		line, _ := os.ReadFile(filepath.Join(filepath.Dir(file), "cmdline"))
		found[pid] = strings.ReplaceAll(string(line), "\x00", " ")
	}
	return found
}

func (o Options) broker(t *testing.T, stdin string, args ...string) string {
	t.Helper()
	cmd := exec.Command(o.Program, args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("broker %v: %v\n%s", args, err, out)
	}
	return string(out)
}

func testOptions(t *testing.T) Options {
	free := func() string { return proctest.FreeAddress(t) }
	o := Options{
		Folder: t.TempDir(), Program: filepath.Join(t.TempDir(), "broker"),
		Etcd: free(), EtcdPeer: free(), S3: free(), Console: free(),
	}
	for range 3 {
		o.Brokers = append(o.Brokers, Broker{free(), free()})
	}
	return o
}

// TestCluster: records are there after a stop and a start, and nothing is left running.
func TestCluster(t *testing.T) {
	if testing.Short() {
		t.Skip("runs a cluster: skipped with -short")
	}
	o := testOptions(t)
	if out, err := exec.Command("go", "build", "-o", o.Program, "../../cmd/broker").CombinedOutput(); err != nil {
		t.Fatalf("build the broker: %v\n%s", err, out)
	}
	consume := func() string {
		return o.broker(t, "", "consume", "--topic", "hello", "--from-beginning", "--max-messages", "1", "--bootstrap", o.Brokers[0].Kafka)
	}

	first := startCluster(t, o)
	first.waitFor("Ctrl-C stops all")
	o.broker(t, "", "topic", "create", "hello", "--partitions", "6", "--bootstrap", o.Brokers[1].Kafka)
	o.broker(t, "world\n", "produce", "--topic", "hello", "--bootstrap", o.Brokers[2].Kafka)
	if got := consume(); got != "world\n" {
		t.Errorf("consumed %q", got)
	}
	first.stopsAll()

	second := startCluster(t, o)
	second.waitFor("Ctrl-C stops all")
	if said := first.said(); !strings.Contains(said, "logs in "+filepath.Join(o.Folder, "logs")+"\n") || !strings.Contains(said, "--bootstrap "+o.Brokers[0].Kafka+"\n") {
		t.Errorf("the addresses are wrong:\n%s", said)
	}
	if said := second.said(); !strings.Contains(said, "is set up already") {
		t.Errorf("the second run set the cluster up again:\n%s", said)
	}
	if got := consume(); got != "world\n" {
		t.Errorf("consumed %q after a restart", got)
	}
	second.reportsKilled()
	second.stopsAll()
}

// stopsAll interrupts the cluster and sees all its processes end, by themselves.
func (r *running) stopsAll() {
	r.t.Helper()
	children := r.children()
	r.interrupt()
	if code := r.cmd.ProcessState.ExitCode(); code != 0 {
		r.t.Errorf("exit code %d:\n%s", code, r.said())
	}
	for pid, line := range children {
		if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
			r.t.Errorf("still there (%v): %s", err, line)
		}
	}
}

// reportsKilled kills the third broker, and waits until the cluster says so.
func (r *running) reportsKilled() {
	r.t.Helper()
	children := r.children()
	if len(children) == 0 {
		return // no /proc on this system
	}
	if len(children) != 5 {
		r.t.Errorf("%d processes, want 5: %v", len(children), children)
	}
	for pid, line := range children {
		if strings.Contains(line, "--broker-id 3 ") {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				r.t.Fatal(err)
			}
		}
	}
	r.waitFor("broker 3 has ended (signal: killed)")
	r.waitFor("broker-3.log")
	r.waitFor("2 of 3 brokers are left")
}

func TestPortInUse(t *testing.T) {
	o := testOptions(t)
	l, err := net.Listen("tcp", o.Brokers[1].Kafka)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	err = Run(t.Context(), o)
	if err == nil || !strings.Contains(err.Error(), o.Brokers[1].Kafka+", which broker 2 needs, is in use") {
		t.Errorf("got %v", err)
	}
	if left, _ := os.ReadDir(o.Folder); len(left) > 0 {
		t.Errorf("%v was made", left)
	}
}

// TestEtcdForgets: the cluster's etcd does not keep its history for ever, by which it would become full.
func TestEtcdForgets(t *testing.T) {
	argv := strings.Join((&cluster{}).etcdCommand("etcd").Argv, " ")
	if !strings.Contains(argv, "--auto-compaction-mode periodic --auto-compaction-retention 10m") {
		t.Errorf("etcd is started as %s", argv)
	}
}
