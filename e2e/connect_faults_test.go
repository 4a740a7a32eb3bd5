package e2e

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidemill/tidemill/e2e/harness"
)

// testConnectDeadLetters sends bad JSON to a sink that reads JSON: without tolerance its task fails, with tolerance what is
// bad goes into a dead letter queue, each with where it was and why it is there, and what is good arrives.
func testConnectDeadLetters(t *testing.T, c *connectCluster) {
	w := c.workers[0].with(t)
	const topic, letters, n, oneBadIn = "json", "json-letters", 200, 4
	c.createTopic(t, topic, 1)
	var good []string
	var records []*kgo.Record
	bad := map[string]string{} // by offset
	for i := range n {
		value := fmt.Sprintf(`{"n":%d}`, i)
		if i%oneBadIn == oneBadIn-1 {
			value = fmt.Sprintf(`{"n":%d`, i)
			bad[strconv.Itoa(i)] = value
		} else {
			good = append(good, fmt.Sprintf("{n=%d}", i))
		}
		records = append(records, &kgo.Record{Topic: topic, Value: []byte(value)})
	}
	c.produce(t, records...)
	p := w.newPipeline(topic)
	sink := topic + "-sink"
	p.sink["value.converter"] = "org.apache.kafka.connect.json.JsonConverter"
	p.sink["value.converter.schemas.enable"] = "false"
	p.create("sink", p.sink)
	defer w.must(http.MethodDelete, "/connectors/"+sink, nil)
	status := w.waitStates(sink, running, failed, 1)
	if trace := status.Tasks[0].Trace; !strings.Contains(trace, "DataException") {
		t.Errorf("the task failed of %q, want a DataException", trace)
	}
	if got := p.lines(); len(got) >= oneBadIn {
		t.Errorf("%d lines have arrived, past the first bad record", len(got))
	}

	p.create("sink", p.sink, config{
		"errors.tolerance": "all", "errors.deadletterqueue.topic.name": letters,
		"errors.deadletterqueue.topic.replication.factor": replicas(), "errors.deadletterqueue.context.headers.enable": "true",
	})
	harness.Eventually(t, pipelineLimit, "good records arrive", func() error {
		got := slices.Compact(slices.Sorted(slices.Values(p.lines())))
		if want := slices.Sorted(slices.Values(good)); !slices.Equal(got, want) {
			return fmt.Errorf("%d different lines, want %d", len(got), len(want))
		}
		return nil
	})
	c.waitEnd(t, letters, int64(len(bad)))
	for _, r := range c.read(t, letters, len(bad)) {
		checkLetter(t, r, topic, sink, bad)
	}
	w.checkRunning(sink)
}

// checkLetter checks one dead letter, whose value is what the converter could not read, and takes it off the list.
func checkLetter(t *testing.T, r *kgo.Record, topic, connector string, bad map[string]string) {
	t.Helper()
	headers := map[string]string{}
	for _, h := range r.Headers {
		headers[strings.TrimPrefix(h.Key, "__connect.errors.")] = string(h.Value)
	}
	at := headers["offset"]
	if want, ok := bad[at]; !ok || string(r.Value) != want {
		t.Errorf("letter %q comes from offset %q, where %q was", r.Value, at, want)
	}
	delete(bad, at)
	for key, want := range map[string]string{
		"topic": topic, "partition": "0", "connector.name": connector, "task.id": "0", "stage": "VALUE_CONVERTER",
		"class.name":           "org.apache.kafka.connect.json.JsonConverter",
		"exception.class.name": "org.apache.kafka.connect.errors.DataException",
	} {
		if headers[key] != want {
			t.Errorf("letter of offset %s has %s=%q, want %q", at, key, headers[key], want)
		}
	}
	if headers["exception.message"] == "" || headers["exception.stacktrace"] == "" {
		t.Errorf("letter of offset %s has no message or stack trace: has %v", at, slices.Collect(maps.Keys(headers)))
	}
}

// testConnectFailedTasks makes both sides of a pipeline fail, since the folders of their files are not there, and restarts
// the failed tasks once they are. The sink's refused target costs no line.
func testConnectFailedTasks(t *testing.T, c *connectCluster) {
	w := c.workers[0].with(t)
	const name, n = "failing", 1000
	source, sink := name+"-source", name+"-sink"
	p := w.newPipeline(name)
	dir := filepath.Dir(p.in)
	block := filepath.Join(dir, "no-folder") // a file: no connector may open, or wait for, anything in it
	if err := os.WriteFile(block, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	p.in, p.out = filepath.Join(block, "in"), filepath.Join(dir, "none", "out")
	p.create("source", p.source, config{"file": p.in})
	p.create("sink", p.sink, config{"file": p.out})
	defer p.remove()
	w.waitStates(source, running, failed, 1)
	status := w.waitStates(sink, running, failed, 1)
	if trace := status.Tasks[0].Trace; !strings.Contains(trace, p.out) {
		t.Errorf("the sink's task failed of %q, which does not name %s", trace, p.out)
	}

	if err := errors.Join(os.Remove(block), os.Mkdir(block, 0o755)); err != nil {
		t.Fatal(err)
	}
	p.write(0, n)
	w.must(http.MethodPost, "/connectors/"+source+"/restart?includeTasks=true&onlyFailed=true", nil)
	w.checkRunning(source)
	c.waitEnd(t, name, n) // all of it waits for the sink
	mark := c.log.read(t)
	w.must(http.MethodPost, "/connectors/"+sink+"/tasks/0/restart", nil)
	harness.Eventually(t, workerLimit, "the sink is refused again", func() error {
		if states := c.log.since(t, mark, sink+"/0"); !slices.Contains(states, failed) {
			return fmt.Errorf("went through %v", states)
		}
		return nil
	})
	if err := os.Mkdir(filepath.Dir(p.out), 0o755); err != nil {
		t.Fatal(err)
	}
	w.must(http.MethodPost, "/connectors/"+sink+"/restart?includeTasks=true&onlyFailed=true", nil)
	w.checkRunning(sink)
	p.waitExact(n)
	p.write(n, 2*n)
	p.waitExact(2 * n)
}

// testConnectTopicDeleted deletes one of the two topics of a running sink and makes it anew: the sink goes on with the other
// topic, and reads the new one from its beginning, since offsets committed for the old one are gone with it.
func testConnectTopicDeleted(t *testing.T, c *connectCluster) {
	w := c.workers[0].with(t)
	const name, kept, gone, n = "deleted", "deleted-kept", "deleted-gone", 100
	c.createTopic(t, kept, 1)
	c.createTopic(t, gone, 1)
	p := w.newPipeline(name)
	sink := name + "-sink"
	p.create("sink", p.sink, config{"topics": kept + "," + gone, "consumer.override.metadata.max.age.ms": "500",
		"consumer.override.allow.auto.create.topics": "false"})
	defer w.must(http.MethodDelete, "/connectors/"+sink, nil)
	var want []string
	send := func(topic, when string) {
		var records []*kgo.Record
		for i := range n {
			line := fmt.Sprintf("%s %s %d", topic, when, i)
			want = append(want, line)
			records = append(records, &kgo.Record{Topic: topic, Value: []byte(line)})
		}
		c.produce(t, records...)
	}
	arrived := func() {
		t.Helper()
		harness.Eventually(t, pipelineLimit, "every line arrives", func() error {
			have := map[string]bool{}
			for _, line := range p.lines() {
				have[line] = true
			}
			for _, line := range want {
				if !have[line] {
					return fmt.Errorf("%d different lines of %d have arrived, not %q", len(have), len(want), line)
				}
			}
			return nil
		})
	}
	send(kept, "before")
	send(gone, "before")
	arrived()
	harness.Eventually(t, workerLimit, "offsets are committed", func() error { return c.committed(sink, gone, n) })

	if _, err := c.admin.DeleteTopic(t.Context(), gone); err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, workerLimit, "the sink has let go of the topic", func() error { return c.assigned(sink, kept) })
	send(kept, "meanwhile")
	arrived()
	harness.Eventually(t, workerLimit, "offsets of the topic are gone", func() error { return c.committed(sink, gone, -1) })

	harness.Eventually(t, workerLimit, "the topic is made anew", func() error { // Kafka deletes in the background
		_, err := c.admin.CreateTopic(t.Context(), 1, 1, nil, gone)
		return err
	})
	send(gone, "after")
	arrived()
	w.checkRunning(sink)
}

// testConnectPartitionsAdded adds partitions to the topic of a running pipeline: the source's producer writes to the new ones,
// and the sink's tasks share them.
func testConnectPartitionsAdded(t *testing.T, c *connectCluster) {
	w := c.workers[0].with(t)
	const name, partitions = "grown", 4
	c.createTopic(t, name, 1)
	p := w.newPipeline(name)
	p.create("source", p.source, config{"producer.override.metadata.max.age.ms": "500", "producer.override.batch.size": "256"})
	p.create("sink", p.sink, config{"tasks.max": "2", "consumer.override.metadata.max.age.ms": "500"})
	defer p.remove()
	w.waitStates(name+"-sink", running, running, 2)
	finish := p.stream()
	harness.Eventually(t, pipelineLimit, "lines arrive", func() error { return p.reached(100) })

	if _, err := c.admin.UpdatePartitions(t.Context(), partitions, name); err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, pipelineLimit, "the source writes to every partition", func() error {
		ends, err := c.admin.ListEndOffsets(t.Context(), name)
		if err != nil {
			return err
		}
		for partition := range int32(partitions) {
			if end := ends[name][partition]; end.Err != nil || end.Offset == 0 {
				return fmt.Errorf("partition %d ends at %d, error %v", partition, end.Offset, end.Err)
			}
		}
		return nil
	})
	p.waitDistinct(finish())
	var shared []string
	for i := range partitions {
		shared = append(shared, fmt.Sprintf("%s-%d", name, i))
	}
	if got, err := c.members(t.Context(), "connect-"+name+"-sink"); err != nil || len(got) != 2 {
		t.Errorf("the sink's group has members %v, error %v; want 2", got, err)
	} else if all := slices.Sorted(slices.Values(slices.Concat(got...))); len(got[0]) != 2 || !slices.Equal(all, shared) {
		t.Errorf("the sink's tasks are assigned %v, want two of %v each", got, shared)
	}
}
