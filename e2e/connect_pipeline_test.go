package e2e

import (
	"bytes"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidemill/tidemill/e2e/harness"
)

// A config is a connector's configuration.
type config map[string]string

// A pipeline copies lines of a file through a topic into another file.
type pipeline struct {
	t            *testing.T
	w            *worker
	name         string
	in, out      string
	source, sink config
}

// newPipeline describes FileStreamSource and FileStreamSink around a new topic, which the source creates.
func (w *worker) newPipeline(name string) *pipeline {
	w.t.Helper()
	dir := w.t.TempDir()
	p := &pipeline{t: w.t, w: w, name: name, in: filepath.Join(dir, "in"), out: filepath.Join(dir, "out")}
	p.write(0, 0)
	p.source = config{
		"connector.class": "FileStreamSource", "tasks.max": "1", "file": p.in, "topic": name,
		"topic.creation.default.partitions": "1", "topic.creation.default.replication.factor": replicas(),
	}
	p.sink = config{"connector.class": "FileStreamSink", "tasks.max": "1", "file": p.out, "topics": name}
	return p
}

// pipeline creates a pipeline on the worker and waits until it runs.
func (w *worker) pipeline(name string) *pipeline {
	w.t.Helper()
	p := w.newPipeline(name)
	p.create("source", p.source)
	p.create("sink", p.sink)
	w.checkRunning(name+"-source", name+"-sink")
	return p
}

// create creates or reconfigures one side; further settings override those of base.
func (p *pipeline) create(side string, base config, more ...config) {
	p.t.Helper()
	merged := maps.Clone(base)
	for _, m := range more {
		maps.Copy(merged, m)
	}
	p.w.must(http.MethodPut, "/connectors/"+p.name+"-"+side+"/config", merged)
}

func (p *pipeline) remove() {
	p.t.Helper()
	for _, side := range []string{"-source", "-sink"} {
		p.w.must(http.MethodDelete, "/connectors/"+p.name+side, nil)
	}
}

func (p *pipeline) line(i int) string { return fmt.Sprintf("%s line %08d of a file", p.name, i) }

// write appends lines [from, to) to the source's file.
func (p *pipeline) write(from, to int) {
	p.t.Helper()
	if err := p.append(from, to); err != nil {
		p.t.Fatal(err)
	}
}

func (p *pipeline) append(from, to int) error {
	f, err := os.OpenFile(p.in, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	var b bytes.Buffer
	for i := from; i < to; i++ {
		fmt.Fprintln(&b, p.line(i))
	}
	_, err = f.Write(b.Bytes())
	return err
}

// stream writes lines steadily, far fewer than a worker copies, until finish is called, which returns their number.
func (p *pipeline) stream() (finish func() int) {
	const beat, burst = 10 * time.Millisecond, 5
	end, done := make(chan struct{}), make(chan struct{})
	n, err := 0, error(nil)
	go func() {
		defer close(done)
		pace := time.NewTicker(beat)
		defer pace.Stop()
		for err == nil {
			select {
			case <-pace.C:
				err = p.append(n, n+burst)
				n += burst
			case <-end:
				return
			}
		}
	}()
	var once sync.Once
	finish = func() int {
		once.Do(func() { close(end) })
		<-done
		if err != nil {
			p.t.Errorf("write to the source's file: %v", err)
		}
		return n
	}
	p.t.Cleanup(func() { finish() })
	return finish
}

// lines are the whole lines that have arrived.
func (p *pipeline) lines() []string {
	b, err := os.ReadFile(p.out)
	if err != nil && !os.IsNotExist(err) {
		p.t.Fatal(err)
	}
	lines := strings.Split(string(b), "\n")
	return lines[:len(lines)-1]
}

// reached returns nil once line n-1 has arrived.
func (p *pipeline) reached(n int) error {
	got := p.lines()
	if len(got) < n || got[len(got)-1] != p.line(n-1) && !contained(got, p.line(n-1)) {
		return fmt.Errorf("%d lines have arrived, waiting for line %d", len(got), n)
	}
	return nil
}

// contained looks from the end, where a line just written is.
func contained(lines []string, line string) bool {
	for i := len(lines) - 1; i >= 0; i-- {
		if lines[i] == line {
			return true
		}
	}
	return false
}

// waitExact waits for n lines and checks that they are exactly the first n, in order.
func (p *pipeline) waitExact(n int) {
	p.t.Helper()
	harness.Eventually(p.t, pipelineLimit, "all lines arrive", func() error { return p.reached(n) })
	p.checkExact(n)
}

// checkExact checks that what has arrived is exactly the first n lines, in order.
func (p *pipeline) checkExact(n int) { p.t.Helper(); checkLines(p.t, p.lines(), p.numbered(0, n)) }

// waitLines waits for as many lines as are wanted and checks that they are these, in order.
func (p *pipeline) waitLines(want []string) {
	p.t.Helper()
	var got []string
	harness.Eventually(p.t, pipelineLimit, "all lines arrive", func() error {
		if got = p.lines(); len(got) < len(want) {
			return fmt.Errorf("%d lines have arrived, waiting for %d", len(got), len(want))
		}
		return nil
	})
	checkLines(p.t, got, want)
}

// numbered is lines [from, to) as they are in the source's file.
func (p *pipeline) numbered(from, to int) []string {
	lines := make([]string, 0, to-from)
	for i := from; i < to; i++ {
		lines = append(lines, p.line(i))
	}
	return lines
}

func checkLines(t *testing.T, got, want []string) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%d lines have arrived, want %d", len(got), len(want))
	}
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			t.Fatalf("line %d is %q, want %q", i, got[i], want[i])
		}
	}
}

// waitDistinct waits until each of n lines has arrived at least once, in whatever order, and checks that nothing else has.
func (p *pipeline) waitDistinct(n int) {
	p.t.Helper()
	var arrived map[string]int
	harness.Eventually(p.t, pipelineLimit, "every line arrives", func() error {
		arrived = map[string]int{}
		for _, line := range p.lines() {
			arrived[line]++
		}
		missing, first := 0, -1
		for i := range n {
			if arrived[p.line(i)] == 0 {
				if missing++; missing == 1 {
					first = i
				}
			}
		}
		if missing > 0 {
			return fmt.Errorf("%d of %d lines have not arrived; the first is line %d", missing, n, first)
		}
		return nil
	})
	total := 0
	for _, times := range arrived {
		total += times
	}
	if len(arrived) != n {
		p.t.Errorf("%d different lines have arrived, want the %d that were written", len(arrived), n)
	}
	p.t.Logf("%s: %d lines written, each has arrived; %d repetitions", p.name, n, total-n)
}

// checkNoLoss checks that every one of n lines has arrived, each for the first time in order, and that none of the first
// exact lines ever came again.
func (p *pipeline) checkNoLoss(exact, n int) {
	p.t.Helper()
	report := limited(p.t)
	next := 0
	for at, line := range p.lines() {
		var i int
		if _, err := fmt.Sscanf(line, p.name+" line %d of a file", &i); err != nil || line != p.line(i) {
			report("line %d is not ours: %q", at, line)
			continue
		}
		switch {
		case i == next:
			next++
		case i > next:
			report("line %d arrives where %d is due", i, next)
			next = i + 1
		case i < exact:
			report("line %d, written long before the kill, arrives again", i)
		}
	}
	if next != n {
		p.t.Errorf("%d lines have arrived in order, want %d", next, n)
	}
}
