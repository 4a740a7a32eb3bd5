// Package process builds the servers that a cluster needs from the versions that internal/tools pins, and runs them as processes.
//
// Invariants: a binary is built once per machine, whoever asks first; what a process prints last is kept, however it ends.
package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"sync"
	"time"
)

// Command is how a server is run.
type Command struct {
	Name string
	Argv []string
	Env  []string // beside this process's own
	// Health is a URL that answers 200 once the server serves.
	Health string
	// Log gets what the server prints; nil: only its end is kept.
	Log io.Writer
}

// A Process is one run of a server.
type Process struct {
	command Command
	cmd     *exec.Cmd
	exited  chan struct{}
	err     error // of the exit, once exited is closed
	output  tail
}

// readyTimeout is generous: starting takes under a second alone, but the machine may be compiling.
const readyTimeout = 60 * time.Second

// Start runs c in a process group of its own. It does not wait until the server is ready.
func Start(c Command) (*Process, error) {
	p := &Process{command: c, exited: make(chan struct{})}
	p.cmd = exec.Command(c.Argv[0], c.Argv[1:]...)
	p.cmd.Env = append(os.Environ(), c.Env...)
	var out io.Writer = &p.output
	if c.Log != nil {
		out = io.MultiWriter(c.Log, &p.output)
	}
	p.cmd.Stdout, p.cmd.Stderr = out, out
	detach(p.cmd)
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", c.Name, err)
	}
	go func() { // ends with the process, which its starter waits for
		p.err = p.cmd.Wait()
		close(p.exited)
	}()
	return p, nil
}

// Ready waits until the server answers, ends, or ctx does.
func (p *Process) Ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := p.ask(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-p.exited:
			return fmt.Errorf("%s ended: %w", p.command.Name, p.Err())
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready within %v: %w", p.command.Name, readyTimeout, err)
		}
	}
}

func (p *Process) ask(ctx context.Context) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.command.Health, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	_ = response.Body.Close() // nothing of it is wanted
	if response.StatusCode != http.StatusOK {
		return errors.New(response.Status)
	}
	return nil
}

// Signal sends a signal. One to a process that has ended does nothing.
func (p *Process) Signal(signal os.Signal) error {
	if err := p.cmd.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("%v to %s: %w", signal, p.command.Name, err)
	}
	return nil
}

// PID is the id of the process.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Exited is closed when the process has ended.
func (p *Process) Exited() <-chan struct{} { return p.exited }

// Err waits for the end of the process and says how it ended; nil is exit code 0.
func (p *Process) Err() error {
	<-p.exited
	return p.err
}

// Output is what the process printed last.
func (p *Process) Output() string { return p.output.String() }

// A tail keeps the last outputMax bytes of a process's output.
type tail struct {
	mu   sync.Mutex
	tail []byte
}

const outputMax = 16 << 10

func (b *tail) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tail = append(b.tail, p...)
	b.tail = b.tail[max(0, len(b.tail)-outputMax):]
	return len(p), nil
}

func (b *tail) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return string(b.tail)
}
