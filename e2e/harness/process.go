package harness

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

const (
	// logTail is how much of a process's output an error quotes, and logLines how many lines a failed test prints of each.
	logTail  = 8 << 10
	logLines = 5
	// exitLimit is how long a process may take to end after SIGKILL, or its Java tool after SIGTERM.
	exitLimit = 30 * time.Second
)

// logNumber keeps the log files of restarted processes apart.
var logNumber atomic.Int64

// A Process is a child that is ended with the test. Its methods are for the test's goroutine, except Exited.
type Process struct {
	t    testing.TB
	name string
	cmd  *exec.Cmd
	log  string
	done chan struct{}
	err  error // valid once done is closed
}

// Start runs argv in the background. Both output streams go to one file.
func Start(t testing.TB, name string, argv ...string) *Process {
	t.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.SysProcAttr = dieWithParent()
	return startCommand(t, name, cmd)
}

// startCommand is Start for a command that is more than its words.
func startCommand(t testing.TB, name string, cmd *exec.Cmd) *Process {
	t.Helper()
	log := filepath.Join(t.TempDir(), fmt.Sprintf("%s-%d.log", name, logNumber.Add(1)))
	out, err := os.Create(log)
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	p := &Process{t: t, name: name, cmd: cmd, log: log, done: make(chan struct{})}
	go func() {
		p.err = cmd.Wait()
		out.Close()
		close(p.done)
	}()
	t.Cleanup(func() {
		p.Kill9()
		if t.Failed() {
			keepLog(t, p.log)
		}
	})
	return p
}

// Exited is closed when the process has ended.
func (p *Process) Exited() <-chan struct{} { return p.done }

// Kill9 ends the process without any warning and waits until it is gone.
func (p *Process) Kill9() {
	p.t.Helper()
	select {
	case <-p.done:
		return
	default:
	}
	if err := p.cmd.Process.Kill(); err != nil && !strings.Contains(err.Error(), "already finished") {
		p.t.Errorf("kill %s: %v", p.name, err)
	}
	p.wait(exitLimit)
}

// Terminate sends SIGTERM, waits at most limit, and returns how long the process took.
func (p *Process) Terminate(limit time.Duration) time.Duration {
	p.t.Helper()
	return p.Signal(syscall.SIGTERM, limit)
}

// Signal is Terminate with another signal.
func (p *Process) Signal(signal os.Signal, limit time.Duration) time.Duration {
	p.t.Helper()
	start := time.Now()
	if err := p.cmd.Process.Signal(signal); err != nil {
		p.t.Fatalf("%v to %s: %v", signal, p.name, err)
	}
	p.wait(limit)
	return time.Since(start)
}

// Send sends a signal and does not wait for what it does.
func (p *Process) Send(signal os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(signal); err != nil {
		p.t.Fatalf("%v to %s: %v", signal, p.name, err)
	}
}

// ExitCode is the exit status of an ended process; it is -1 when a signal ended it.
func (p *Process) ExitCode() int { return p.cmd.ProcessState.ExitCode() }

func (p *Process) wait(limit time.Duration) {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(limit):
		p.t.Fatalf("%s still runs after %v", p.name, limit)
	}
}

// Output is everything the process wrote so far.
func (p *Process) Output() string {
	b, err := os.ReadFile(p.log)
	if err != nil {
		p.t.Fatal(err)
	}
	return string(b)
}

// Tail is the end of what the process wrote.
func (p *Process) Tail() string {
	out := p.Output()
	if len(out) > logTail {
		out = "..." + out[len(out)-logTail:]
	}
	return out
}

// keepLog keeps the log of a failed test's process in .cache/logs, and prints its last lines.
func keepLog(t testing.TB, path string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Log(err)
		return
	}
	kept, err := storeLog(t.Name(), filepath.Base(path), text)
	if err != nil {
		t.Log(err)
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	t.Logf("%s ends so:\n%s", kept, strings.Join(lines[max(0, len(lines)-logLines):], "\n"))
}

func storeLog(test, name string, text []byte) (path string, err error) {
	root, err := moduleRoot()
	if err != nil {
		return name, err
	}
	path = filepath.Join(root, ".cache", "logs", test, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return path, err
	}
	return path, os.WriteFile(path, text, 0o644)
}

// Run runs a command to its end with the given standard input and returns its standard output. The test fails when the
// command does, or when it takes longer than limit.
func Run(t testing.TB, limit time.Duration, stdin string, argv ...string) string {
	t.Helper()
	out, err := TryRun(limit, stdin, argv...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TryRun is Run for commands that may fail.
func TryRun(limit time.Duration, stdin string, argv ...string) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &stdout, &stderr
	cmd.SysProcAttr = dieWithParent()
	cmd.WaitDelay = exitLimit
	if err := cmd.Start(); err != nil {
		return "", fmt.Errorf("start %s: %w", argv[0], err)
	}
	overdue := time.AfterFunc(limit, func() { cmd.Process.Kill() })
	err := cmd.Wait()
	if !overdue.Stop() {
		err = fmt.Errorf("not done within %v", limit)
	}
	if err != nil {
		return stdout.String(), fmt.Errorf("%s: %w\nstdout: %s\nstderr: %s", strings.Join(argv, " "), err, &stdout, &stderr)
	}
	return stdout.String(), nil
}
