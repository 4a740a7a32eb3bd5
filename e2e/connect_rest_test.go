package e2e

import (
	"fmt"
	"net/http"
	"slices"
	"testing"

	"github.com/tidemill/tidemill/e2e/harness"
)

// testConnectLifecycle pauses, resumes, stops and restarts connectors and tasks. Each of it is clean, so that every line
// arrives exactly once and in order.
func testConnectLifecycle(t *testing.T, c *connectCluster) {
	w := c.workers[0].with(t)
	p := w.pipeline("lifecycle")
	defer p.remove()
	const step = 1000
	source, sink := "lifecycle-source", "lifecycle-sink"
	p.write(0, step)
	p.waitExact(step)

	w.must(http.MethodPut, "/connectors/"+sink+"/pause", nil)
	w.waitStates(sink, paused, paused, 1)
	p.write(step, 2*step) // the source goes on, the sink does not
	c.waitEnd(t, "lifecycle", 2*step)
	p.checkExact(step)
	w.must(http.MethodPut, "/connectors/"+source+"/pause", nil)
	w.waitStates(source, paused, paused, 1)
	p.write(2*step, 3*step)
	w.resume(sink)
	p.waitExact(2 * step)
	c.waitEnd(t, "lifecycle", 2*step)
	w.resume(source)
	p.waitExact(3 * step)

	w.stop(source)
	w.stop(sink)
	p.write(3*step, 4*step)
	w.resume(source)
	w.resume(sink)
	p.waitExact(4 * step)

	for i, path := range []string{
		"/connectors/%s/restart",                                    // the connector alone
		"/connectors/%s/restart?includeTasks=true&onlyFailed=false", // and its tasks
		"/connectors/%s/tasks/0/restart",                            // one task
	} {
		for _, name := range []string{source, sink} {
			mark := c.log.read(t)
			w.must(http.MethodPost, fmt.Sprintf(path, name), nil)
			if i != 2 {
				c.waitRestarted(t, mark, name)
			}
			if i != 0 {
				c.waitRestarted(t, mark, name+"/0")
			}
		}
		p.write((4+i)*step, (5+i)*step)
		p.waitExact((5 + i) * step)
	}
}

// waitRestarted waits until a connector or task has been taken down and runs again.
func (c *connectCluster) waitRestarted(t *testing.T, mark int, of string) {
	t.Helper()
	harness.Eventually(t, workerLimit, of+" is restarted", func() error {
		states := c.log.since(t, mark, of)
		down := slices.ContainsFunc(states, func(s string) bool { return s != running })
		if !down || states[len(states)-1] != running {
			return fmt.Errorf("went through %v", states)
		}
		return nil
	})
}

// connectOffsets is the body of GET and PATCH /connectors/<name>/offsets.
type connectOffsets struct {
	Offsets []connectOffset `json:"offsets"`
}

type connectOffset struct {
	Partition map[string]any `json:"partition"`
	Offset    map[string]any `json:"offset"` // nil takes the offset away
}

func sourceOffset(file string, position int) connectOffsets {
	return connectOffsets{[]connectOffset{{map[string]any{"filename": file}, map[string]any{"position": float64(position)}}}}
}

func sinkOffset(topic string, offset int) connectOffsets {
	return connectOffsets{[]connectOffset{
		{map[string]any{"kafka_topic": topic, "kafka_partition": 0.0}, map[string]any{"kafka_offset": float64(offset)}},
	}}
}

// testConnectOffsets reads, alters and resets the offsets of a source, which Connect keeps in a compacted topic, and of a
// sink, which are those of a consumer group.
func testConnectOffsets(t *testing.T, c *connectCluster) {
	w := c.workers[0].with(t)
	p := w.pipeline("offsets")
	defer p.remove()
	const n, back = 500, 100
	p.write(0, n)
	p.waitExact(n)
	source, sink := "offsets-source", "offsets-sink"
	lineLen := len(p.line(0)) + 1

	// The source reads the last lines again, then all of them: each is one more record.
	checkRefused(t, w, source)
	w.stop(source)
	w.waitOffsets(source, sourceOffset(p.in, n*lineLen))
	w.must(http.MethodPatch, "/connectors/"+source+"/offsets", sourceOffset(p.in, (n-back)*lineLen))
	w.waitOffsets(source, sourceOffset(p.in, (n-back)*lineLen))
	w.resume(source)
	c.waitEnd(t, "offsets", n+back)
	w.stop(source)
	w.waitOffsets(source, sourceOffset(p.in, n*lineLen))
	w.must(http.MethodDelete, "/connectors/"+source+"/offsets", nil)
	w.waitOffsets(source, connectOffsets{[]connectOffset{}})
	w.resume(source)
	const all = n + back + n
	c.waitEnd(t, "offsets", all)
	want := slices.Concat(p.numbered(0, n), p.numbered(n-back, n), p.numbered(0, n))
	p.waitLines(want)

	// The sink copies the last records again, then all of them, twice: reset by the whole and by the partition.
	checkRefused(t, w, sink)
	w.stop(sink)
	w.waitOffsets(sink, sinkOffset("offsets", all))
	w.must(http.MethodPatch, "/connectors/"+sink+"/offsets", sinkOffset("offsets", all-back))
	w.waitOffsets(sink, sinkOffset("offsets", all-back))
	w.resume(sink)
	want = append(want, p.numbered(n-back, n)...)
	p.waitLines(want)
	records := slices.Clone(want[:all])
	w.stop(sink)
	w.must(http.MethodDelete, "/connectors/"+sink+"/offsets", nil)
	w.waitOffsets(sink, connectOffsets{[]connectOffset{}})
	w.resume(sink)
	want = append(want, records...)
	p.waitLines(want)
	w.stop(sink)
	w.waitOffsets(sink, sinkOffset("offsets", all))
	none := sinkOffset("offsets", 0)
	none.Offsets[0].Offset = nil
	w.must(http.MethodPatch, "/connectors/"+sink+"/offsets", none)
	w.waitOffsets(sink, connectOffsets{[]connectOffset{}})
	w.resume(sink)
	p.waitLines(append(want, records...))
}

// checkRefused checks that nobody alters or resets the offsets of a connector at work.
func checkRefused(t *testing.T, w *worker, name string) {
	t.Helper()
	for _, method := range []string{http.MethodPatch, http.MethodDelete} {
		var body any
		if method == http.MethodPatch {
			body = sinkOffset("offsets", 0)
		}
		if err := w.call(method, "/connectors/"+name+"/offsets", body, nil); err == nil {
			t.Errorf("%s of the offsets of %s while it runs is not refused", method, name)
		}
	}
}
