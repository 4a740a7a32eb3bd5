// Package peer starts what a run needs as child processes: brokers of several kinds, the S3 simulator, the raw driver. Each
// has a folder for its data and output, and is ended by its id.
package peer

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/tidemill/tidemill/bench/observe"
)

// A Process is a child that runs until Stop.
type Process struct {
	Name string
	log  string
	cmd  *exec.Cmd
	done chan struct{}
	err  error // valid once done is closed
	peak int64 // RSS in bytes, when it was told to end
}

// start runs argv with its output in a file of dir.
func start(dir, name string, env, argv []string) (*Process, error) {
	log := filepath.Join(dir, name+".log")
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.Env = append(os.Environ(), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		out.Close()
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	p := &Process{Name: name, log: log, cmd: cmd, done: make(chan struct{})}
	go func() {
		p.err = cmd.Wait()
		out.Close()
		close(p.done)
	}()
	return p, nil
}

// Usage is what the process has used until now.
func (p *Process) Usage() (observe.Usage, error) { return observe.Process(p.cmd.Process.Pid) }

// PID is the process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Stop asks the process to end, and kills it if it does not.
func (p *Process) Stop() {
	if p == nil {
		return
	}
	p.notePeak()
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	select {
	case <-p.done:
	case <-time.After(15 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

// Kill ends the process as a crash does.
func (p *Process) Kill() {
	p.notePeak()
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.done
}

// notePeak keeps the peak of the memory. What the kernel tells of an ended child counts the parent's memory at the fork.
func (p *Process) notePeak() {
	if usage, err := p.Usage(); err == nil {
		p.peak = max(p.peak, usage.PeakRSS)
	}
}

// until polls ready until it succeeds, the process ends or the time is over.
func (p *Process) until(limit time.Duration, ready func() error) error {
	deadline := time.After(limit)
	for {
		err := ready()
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("%s ended: %w\n%s", p.Name, p.err, p.Tail())
		case <-deadline:
			return fmt.Errorf("%s is not ready: %w\n%s", p.Name, err, p.Tail())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Tail is the end of what the process wrote.
func (p *Process) Tail() string {
	const most = 4 << 10
	b, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(b[max(len(b)-most, 0):])
}

// run runs a command to its end and returns its standard output.
func run(argv ...string) ([]byte, error) {
	var stderr bytes.Buffer
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stderr = &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.Output()
	if err != nil {
		return out, fmt.Errorf("%v: %w\n%s", argv, err, stderr.Bytes())
	}
	return out, nil
}

// root is the folder of the repository.
func root() (string, error) {
	dir, err := os.Getwd()
	for err == nil {
		if _, statErr := os.Stat(filepath.Join(dir, "cmd", "broker", "main.go")); statErr == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("run it inside the repository")
		}
		dir = filepath.Dir(dir)
	}
	return "", err
}
