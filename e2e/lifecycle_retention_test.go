package e2e

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidemill/tidemill/e2e/harness"
)

const (
	// Ten batches of one such record fill a segment of 1 MiB, the smallest that Kafka allows.
	retainedValue   = 100 << 10
	retainedSegment = 10
	retainedBatches = 47
	segmentBytes    = 1 << 20
	retainedPrefix  = "retained-"
)

// A retained is a topic, what is written to it, and what must be left. Segments begin at every tenth batch, or at every
// second where time rolls them.
type retained struct {
	configs map[string]string
	// small records are those of a topic that segment.ms rolls.
	small bool
	// age of a batch's record; nil is for none.
	age func(i int) time.Duration
	key func(i int) string
	// start is the log start in the end.
	start int64
}

// Ages. Old is beyond the hour that these topics retain, half old ends inside of a segment.
func old(int) time.Duration { return 2 * time.Hour }

func halfOld(i int) time.Duration {
	if i < 25 {
		return 2 * time.Hour
	}
	return 0
}

// oldButFuture has one record in the first segment that is half an hour ahead.
func oldButFuture(i int) time.Duration {
	if i == 3 {
		return -30 * time.Minute
	}
	return 2 * time.Hour
}

// spaced are 600 ms apart: segment.ms=1000 lets two into a segment.
func spaced(i int) time.Duration { return time.Hour - time.Duration(i)*600*time.Millisecond }

func ownKey(i int) string { return fmt.Sprintf("key-%d", i) }

const (
	hour    = "3600000"
	forever = "-1"
)

var (
	longest = strconv.Itoa(math.MaxInt64)
	// Between the sizes of 25 and 26 batches: four whole segments and the seven batches of the active one are 47.
	bytes25 = strconv.Itoa(25*retainedValue + retainedValue/2)
)

// retainedTopics are the cases. All of it is the same on Kafka.
var retainedTopics = map[string]retained{
	"bytes":            {configs: map[string]string{"retention.ms": forever, "retention.bytes": bytes25}, start: 20},
	"bytes-one":        {configs: map[string]string{"retention.ms": forever, "retention.bytes": "1"}, start: 40},
	"bytes-zero":       {configs: map[string]string{"retention.ms": forever, "retention.bytes": "0"}, start: retainedBatches},
	"bytes-off":        {configs: map[string]string{"retention.ms": forever, "retention.bytes": "-1"}},
	"bytes-enough":     {configs: map[string]string{"retention.ms": forever, "retention.bytes": strconv.Itoa(100 * segmentBytes)}},
	"bytes-longest":    {configs: map[string]string{"retention.ms": longest, "retention.bytes": longest}, age: old},
	"time":             {configs: map[string]string{"retention.ms": hour}, age: halfOld, start: 20},
	"time-all":         {configs: map[string]string{"retention.ms": hour}, age: old, start: retainedBatches},
	"time-future":      {configs: map[string]string{"retention.ms": hour}, age: oldButFuture},
	"time-off":         {configs: map[string]string{"retention.ms": forever}, age: old},
	"time-longest":     {configs: map[string]string{"retention.ms": longest}, age: old},
	"time-and-bytes":   {configs: map[string]string{"retention.ms": hour, "retention.bytes": "1"}, age: halfOld, start: 40},
	"rolled-bytes":     {configs: map[string]string{"retention.ms": forever, "retention.bytes": "1", "segment.ms": "1000"}, small: true, age: spaced, start: 46},
	"rolled-time":      {configs: map[string]string{"retention.ms": hour, "segment.ms": "1000"}, small: true, age: halfOld, start: 25},
	"compact-only":     {configs: map[string]string{"cleanup.policy": "compact", "retention.ms": "1", "retention.bytes": "1"}, age: old, key: ownKey},
	"compacted-by-age": {configs: map[string]string{"cleanup.policy": "compact,delete", "retention.ms": hour}, age: halfOld, key: ownKey, start: 20},
	"compacted-bytes": {configs: map[string]string{"cleanup.policy": "delete,compact", "retention.ms": forever, "retention.bytes": bytes25},
		age: old, key: ownKey, start: 20},
}

// TestRetentionThroughGetOffsets watches with kafka-get-offsets what retention leaves of topics: the log start is at a
// segment's boundary, as much is kept as was promised and less than a segment more, and what retains for ever does so.
func TestRetentionThroughGetOffsets(t *testing.T) {
	s := newShelf(t)
	s.passes() // from here on it looks at every topic
	s.fillAll()
	names := slices.Sorted(maps.Keys(retainedTopics))
	for _, name := range names {
		s.retain(retainedPrefix+name, retainedTopics[name].configs)
	}
	s.settle()
	s.passes() // what has settled is not cleaned any further
	for _, name := range names {
		t.Run(name, func(t *testing.T) { s.with(t).check(retainedPrefix+name, retainedTopics[name]) })
	}
	t.Run("compacted and deleted", func(t *testing.T) { s.with(t).compactAndDelete() })
	t.Run("records deleted", func(t *testing.T) { s.with(t).deleteRecords() })
	starts, ends := s.offsets(".*", "earliest"), s.offsets(".*", "latest")
	if harness.OnKafka() {
		s.broker.Terminate() // Kafka writes a log start inside of a segment down later, and may forget it in a crash
	} else {
		s.broker.Kill9()
	}
	s.broker.Start()
	if diff := cmp.Diff(starts, s.offsets(".*", "-2")); diff != "" {
		t.Errorf("log starts after the restart (-want +got)\n%s", diff)
	}
	if diff := cmp.Diff(ends, s.offsets(".*", "-1")); diff != "" {
		t.Errorf("end offsets after the restart (-want +got)\n%s", diff)
	}
}

// check checks what is left of one topic.
func (s *shelf) check(topic string, r retained) {
	s.t.Helper()
	for what, want := range map[string]int64{"-2": r.start, "earliest": r.start, "-1": retainedBatches, "latest": retainedBatches} {
		if got := s.offsets(topic, what)[topic]; got != want {
			s.t.Errorf("--time %s is %d, want %d", what, got, want)
		}
	}
	left := mustRead(s.t, s.client, topic, 0)
	if left.start != r.start || left.end != retainedBatches || left.removed() != 0 {
		s.t.Errorf("offsets %d to %d with %d records missing, want %d to %d", left.start, left.end, left.removed(), r.start, retainedBatches)
	}
	for i, got := range left.records {
		if want := r.record(topic, int(r.start)+i, s.begun); got.Offset != r.start+int64(i) || !bytes.Equal(got.Value, want.Value) ||
			!bytes.Equal(got.Key, want.Key) || !got.Timestamp.Equal(want.Timestamp) {
			s.t.Fatalf("record %d of what is left is not the one written: offset %d, key %q, time %v", i, got.Offset, got.Key, got.Timestamp)
		}
	}
	s.checkSize(r, left)
	if r.start < retainedBatches {
		s.checkFirst(topic, r.start)
	}
}

// checkSize checks Kafka's promise: as much as retention.bytes is kept, unless it is too old, and less than one segment more.
func (s *shelf) checkSize(r retained, left *stored) {
	s.t.Helper()
	limit, err := strconv.ParseInt(r.configs["retention.bytes"], 10, 64)
	if err != nil || limit < 0 || r.small || r.configs["cleanup.policy"] == "compact" {
		return
	}
	kept := int64(0)
	for _, size := range left.batches {
		kept += int64(size)
	}
	if kept < min(limit, retainedBatches*retainedValue) && r.configs["retention.ms"] != hour {
		s.t.Errorf("%d bytes are kept, less than retention.bytes=%d", kept, limit)
	}
	if kept-limit >= segmentBytes {
		s.t.Errorf("%d bytes are kept, a segment or more beyond retention.bytes=%d", kept, limit)
	}
}

// checkFirst checks which offset a console consumer from the beginning sees first.
func (s *shelf) checkFirst(topic string, want int64) {
	s.t.Helper()
	out := s.tool("kafka-console-consumer", "", "--topic", topic, "--partition", "0", "--offset", "earliest", "--max-messages", "1",
		"--timeout-ms", "60000", "--formatter-property", "print.offset=true", "--formatter-property", "print.value=false")
	if got := strings.TrimSpace(out); got != fmt.Sprintf("Offset:%d", want) {
		s.t.Errorf("%s: a consumer from the beginning sees %q first, want offset %d", topic, got, want)
	}
}

// compactAndDelete lets retention do its part of compact,delete first, then the cleaner, so that there is one outcome. The
// log start stays at the segment's boundary, and the first record after it is a later one.
func (s *shelf) compactAndDelete() {
	const topic, firstKept = "compacted-and-deleted", 25
	keys := func(i int) string { // 20 to 24 have the keys of 30 to 34, the others their own
		if i >= 20 && i < firstKept {
			i += 10
		}
		return ownKey(i)
	}
	r := retained{configs: map[string]string{"cleanup.policy": "compact,delete", "min.compaction.lag.ms": "86400000"}, age: halfOld, key: keys}
	s.create(topic, r)
	if err := s.fill(topic, r); err != nil {
		s.t.Fatal(err)
	}
	s.retain(topic, map[string]string{"retention.ms": hour})
	s.waitStart(topic, 20)
	if left := mustRead(s.t, s.client, topic, 0); left.removed() != 0 {
		s.t.Errorf("%d records are gone that min.compaction.lag.ms keeps", left.removed())
	}
	s.checkFirst(topic, 20)
	s.retain(topic, map[string]string{"min.compaction.lag.ms": "0"})
	waitStored(s.t, s.client, topic, 0, "superseded records are gone", func(left *stored) error {
		if left.removed() != firstKept-20 || left.records[0].Offset != firstKept {
			return fmt.Errorf("%d records are gone, the first is %d", left.removed(), left.records[0].Offset)
		}
		return nil
	})
	s.passes()
	s.waitStart(topic, 20)
	s.checkFirst(topic, firstKept)
}

// deleteRecords moves log starts to where no segment and no batch begins, and to the end.
func (s *shelf) deleteRecords() {
	const middle, all, batches, size = "cut-middle", "cut-all", 3, 100
	client := s.broker.Client()
	ctx, cancel := context.WithTimeout(s.t.Context(), lookLimit)
	defer cancel()
	for _, topic := range []string{middle, all} {
		s.create(topic, retained{})
		for batch := range batches {
			// A client of its own: one that has just flushed may still send the first record of the next batch alone.
			producer := s.broker.Client(kgo.ManualFlushing())
			for n := range size {
				producer.Produce(ctx, &kgo.Record{Topic: topic, Value: []byte(strconv.Itoa(batch*size + n))}, nil)
			}
			if err := producer.Flush(ctx); err != nil {
				s.t.Fatal(err)
			}
		}
		if got := len(mustRead(s.t, client, topic, 0).batches); got != batches {
			s.t.Fatalf("%s has %d batches, want %d", topic, got, batches)
		}
	}
	for _, cut := range []struct {
		topic    string
		to, want int64
	}{{middle, 42, 42}, {middle, 142, 142}, {middle, 50, 142}, {all, -1, batches * size}} {
		file := harness.WriteFile(s.t, "offsets", fmt.Sprintf(`{"partitions":[{"topic":%q,"partition":0,"offset":%d}],"version":1}`, cut.topic, cut.to))
		out := s.tool("kafka-delete-records", "", "--offset-json-file", file)
		if want := fmt.Sprintf("partition: %s-0\tlow_watermark: %d", cut.topic, cut.want); !strings.Contains(out, want) {
			s.t.Errorf("kafka-delete-records to %d says %q, want %q", cut.to, out, want)
		}
		for what, want := range map[string]int64{"-2": cut.want, "earliest": cut.want, "-1": batches * size} {
			if got := s.offsets(cut.topic, what)[cut.topic]; got != want {
				s.t.Errorf("%s after a cut to %d: --time %s is %d, want %d", cut.topic, cut.to, what, got, want)
			}
		}
	}
	s.checkFirst(middle, 142)
	left := mustRead(s.t, client, middle, 0)
	if len(left.records) != batches*size-142 || string(left.records[0].Value) != "142" {
		s.t.Errorf("%d records are left, the first is %q; want %d from 142 on", len(left.records), left.records[0].Value, batches*size-142)
	}
	next := &kgo.Record{Topic: all, Value: []byte("next")}
	client.Produce(ctx, next, nil)
	if err := client.Flush(ctx); err != nil || next.Offset != batches*size {
		s.t.Errorf("the next record has offset %d, error %v; want %d", next.Offset, err, batches*size)
	}
	s.checkFirst(all, batches*size)
}
