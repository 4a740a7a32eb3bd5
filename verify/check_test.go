package verify

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const testRun = 7

// span is in milliseconds.
func span(begin, end int) Span {
	return Span{time.Duration(begin) * time.Millisecond, time.Duration(end) * time.Millisecond}
}

func read(offset int64, id ID) Record {
	value, _ := Value(testRun, id, 60)
	return Read(testRun, offset, value)
}

func id(producer int32, sequence int64) ID { return ID{Producer: producer, Sequence: sequence} }

func send(s Span, id ID, outcome Outcome, offset int64) Send {
	_, sum := Value(testRun, id, 60)
	return Send{Span: s, ID: id, Sum: sum, Outcome: outcome, Offset: offset}
}

// fine is a correct history of partition 0: producer 0 sent four records, of which the last is unknown and was stored, and
// producer 1 sent one that failed; a reader and a member of a group read them.
func fine() *History {
	h := &History{Topic: "t", Partitions: 1}
	for i := range 4 {
		h.Sends = append(h.Sends, send(span(10*i, 10*i+15), id(0, int64(i)), Acknowledged, int64(i)))
	}
	h.Sends[3].Outcome, h.Sends[3].Offset = Unknown, 0
	h.Sends = append(h.Sends, send(span(40, 50), id(1, 0), Failed, 0))
	records := []Record{read(0, id(0, 0)), read(1, id(0, 1)), read(2, id(0, 2)), read(3, id(0, 3))}
	h.Polls = []Poll{
		{Span: span(5, 20), Consumer: "reader-0", Records: slices.Clone(records[:2])},
		{Span: span(25, 60), Consumer: "reader-0", Position: 2, Records: slices.Clone(records[2:])},
		{Span: span(5, 30), Consumer: "member-0", Group: "g", Records: slices.Clone(records[:1])},
		{Span: span(45, 60), Consumer: "member-0", Group: "g", Session: 1, Records: slices.Clone(records)},
	}
	h.EndOffsets = []EndOffset{
		{Span: span(0, 9), Client: "probe"},
		{Span: span(20, 30), Client: "probe", Offset: 2},
		{Span: span(31, 40), Client: "probe", Offset: 3},
	}
	h.Commits = []Commit{
		{Span: span(31, 35), Group: "g", Member: "member-0", Offset: 2, Outcome: Acknowledged},
		{Span: span(36, 40), Group: "g", Member: "member-0", Offset: 3, Outcome: Unknown},
	}
	h.Committed = []Committed{
		{Span: span(1, 4), Group: "g", Client: "probe", Offset: -1},
		{Span: span(41, 44), Group: "g", Client: "probe", Offset: 3},
	}
	h.Logs = []Log{{Span: span(100, 120), Limit: 4, ReadTo: 4, Records: records}}
	return h
}

func TestCheck(t *testing.T) {
	// Each bad history is one step away from one that is fine.
	tests := []struct {
		name      string
		kind      Kind
		near, bad func(h *History)
	}{
		{
			"an acknowledged record is lost", LostWrite,
			func(h *History) { dropStored(h, 3) }, // its outcome is unknown
			func(h *History) { dropStored(h, 2) },
		},
		{
			"the end of the log is lost", LostWrite,
			func(h *History) { h.Sends[2].Outcome, h.Polls, h.EndOffsets = Unknown, nil, nil; cutStored(h, 2) },
			func(h *History) { h.Polls, h.EndOffsets = nil, nil; cutStored(h, 2) },
		},
		{
			"what is below the log's start may be gone", WrongContent,
			func(h *History) { h.Logs[0].Start, h.Logs[0].Records = 2, h.Logs[0].Records[2:] },
			func(h *History) { h.Logs[0].Start, h.Logs[0].Records[1].Sum = 1, 5 },
		},
		{
			"another record at an acknowledged offset", WrongContent,
			func(h *History) { h.Sends[1].Offset, h.Sends[1].Outcome = 9, Unknown },
			func(h *History) { h.Sends[1].Offset, h.Sends[2].Offset = 2, 1 },
		},
		{
			"two acknowledgements of one offset", WrongContent,
			func(h *History) { h.Sends[4].Outcome, h.Sends[4].Offset = Unknown, 2 },
			func(h *History) { h.Sends[4].Outcome, h.Sends[4].Offset = Acknowledged, 2 },
		},
		{
			"a damaged value", WrongContent, func(*History) {},
			func(h *History) { h.Logs[0].Records[3].Damaged = true },
		},
		{
			"another value of an unknown record", WrongContent, func(*History) {},
			func(h *History) { h.Logs[0].Records[3].Sum++ },
		},
		{
			"a record twice", Duplicate,
			func(h *History) { store(h, 4, id(1, 0)); h.Sends[4].Outcome = Unknown },
			func(h *History) { store(h, 4, id(0, 3)) },
		},
		{
			"a refused record is stored", RejectedWrite,
			func(h *History) { store(h, 4, id(1, 0)); h.Sends[4].Outcome = Unknown },
			func(h *History) { store(h, 4, id(1, 0)) },
		},
		{
			"a record that nobody sent", NeverSent,
			func(h *History) { store(h, 4, id(2, 0)) }, // a producer that this history does not know
			func(h *History) { store(h, 4, id(0, 4)) },
		},
		{
			"a record of another partition", NeverSent, func(*History) {},
			func(h *History) { store(h, 4, ID{Producer: 0, Partition: 5}) },
		},
		{
			"two records in the other order", Reordered,
			func(h *History) { swap(h, 2, 3) }, // the later one is unknown
			func(h *History) { swap(h, 1, 2) },
		},
		{
			"a record between two polls is not read", SkippedRead,
			func(h *History) {
				h.Polls[1].Records = h.Polls[1].Records[1:]
				dropStored(h, 2)
				h.Sends[2].Outcome = Unknown
			},
			func(h *History) { h.Polls[1].Records = h.Polls[1].Records[1:] },
		},
		{
			"a record in a poll is not read", SkippedRead,
			func(h *History) { h.Polls[3].Records = h.Polls[3].Records[:2] },
			func(h *History) { h.Polls[3].Records = slices.Delete(h.Polls[3].Records, 1, 2) },
		},
		{
			"the first record is not read", SkippedRead,
			func(h *History) { h.Polls[0].Records = h.Polls[0].Records[1:]; h.Polls[0].Position = 1 },
			func(h *History) { h.Polls[0].Records = h.Polls[0].Records[1:] },
		},
		{
			"a record is read again", RepeatedRead,
			func(h *History) { again := h.Polls[0]; again.Session = 1; h.Polls = append(h.Polls, again) },
			func(h *History) { h.Polls[1].Records = append([]Record{h.Polls[0].Records[1]}, h.Polls[1].Records...) },
		},
		{
			"the final reading turns back", RepeatedRead, func(*History) {},
			func(h *History) { r := h.Logs[0].Records; r[1], r[2] = r[2], r[1] },
		},
		{
			"what was read is not in the log", PhantomRead,
			func(h *History) {
				h.Polls[1].Records = append(h.Polls[1].Records, read(4, id(1, 0)))
				store(h, 4, id(1, 0))
				h.Sends[4].Outcome = Unknown
			},
			func(h *History) { h.Polls[1].Records = append(h.Polls[1].Records, read(4, id(1, 0))) },
		},
		{
			"what was read is another in the log", PhantomRead, func(*History) {},
			func(h *History) { h.Polls[1].Records[1].ID = id(1, 0) },
		},
		{
			"an offset of the log is refused", RefusedRead,
			func(h *History) {
				h.Polls = append(h.Polls, Poll{Span: span(60, 61), Consumer: "x", Position: 5, Error: "OFFSET_OUT_OF_RANGE: no"})
			},
			func(h *History) {
				h.Polls = append(h.Polls, Poll{Span: span(60, 61), Consumer: "x", Position: 4, Error: "OFFSET_OUT_OF_RANGE: no"})
			},
		},
		{
			"the high watermark goes back", HighWatermarkBack,
			func(h *History) { h.EndOffsets[1].Offset, h.EndOffsets[2].Span = 4, span(30, 40) }, // they overlap
			func(h *History) { h.EndOffsets[1].Offset = 4 },
		},
		{
			"the high watermark is below an acknowledged record", HighWatermarkBack,
			func(h *History) { h.EndOffsets[2].Offset, h.EndOffsets[2].Begin = 2, 25*time.Millisecond }, // record 2 until 35
			func(h *History) { h.EndOffsets[2].Offset, h.EndOffsets[2].Span = 2, span(36, 40) },
		},
		{
			"the high watermark is below what was read", HighWatermarkBack, func(*History) {},
			func(h *History) {
				h.Sends, h.EndOffsets[1] = nil, EndOffset{Span: span(21, 30), Client: "probe", Offset: 1}
			},
		},
		{
			"the log ends below a high watermark", HighWatermarkBack,
			func(h *History) { h.EndOffsets[2].Offset = 4 },
			func(h *History) { h.EndOffsets[2].Offset = 5 },
		},
		{
			"a commit is forgotten", CommitBack,
			func(h *History) {
				h.Committed[1] = Committed{Span: span(34, 44), Group: "g", Client: "probe", Offset: 1}
			}, // it may have come first
			func(h *History) {
				h.Committed[1] = Committed{Span: span(36, 44), Group: "g", Client: "probe", Offset: 1}
			},
		},
		{
			"all commits are forgotten", CommitBack,
			func(h *History) { h.Committed[1].Offset, h.Commits[0].Outcome = -1, Failed },
			func(h *History) { h.Committed[1].Offset = -1 },
		},
		{
			"one answer is below another", CommitBack,
			func(h *History) {
				h.Committed = append(h.Committed, Committed{Span: span(43, 50), Group: "g", Offset: 2})
			},
			func(h *History) {
				h.Committed = append(h.Committed, Committed{Span: span(45, 50), Group: "g", Offset: 2})
			},
		},
		{
			"groups and partitions do not mix", CommitBack,
			func(h *History) {
				h.Committed = append(h.Committed, Committed{Span: span(45, 50), Group: "h"}, Committed{Span: span(45, 50), Group: "g", Partition: 1})
			},
			func(h *History) { h.Committed = append(h.Committed, Committed{Span: span(45, 50), Group: "g"}) },
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := fine()
			tt.near(h)
			if v := Check(h); !v.OK() {
				t.Errorf("a history that is fine was judged %s", text(t, v))
			}
			h = fine()
			tt.bad(h)
			wantKind(t, h, tt.kind)
		})
	}
}

// wantKind wants an anomaly of a kind in the history, and in its counterexample, which is small.
func wantKind(t interface {
	Helper()
	Fatalf(format string, args ...any)
}, h *History, kind Kind) {
	t.Helper()
	v := Check(h)
	i := slices.IndexFunc(v.Anomalies, func(a Anomaly) bool { return a.Kind == kind })
	if i < 0 {
		t.Fatalf("no %q was found, but %v", kind, v.Anomalies)
	}
	a := v.Anomalies[i]
	e := a.Counterexample
	size := len(e.Sends) + len(e.Polls) + len(e.Commits) + len(e.Committed) + len(e.EndOffsets) + len(e.Logs)
	for _, p := range e.Polls {
		size += len(p.Records)
	}
	for _, l := range e.Logs {
		size += len(l.Records)
	}
	if size > 8 {
		t.Fatalf("the counterexample of %q has %d events and records:\n%s", kind, size, e.text())
	}
	if again := Check(e); !slices.ContainsFunc(again.Anomalies, func(a Anomaly) bool { return a.Kind == kind }) {
		t.Fatalf("the counterexample does not show a %q:\n%s", kind, e.text())
	}
}

func text(t *testing.T, v Verdict) string {
	t.Helper()
	var b strings.Builder
	if err := v.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// dropStored makes a hole in the log, and in what was read.
func dropStored(h *History, offset int64) {
	gone := func(r Record) bool { return r.Offset == offset }
	h.Logs[0].Records = slices.DeleteFunc(slices.Clone(h.Logs[0].Records), gone)
	for i := range h.Polls {
		h.Polls[i].Records = slices.DeleteFunc(slices.Clone(h.Polls[i].Records), gone)
	}
}

// cutStored ends the log at an offset.
func cutStored(h *History, limit int64) {
	l := &h.Logs[0]
	l.Records, l.Limit, l.ReadTo = l.Records[:limit], limit, limit
}

func store(h *History, offset int64, id ID) {
	l := &h.Logs[0]
	l.Records, l.Limit, l.ReadTo = append(l.Records, read(offset, id)), offset+1, offset+1
}

// swap makes two records of producer 0 change their places, wherever that can be seen.
func swap(h *History, i, j int64) {
	turn := func(records []Record) {
		for k := range records {
			switch records[k].ID {
			case id(0, i):
				records[k] = read(records[k].Offset, id(0, j))
			case id(0, j):
				records[k] = read(records[k].Offset, id(0, i))
			}
		}
	}
	for k := range h.Polls {
		turn(h.Polls[k].Records)
	}
	turn(h.Logs[0].Records)
	h.Sends[i].Offset, h.Sends[j].Offset = j, i
}

func TestUnjudged(t *testing.T) {
	h := fine()
	h.Logs = nil
	if v := Check(h); v.OK() || len(v.Anomalies) > 0 || len(v.Unjudged) != 1 {
		t.Errorf("without the log: %+v", v)
	}
	h = fine()
	h.Logs[0].Records, h.Logs[0].ReadTo = h.Logs[0].Records[:1], 1
	v := Check(h)
	if v.OK() || len(v.Anomalies) > 0 || len(v.Unjudged) != 1 || !strings.Contains(text(t, v), "to offset 1 of 4 only") {
		t.Errorf("with a part of the log: %+v", v)
	}
}

func TestCounts(t *testing.T) {
	h := fine()
	want := Counts{Sent: 5, Acknowledged: 3, Failed: 1, Unknown: 1, Read: 4, ReadByGroups: 5, Commits: 1, InLog: 4}
	if diff := cmp.Diff(want, Check(h).Counts); diff != "" {
		t.Error(diff)
	}
	h.Polls = append(h.Polls[:1], Poll{Consumer: "reader-1", Partition: 1})
	if got := Check(h).Counts.Unread; got != 2+4 {
		t.Errorf("%d records were not read, want 2 and 4", got)
	}
}

func TestWriteText(t *testing.T) {
	h := fine()
	dropStored(h, 2)
	got := text(t, Check(h))
	want := `
LOST WRITE: 1. The shortest:
  record 2 of producer 0 for partition 0 was acknowledged at offset 2, and nothing is there
        0.020s to     0.035s  producer 0 sent record 2 to partition 0: acknowledged at offset 2
        0.100s to     0.120s  the final log of partition 0, offsets 0 to 4, has 1: record 1 of producer 0 for partition 0; 3: record 3 of producer 0 for partition 0
`
	if !strings.HasSuffix(got, want) {
		t.Errorf("got\n%s\nwant at its end\n%s", got, want)
	}
	if got := text(t, Check(fine())); !strings.HasSuffix(got, "good: nothing contradicts what the clients were told\n") ||
		!strings.Contains(got, "5 records: 3 acknowledged, 1 failed, 1 unknown") {
		t.Errorf("got\n%s", got)
	}
}

func TestLines(t *testing.T) {
	h := fine()
	h.Sends[4].Error, h.Logs[0].Records[0].Damaged = "TOO_LARGE", true
	var b bytes.Buffer
	if err := h.Write(&b); err != nil {
		t.Fatal(err)
	}
	stored := b.String()
	got, err := ReadHistory(strings.NewReader(stored))
	if diff := cmp.Diff(h, got); err != nil || diff != "" {
		t.Errorf("read %v\n%s", err, diff)
	}
	header, rest, _ := strings.Cut(stored, "\n")
	for text, want := range map[string]string{
		"":                     "line 1: EOF",
		rest:                   "line 1: a history begins with its header",
		stored + "{}":          "a line without an event",
		stored + `{"`:          "unexpected EOF",
		header + rest + header: "a history begins with its header, and has one",
		strings.Replace(stored, `"version":1`, `"version":2`, 1):         "format version 2, this program reads 1",
		strings.Replace(stored, `"acknowledged"`, `"acked"`, 1):          `unknown outcome "acked"`,
		strings.Replace(stored, `"records":[[0,`, `"records":[[0,0,`, 1): "a record of 7 numbers, want 6",
	} {
		if _, err := ReadHistory(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

func TestGaps(t *testing.T) {
	ms := time.Millisecond
	h := &History{Sends: []Send{
		send(span(0, 10), ID{Partition: 0, Sequence: 0}, Acknowledged, 0),
		send(span(0, 30), ID{Partition: 1, Sequence: 0}, Acknowledged, 0),
		send(span(20, 70), ID{Partition: 0, Sequence: 1}, Acknowledged, 1),
		send(span(20, 50), ID{Partition: 0, Sequence: 2}, Unknown, 0),
		send(span(95, 99), ID{Partition: 2, Sequence: 0}, Unknown, 0),
	}}
	tests := []struct {
		from, to       time.Duration
		all, partition Gap
	}{
		{0, 100 * ms, Gap{AllPartitions, 30 * ms, 70 * ms}, Gap{2, 0, 100 * ms}},
		{0, 90 * ms, Gap{AllPartitions, 30 * ms, 70 * ms}, Gap{0, 10 * ms, 70 * ms}},
		{20 * ms, 40 * ms, Gap{AllPartitions, 20 * ms, 30 * ms}, Gap{0, 20 * ms, 40 * ms}},
		{80 * ms, 80 * ms, Gap{AllPartitions, 80 * ms, 80 * ms}, Gap{AllPartitions, 0, 0}},
	}
	for _, tt := range tests {
		if got := h.LongestGap(tt.from, tt.to); got != tt.all {
			t.Errorf("%v to %v: got %v, want %v", tt.from, tt.to, got, tt.all)
		}
		if got := h.LongestPartitionGap(tt.from, tt.to); got != tt.partition {
			t.Errorf("%v to %v, one partition: got %v, want %v", tt.from, tt.to, got, tt.partition)
		}
	}
}

func TestValue(t *testing.T) {
	want := ID{Producer: 3, Partition: 5, Sequence: 1 << 40}
	for _, size := range []int{0, ValueBytesMin, ValueBytesMin + 1, 100, 1000} {
		value, sum := Value(testRun, want, size)
		if len(value) != max(size, ValueBytesMin) {
			t.Errorf("a value of %d bytes, want %d", len(value), size)
		}
		if got := Read(testRun, 9, value); got != (Record{Offset: 9, ID: want, Sum: sum}) {
			t.Errorf("%d bytes: got %+v", size, got)
		}
		for i := range value {
			value[i] ^= 1
			if got := Read(testRun, 9, value); !got.Damaged {
				t.Errorf("byte %d of %d changed: got %+v", i, len(value), got)
			}
			value[i] ^= 1
		}
		if got := Read(testRun+1, 9, value); !got.Damaged || got.Producer != -1 {
			t.Errorf("a value of another run: got %+v", got)
		}
	}
	if got := Read(testRun, 0, nil); !got.Damaged {
		t.Errorf("no value: got %+v", got)
	}
}
