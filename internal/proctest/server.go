// Package proctest builds the servers that tests need from the versions that internal/tools pins, and runs them as
// processes that can be killed, paused and started again.
//
// Invariants: a binary is built once per machine, whoever asks first; a Server has its own folder and port and ends with
// its test.
package proctest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Command is how a Server is run.
type Command struct {
	Name string
	Argv []string
	Env  []string // beside the test's own
	// Health is a URL that answers 200 once the server serves.
	Health string
}

// A Server is a running process. Its methods fail the test rather than return errors, and must be called from one
// goroutine at a time.
type Server struct {
	t       testing.TB
	command Command
	process *process // nil while stopped
}

// A process is one run of the binary. exited is closed once err and output may be read.
type process struct {
	cmd    *exec.Cmd
	exited chan struct{}
	err    error
	output lockedBuffer
}

// readyTimeout is generous: starting takes under a second alone, but the machine may be compiling.
const readyTimeout = 60 * time.Second

// Start runs c and returns when it is ready. The test's cleanup stops it.
func Start(t testing.TB, c Command) *Server {
	t.Helper()
	s := &Server{t: t, command: c}
	t.Cleanup(s.Stop)
	s.Start()
	return s
}

// FreeAddress returns a loopback address that nobody listens on.
func FreeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("find a free port: %v", err)
	}
	defer l.Close()
	return l.Addr().String()
}

// Start starts a stopped server with the same address and data, and returns when it is ready.
func (s *Server) Start() {
	s.t.Helper()
	p := &process{exited: make(chan struct{})}
	p.cmd = exec.Command(s.command.Argv[0], s.command.Argv[1:]...)
	p.cmd.Env = append(os.Environ(), s.command.Env...)
	p.cmd.Stdout, p.cmd.Stderr = &p.output, &p.output
	endWithParent(p.cmd)
	if err := p.cmd.Start(); err != nil {
		s.t.Fatalf("start %s: %v", s.command.Name, err)
	}
	go func() { // ends with the process, which Stop waits for
		p.err = p.cmd.Wait()
		close(p.exited)
	}()
	s.process = p
	if err := s.ready(); err != nil {
		s.Stop()
		s.t.Fatalf("start %s: %v\n%s", s.command.Name, err, p.output.String())
	}
}

// ready waits until the server answers.
func (s *Server) ready() error {
	ctx, cancel := context.WithTimeout(context.Background(), readyTimeout)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.command.Health, nil)
		if err != nil {
			return err
		}
		response, err := http.DefaultClient.Do(request)
		if err == nil {
			_ = response.Body.Close() // nothing of it is wanted
			if response.StatusCode == http.StatusOK {
				return nil
			}
			err = errors.New(response.Status)
		}
		select {
		case <-tick.C:
		case <-s.process.exited:
			return fmt.Errorf("it ended: %w", s.process.err)
		case <-ctx.Done():
			return fmt.Errorf("not ready within %v: %w", readyTimeout, err)
		}
	}
}

// Stop kills the server; what it acknowledged stays in its folder. Stopping a stopped one does nothing.
func (s *Server) Stop() {
	if s.process == nil {
		return
	}
	if err := s.process.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		s.t.Errorf("stop %s: %v", s.command.Name, err)
	}
	<-s.process.exited
	s.process = nil
}

// Restart stops the server and starts it with the same address and data.
func (s *Server) Restart() {
	s.t.Helper()
	s.Stop()
	s.Start()
}

// Pause freezes the server: connections stay, requests hang.
func (s *Server) Pause() {
	s.t.Helper()
	s.signal(syscall.SIGSTOP)
}

// Resume ends a Pause.
func (s *Server) Resume() {
	s.t.Helper()
	s.signal(syscall.SIGCONT)
}

func (s *Server) signal(signal syscall.Signal) {
	s.t.Helper()
	if s.process == nil {
		s.t.Fatalf("%v: %s is stopped", signal, s.command.Name)
	}
	if err := s.process.cmd.Process.Signal(signal); err != nil {
		s.t.Fatalf("%v to %s: %v", signal, s.command.Name, err)
	}
}

// A lockedBuffer keeps the last outputMax bytes of a process's output.
type lockedBuffer struct {
	mu   sync.Mutex
	tail []byte
}

const outputMax = 16 << 10

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tail = append(b.tail, p...)
	b.tail = b.tail[max(0, len(b.tail)-outputMax):]
	return len(p), nil
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return string(b.tail)
}
