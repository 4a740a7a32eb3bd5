package peer

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/tidemill/tidemill/bench/readloop"
	"github.com/tidemill/tidemill/bench/s3sim"
	"github.com/tidemill/tidemill/internal/process"
)

const (
	readyLimit = 60 * time.Second
	// brokerName is the name of processes that run the broker built here.
	brokerName = "broker"
)

// A Lab is a temporary folder in which processes run until Close.
type Lab struct {
	dir       string
	self      string // this program
	processes []*Process
	n         int
}

// NewLab makes the folder.
func NewLab() (*Lab, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "bench-")
	if err != nil {
		return nil, err
	}
	return &Lab{dir: dir, self: self}, nil
}

// Close stops what still runs, the youngest first, and removes the folder.
func (l *Lab) Close() error {
	for i := len(l.processes) - 1; i >= 0; i-- {
		l.processes[i].Stop()
	}
	return os.RemoveAll(l.dir)
}

// Folder makes a new folder in the lab.
func (l *Lab) Folder(name string) (string, error) {
	l.n++
	dir := filepath.Join(l.dir, fmt.Sprintf("%s-%d", name, l.n))
	return dir, os.MkdirAll(dir, 0o755)
}

func (l *Lab) start(name string, env, argv []string) (*Process, error) {
	l.n++
	p, err := start(l.dir, fmt.Sprintf("%s-%d", name, l.n), env, argv)
	if err != nil {
		return nil, err
	}
	p.Name = name
	l.processes = append(l.processes, p)
	return p, nil
}

// Started is how many processes were started.
func (l *Lab) Started() int { return len(l.processes) }

// PeakRSS is the largest memory, in bytes, of the brokers built here that ended, leaving out the first processes; 0: there are none.
func (l *Lab) PeakRSS(leave int) int64 {
	var peak int64
	for _, p := range l.processes[leave:] {
		select {
		case <-p.done:
			if p.Name == brokerName {
				peak = max(peak, p.peak)
			}
		default:
		}
	}
	return peak
}

// pinned runs argv on one core; core -1 is anywhere.
func pinned(core int, argv []string) []string {
	if core < 0 {
		return argv
	}
	return append([]string{"taskset", "-c", strconv.Itoa(core)}, argv...)
}

// A Broker answers Kafka clients at Addr.
type Broker struct {
	*Process
	Addr string
	HTTP string // of metrics, where it has them
	Sim  *Sim   // where its data is, if there
	Dir  string // of its embedded etcd, and of its bucket where there is no Sim

	argv, env []string // as it was started
}

// A Sim is an S3 simulator.
type Sim struct {
	*Process
	Endpoint string
}

// Sim starts an S3 simulator that keeps keepMB of large bodies; 0 keeps all.
func (l *Lab) Sim(profile string) (*Sim, error) {
	addr, err := process.FreeAddress()
	if err != nil {
		return nil, err
	}
	p, err := l.start("s3", nil, []string{l.self, "s3", "-listen", addr, "-profile", profile})
	if err != nil {
		return nil, err
	}
	s := &Sim{p, "http://" + addr}
	return s, p.until(readyLimit, func() error { _, err := s.Stats(); return err })
}

// Stats asks for the counters.
func (s *Sim) Stats() (out s3sim.Stats, err error) {
	resp, err := http.Get(s.Endpoint + "/_stats")
	if err != nil {
		return out, err
	}
	defer resp.Body.Close()
	return out, json.NewDecoder(resp.Body).Decode(&out)
}

// Null starts a null broker, a plain one or one that uses its buffers again.
func (l *Lab) Null(core int, plain bool) (*Broker, error) {
	addr, err := process.FreeAddress()
	if err != nil {
		return nil, err
	}
	p, err := l.start("null", nil, pinned(core, []string{l.self, "nullbroker", "-listen", addr, "-plain=" + strconv.FormatBool(plain)}))
	if err != nil {
		return nil, err
	}
	return &Broker{Process: p, Addr: addr}, p.until(readyLimit, func() error { return dials(addr) })
}

func dials(addr string) error {
	nc, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return err
	}
	return nc.Close()
}

// Build makes the broker from the sources of the repository.
func (l *Lab) Build() error {
	dir, err := root()
	if err != nil {
		return err
	}
	_, err = run("go", "build", "-C", dir, "-trimpath", "-ldflags", "-s -w", "-o", l.binary(), "./cmd/broker")
	return err
}

// Use takes a broker that was built before.
func (l *Lab) Use(binary string) error {
	path, err := filepath.Abs(binary)
	if err != nil {
		return err
	}
	return os.Symlink(path, l.binary())
}

func (l *Lab) binary() string { return filepath.Join(l.dir, "broker") }

// Tidemill starts the broker that Build made. Without a simulator it keeps its data in a folder, which is its default.
func (l *Lab) Tidemill(sim *Sim, core int, flags ...string) (*Broker, error) {
	dir, err := l.Folder("data")
	if err != nil {
		return nil, err
	}
	addr, err := process.FreeAddress()
	if err != nil {
		return nil, err
	}
	ops, err := process.FreeAddress()
	if err != nil {
		return nil, err
	}
	b := &Broker{Addr: addr, HTTP: ops, Sim: sim, Dir: dir, env: []string{"AWS_ACCESS_KEY_ID=bench", "AWS_SECRET_ACCESS_KEY=bench"}}
	argv := append([]string{l.binary(), "--listen", addr, "--http", ops, "--data-dir", dir}, flags...)
	if sim != nil {
		argv = append(argv, "--bucket", "s3://bench?region=us-east-1&endpoint="+sim.Endpoint)
	}
	b.argv = pinned(core, argv)
	if b, err = l.Again(b); err != nil {
		return nil, err
	}
	return b, b.Ready()
}

// ReadLoop runs package readloop on a folder, in a process of its own that sends to this one.
func (l *Lab) ReadLoop(dir string) (r readloop.Result, err error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, ln.Close()) }()
	go func() {
		nc, err := ln.Accept()
		if err != nil {
			return // closed before anybody came
		}
		defer nc.Close()
		_, _ = io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{nc}, make([]byte, 1<<20)) // its sender says what failed
	}()
	raw, err := run(l.self, "readloop", "-dir", dir, "-to", ln.Addr().String())
	if err != nil {
		return r, err
	}
	return r, json.Unmarshal(raw, &r)
}

// Raw runs the raw driver in a process of its own and reads its result into out.
func (l *Lab) Raw(core int, out any, args ...string) error {
	raw, err := run(pinned(core, append([]string{l.self, "raw"}, args...))...)
	if err != nil {
		return err
	}
	return json.Unmarshal(raw, out)
}
