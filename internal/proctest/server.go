// Package proctest runs the servers that tests need as processes that can be killed, paused and started again.
//
// Invariants: a Server has its own folder and port and ends with its test.
package proctest

import (
	"context"
	"syscall"
	"testing"

	"github.com/tidemill/tidemill/internal/process"
)

// Build returns the path of a tool's binary, building it if it is not in the user's cache.
func Build(t testing.TB, tool process.Tool) (binary string) {
	t.Helper()
	if testing.Short() {
		t.Skipf("needs a built %s: skipped with -short", tool.Name)
	}
	binary, err := tool.Build()
	if err != nil {
		t.Fatalf("build %s: %v", tool.Name, err)
	}
	return binary
}

// A Server is a running process. Its methods fail the test rather than return errors, and must be called from one
// goroutine at a time.
type Server struct {
	t       testing.TB
	command process.Command
	process *process.Process // nil while stopped
}

// Start runs c and returns when it is ready. The test's cleanup stops it.
func Start(t testing.TB, c process.Command) *Server {
	t.Helper()
	s := &Server{t: t, command: c}
	t.Cleanup(s.Stop)
	s.Start()
	return s
}

// FreeAddress returns a loopback address that nobody listens on.
func FreeAddress(t testing.TB) string {
	t.Helper()
	address, err := process.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	return address
}

// Start starts a stopped server with the same address and data, and returns when it is ready.
func (s *Server) Start() {
	s.t.Helper()
	p, err := process.Start(s.command)
	if err != nil {
		s.t.Fatal(err)
	}
	s.process = p
	if err := p.Ready(context.Background()); err != nil {
		s.Stop()
		s.t.Fatalf("start: %v\n%s", err, p.Output())
	}
}

// Stop kills the server; what it acknowledged stays in its folder. Stopping a stopped one does nothing.
func (s *Server) Stop() {
	if s.process == nil {
		return
	}
	if err := s.process.Signal(syscall.SIGKILL); err != nil {
		s.t.Error(err)
	}
	<-s.process.Exited()
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
	if err := s.process.Signal(signal); err != nil {
		s.t.Fatal(err)
	}
}
