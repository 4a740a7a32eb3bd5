package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidemill/tidemill/e2e/harness"
)

// canaries are topics whose records are deleted as soon as anybody looks at them: by retention, and by the cleaner.
var canaries = map[string]string{"canary-delete": "delete", "canary-compact": "compact,delete"}

// A shelf is a broker with topics that retain what they are told to, and the tools to watch them.
type shelf struct {
	t      *testing.T
	broker *harness.Broker
	tools  *harness.Tools
	client *kgo.Client
	admin  *kadm.Client
	// begun is the time that the ages of records count from.
	begun time.Time
}

func newShelf(t *testing.T) *shelf {
	t.Helper()
	broker := harness.NewBroker(t, eager(nil))
	client := broker.Client(kgo.ProducerBatchCompression(kgo.NoCompression()))
	s := &shelf{t: t, broker: broker, tools: harness.StartTools(t, toolHeap), client: client, admin: kadm.NewClient(client),
		begun: time.UnixMilli(time.Now().UnixMilli())}
	for topic, policy := range canaries {
		s.create(topic, retained{configs: map[string]string{"cleanup.policy": policy}})
		s.retain(topic, map[string]string{"retention.ms": "1"})
	}
	return s
}

// with is the same shelf as seen by a subtest.
func (s *shelf) with(t *testing.T) *shelf {
	other := *s
	other.t = t
	return &other
}

// tool calls one of Kafka's tools, which must succeed, and returns what it prints.
func (s *shelf) tool(name, stdin string, args ...string) string {
	s.t.Helper()
	got := s.tools.Call(callLimit, commands[name], stdin, append([]string{"--bootstrap-server", s.broker.Addr}, args...)...)
	if got.Status != 0 {
		s.t.Fatalf("%s %v: status %d\n%s%s", name, args, got.Status, got.Stdout, got.Stderr)
	}
	return got.Stdout
}

// offsets are what kafka-get-offsets says of partition 0 of topics that match a pattern.
func (s *shelf) offsets(pattern, at string) map[string]int64 {
	s.t.Helper()
	found := map[string]int64{}
	for _, line := range strings.Fields(s.tool("kafka-get-offsets", "", "--topic", pattern, "--time", at, "--exclude-internal-topics")) {
		m := regexp.MustCompile(`^(.*):0:(\d+)$`).FindStringSubmatch(line)
		if m == nil {
			s.t.Fatalf("kafka-get-offsets says %q", line)
		}
		offset, err := strconv.ParseInt(m[2], 10, 64)
		if err != nil {
			s.t.Fatal(err)
		}
		if !strings.HasPrefix(m[1], "canary-") { // these move
			found[m[1]] = offset
		}
	}
	return found
}

// create makes a topic that does all but retention, which must not begin before everything is there.
func (s *shelf) create(topic string, r retained) {
	s.t.Helper()
	configs := map[string]*string{"retention.ms": kadm.StringPtr(forever), "segment.bytes": kadm.StringPtr(strconv.Itoa(segmentBytes))}
	for name, value := range r.configs {
		if !strings.HasPrefix(name, "retention.") {
			configs[name] = kadm.StringPtr(value)
		}
	}
	ctx, cancel := context.WithTimeout(s.t.Context(), lookLimit)
	defer cancel()
	if _, err := s.admin.CreateTopic(ctx, 1, 1, configs, topic); err != nil {
		s.t.Fatalf("%s: %v", topic, err)
	}
}

// retain gives a topic its settings but for the policy, which it has had from the start.
func (s *shelf) retain(topic string, configs map[string]string) {
	s.t.Helper()
	var all []string
	for _, name := range slices.Sorted(maps.Keys(configs)) {
		if name != "cleanup.policy" {
			all = append(all, name+"="+configs[name])
		}
	}
	s.tool("kafka-configs", "", "--alter", "--entity-type", "topics", "--entity-name", topic, "--add-config", strings.Join(all, ","))
}

// record is the i-th record of a topic.
func (r retained) record(topic string, i int, begun time.Time) *kgo.Record {
	rec := &kgo.Record{Topic: topic, Timestamp: begun, Value: fmt.Appendf(nil, "%s %d ", topic, i)}
	if !r.small {
		rec.Value = append(rec.Value, bytes.Repeat([]byte{byte(i)}, retainedValue-len(rec.Value))...)
	}
	if r.age != nil {
		rec.Timestamp = begun.Add(-r.age(i))
	}
	if r.key != nil {
		rec.Key = []byte(r.key(i))
	}
	return rec
}

// fill writes a topic's records, one a batch.
func (s *shelf) fill(topic string, r retained) error {
	ctx, cancel := context.WithTimeout(s.t.Context(), callLimit)
	defer cancel()
	for i := range retainedBatches {
		rec := r.record(topic, i, s.begun)
		if err := s.client.ProduceSync(ctx, rec).FirstErr(); err != nil || rec.Offset != int64(i) {
			return fmt.Errorf("%s: record %d has offset %d: %w", topic, i, rec.Offset, err)
		}
	}
	return nil
}

// fillAll creates and fills all topics, at the same time, since each of their batches waits for its acknowledgement.
func (s *shelf) fillAll() {
	s.t.Helper()
	var (
		running sync.WaitGroup
		mu      sync.Mutex
		all     error
	)
	for name, r := range retainedTopics {
		s.create(retainedPrefix+name, r)
		running.Go(func() {
			err := s.fill(retainedPrefix+name, r)
			mu.Lock()
			defer mu.Unlock()
			all = errors.Join(all, err)
		})
	}
	running.Wait()
	if all != nil {
		s.t.Fatal(all)
	}
}

// settle waits until every topic begins where it should. On the way there log starts only rise, from segment to segment.
func (s *shelf) settle() {
	s.t.Helper()
	seen := map[string]int64{}
	harness.Eventually(s.t, cleanLimit, "retention has done its work", func() error {
		var errs []error
		starts := s.offsets(retainedPrefix+".*", "earliest")
		for name, r := range retainedTopics {
			topic := retainedPrefix + name
			start, ok := starts[topic]
			if !ok {
				s.t.Fatalf("kafka-get-offsets says nothing of %s", topic)
			}
			if start < seen[topic] || start > r.start || !r.small && start%retainedSegment != 0 && start != retainedBatches {
				s.t.Fatalf("the start of %s goes from %d to %d, and should go to %d by segments", topic, seen[topic], start, r.start)
			}
			seen[topic] = start
			if start != r.start {
				errs = append(errs, fmt.Errorf("%s begins at %d, want %d", topic, start, r.start))
			}
		}
		return errors.Join(errs...)
	})
}

// waitStart waits until a topic begins at an offset, and no later.
func (s *shelf) waitStart(topic string, want int64) {
	s.t.Helper()
	harness.Eventually(s.t, cleanLimit, topic+" is cleaned", func() error {
		if got := s.offsets(topic, "earliest")[topic]; got > want {
			s.t.Fatalf("%s begins at %d, want %d", topic, got, want)
		} else if got != want {
			return fmt.Errorf("it begins at %d, want %d", got, want)
		}
		return nil
	})
}

// passes returns when retention and the cleaner have looked at all topics once more. They delete a canary each time they come
// by: in the first of three times they may be under way, the second pass is whole when the third has begun.
func (s *shelf) passes() {
	s.t.Helper()
	for range 3 {
		for topic := range canaries {
			s.canary(topic)
		}
	}
}

// canary writes a record that is too old and waits until it is deleted.
func (s *shelf) canary(topic string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), cleanLimit)
	defer cancel()
	r := &kgo.Record{Topic: topic, Key: []byte("canary"), Value: []byte("canary"), Timestamp: s.begun}
	if err := s.client.ProduceSync(ctx, r).FirstErr(); err != nil {
		s.t.Fatal(err)
	}
	harness.Eventually(s.t, cleanLimit, topic+" is deleted", func() error {
		start, err := offsetOf(s.admin.ListStartOffsets(ctx, topic))(topic, 0)
		if err == nil && start != r.Offset+1 {
			err = fmt.Errorf("it begins at %d, want %d", start, r.Offset+1)
		}
		return err
	})
}
