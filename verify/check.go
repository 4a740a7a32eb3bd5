package verify

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// A Kind names what is wrong.
type Kind string

// The anomalies. The first group is of what is stored, the second of what was read, the third of what was promised.
const (
	LostWrite     Kind = "lost write"       // acknowledged, and nothing is at its offset
	WrongContent  Kind = "wrong content"    // something else is at its offset, or its value is damaged
	Duplicate     Kind = "duplicate"        // one record at two offsets
	RejectedWrite Kind = "rejected write"   // a send that failed for sure, in the log
	NeverSent     Kind = "never sent"       // a record in the log that its producer did not send
	Reordered     Kind = "reordered writes" // two acknowledged records of a producer in the other order

	SkippedRead  Kind = "skipped read"  // a consumer did not see a record between two others
	RepeatedRead Kind = "repeated read" // a consumer was given an offset that lay behind it
	PhantomRead  Kind = "phantom read"  // a consumer saw what is not in the log
	RefusedRead  Kind = "refused read"  // an offset of the log was said to be out of range

	HighWatermarkBack Kind = "high watermark went back"
	CommitBack        Kind = "committed offset went back"
)

// An Anomaly is one way in which a history contradicts itself.
type Anomaly struct {
	Kind  Kind
	Count int // how often it was found
	// Explanation and Counterexample are of the shortest case. The counterexample is a history that shows the anomaly
	// when it is checked by itself.
	Explanation    string
	Counterexample *History
}

// Check looks for every anomaly. It takes time and memory in proportion to the history, up to sorting.
func Check(h *History) Verdict {
	f := &finder{history: h, cases: map[Kind]*shortest{}}
	senders := map[int32]bool{}
	for i := range h.Sends {
		senders[h.Sends[i].Producer] = true
	}
	var unread int64
	readers, parts := h.readers(), split(h)
	for _, p := range parts {
		p.finder, p.senders = f, senders
		p.prepare()
		p.checkSends()
		p.checkOrder()
		p.checkLog()
		unread += p.checkReads(readers)
		p.checkEndOffsets()
	}
	f.checkCommits()
	return f.verdict(parts, unread)
}

// A finder keeps the shortest case of each kind.
type finder struct {
	history *History
	cases   map[Kind]*shortest
}

type shortest struct {
	count, size int
	at          time.Duration
	tell        func() (string, *History)
}

// found notes a case of size events and records, known since at. Only the one that is shown is ever told.
func (f *finder) found(kind Kind, size int, at time.Duration, tell func() (string, *History)) {
	s := f.cases[kind]
	if s == nil {
		s = &shortest{size: size, at: at, tell: tell}
		f.cases[kind] = s
	}
	s.count++
	if size < s.size || size == s.size && at < s.at {
		s.size, s.at, s.tell = size, at, tell
	}
}

// example makes a counterexample of events.
func (f *finder) example(events ...any) *History {
	h := &History{Topic: f.history.Topic, Partitions: f.history.Partitions}
	for _, e := range events {
		switch e := e.(type) {
		case *Send:
			h.Sends = append(h.Sends, *e)
		case *Poll:
			h.Polls = append(h.Polls, *e)
		case *Commit:
			h.Commits = append(h.Commits, *e)
		case *Committed:
			h.Committed = append(h.Committed, *e)
		case *EndOffset:
			h.EndOffsets = append(h.EndOffsets, *e)
		case *Log:
			h.Logs = append(h.Logs, *e)
		default:
			panic(fmt.Sprintf("verify: %T is no event", e))
		}
	}
	return h
}

// A part is what happened in one partition.
type part struct {
	*finder
	partition int32
	sends     []*Send
	polls     []*Poll
	ends      []*EndOffset
	log       *Log // nil when it was not read

	senders map[int32]bool
	sent    map[ID]*Send
}

// split sorts the events by partition.
func split(h *History) []*part {
	byNumber := map[int32]*part{}
	of := func(partition int32) *part {
		p := byNumber[partition]
		if p == nil {
			p = &part{partition: partition}
			byNumber[partition] = p
		}
		return p
	}
	for i := range h.Sends {
		p := of(h.Sends[i].Partition)
		p.sends = append(p.sends, &h.Sends[i])
	}
	for i := range h.Polls {
		p := of(h.Polls[i].Partition)
		p.polls = append(p.polls, &h.Polls[i])
	}
	for i := range h.EndOffsets {
		p := of(h.EndOffsets[i].Partition)
		p.ends = append(p.ends, &h.EndOffsets[i])
	}
	for i := range h.Logs {
		of(h.Logs[i].Partition).log = &h.Logs[i]
	}
	out := make([]*part, 0, len(byNumber))
	for _, p := range byNumber {
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b *part) int { return cmp.Compare(a.partition, b.partition) })
	return out
}

// prepare builds the index of sends, and sees to it that the log can be searched by offset.
func (p *part) prepare() {
	p.sent = make(map[ID]*Send, len(p.sends))
	for _, s := range p.sends {
		p.sent[s.ID] = s
	}
	if p.log == nil {
		return
	}
	asRead := p.log
	records := asRead.Records
	for i := 1; i < len(records); i++ {
		if records[i].Offset > records[i-1].Offset {
			continue
		}
		p.found(RepeatedRead, 3, asRead.Begin, func() (string, *History) {
			text := fmt.Sprintf("the final reading of partition %d returned offset %d after offset %d",
				p.partition, records[i].Offset, records[i-1].Offset)
			return text, p.example(cutLog(asRead, i-1, i))
		})
	}
	if !slices.IsSortedFunc(records, byOffset) {
		sorted := *asRead
		sorted.Records = slices.SortedStableFunc(slices.Values(records), byOffset)
		p.log = &sorted
	}
}

func byOffset(a, b Record) int { return cmp.Compare(a.Offset, b.Offset) }

// at returns where in the log the first record at an offset or above is, and whether it is that offset.
func (p *part) at(offset int64) (int, bool) {
	return slices.BinarySearchFunc(p.log.Records, Record{Offset: offset}, byOffset)
}

// known reports whether the final log says what is at an offset: not below its start, which moves, nor where it could not
// be read.
func (p *part) known(offset int64) bool {
	return p.log != nil && offset >= p.log.Start && (offset < p.log.ReadTo || offset >= p.log.Limit)
}

// cutLog returns the log with only some of its records.
func cutLog(l *Log, keep ...int) *Log {
	out := *l
	out.Records = nil
	for _, i := range keep {
		if i >= 0 && i < len(l.Records) {
			out.Records = append(out.Records, l.Records[i])
		}
	}
	return &out
}
