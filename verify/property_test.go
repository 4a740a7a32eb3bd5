package verify

import (
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// model is a cluster that makes no mistakes, and the history of its clients.
type model struct {
	t    *rapid.T
	h    *History
	now  time.Duration
	logs [][]Record
	next map[ID]int64 // sequence by producer and partition
	// readers and members by name and partition
	readers map[string]*modelReader
	// committed is what the cluster has, member what the member committed last.
	committed, member []int64
}

type modelReader struct {
	position int64
	session  int32
}

const group = "g"

func newModel(t *rapid.T) *model {
	n := rapid.IntRange(1, 3).Draw(t, "partitions")
	m := &model{
		t: t, h: &History{Topic: "t", Partitions: int32(n)}, next: map[ID]int64{}, readers: map[string]*modelReader{},
		logs: make([][]Record, n), committed: make([]int64, n), member: make([]int64, n),
	}
	for i := range m.committed {
		m.committed[i] = -1
	}
	return m
}

// span is one around now, which is when the event takes effect.
func (m *model) span() Span {
	m.now += time.Duration(rapid.IntRange(1, 5).Draw(m.t, "later"))
	before := time.Duration(rapid.IntRange(0, 20).Draw(m.t, "before"))
	after := time.Duration(rapid.IntRange(0, 20).Draw(m.t, "after"))
	return Span{max(0, m.now-before), m.now + after}
}

func (m *model) partition() int32 {
	return int32(rapid.IntRange(0, len(m.logs)-1).Draw(m.t, "partition"))
}

func (m *model) send(partition int32, outcome Outcome) {
	key := ID{Producer: int32(rapid.IntRange(0, 2).Draw(m.t, "producer")), Partition: partition}
	id := key
	id.Sequence = m.next[key]
	m.next[key]++
	s := send(m.span(), id, outcome, 0)
	log := &m.logs[partition]
	if outcome == Acknowledged || outcome == Unknown && rapid.Bool().Draw(m.t, "stored") {
		if outcome == Acknowledged {
			s.Offset = int64(len(*log))
		}
		*log = append(*log, read(int64(len(*log)), id))
	}
	m.h.Sends = append(m.h.Sends, s)
}

func (m *model) poll(consumer string, partition int32, most int) {
	name := consumer + string('0'+partition)
	r := m.readers[name]
	if r == nil {
		r = &modelReader{}
		m.readers[name] = r
	}
	log := m.logs[partition]
	p := Poll{Span: m.span(), Consumer: consumer, Session: r.session, Partition: partition, Position: r.position}
	p.Records = slices.Clone(log[r.position:min(len(log), int(r.position)+most)])
	r.position += int64(len(p.Records))
	m.h.Polls = append(m.h.Polls, p)
}

func (m *model) move(consumer string, partition int32) {
	if r := m.readers[consumer+string('0'+partition)]; r != nil {
		r.session++
		r.position = int64(rapid.IntRange(0, len(m.logs[partition])).Draw(m.t, "to"))
	}
}

func (m *model) commit(partition int32, outcome Outcome) {
	m.member[partition] += int64(rapid.IntRange(0, 3).Draw(m.t, "forward"))
	c := Commit{Span: m.span(), Group: group, Member: "m", Partition: partition, Offset: m.member[partition], Outcome: outcome}
	if outcome == Acknowledged || outcome == Unknown && rapid.Bool().Draw(m.t, "applied") {
		m.committed[partition] = c.Offset
	}
	m.h.Commits = append(m.h.Commits, c)
}

func (m *model) observe(partition int32) {
	m.h.EndOffsets = append(m.h.EndOffsets, EndOffset{Span: m.span(), Client: "probe", Partition: partition, Offset: int64(len(m.logs[partition]))})
}

func (m *model) ask(partition int32) {
	m.h.Committed = append(m.h.Committed, Committed{Span: m.span(), Group: group, Client: "probe", Partition: partition, Offset: m.committed[partition]})
}

func (m *model) step() {
	p := m.partition()
	outcome := func() Outcome {
		return rapid.SampledFrom([]Outcome{Acknowledged, Acknowledged, Acknowledged, Unknown, Failed}).Draw(m.t, "outcome")
	}
	consumer := rapid.SampledFrom([]string{"a", "b"}).Draw(m.t, "consumer")
	switch rapid.SampledFrom([]string{"send", "send", "send", "poll", "move", "commit", "observe", "ask"}).Draw(m.t, "step") {
	case "send":
		m.send(p, outcome())
	case "poll":
		m.poll(consumer, p, rapid.IntRange(0, 4).Draw(m.t, "most"))
	case "move":
		m.move(consumer, p)
	case "commit":
		m.commit(p, outcome())
	case "observe":
		m.observe(p)
	case "ask":
		m.ask(p)
	}
}

// finish makes sure that every anomaly can be made out of the history, and reads the logs.
func (m *model) finish() *History {
	for p := range m.logs {
		partition := int32(p)
		m.poll("a", partition, 1_000)
		start := int64(rapid.IntRange(0, len(m.logs[p])).Draw(m.t, "log start"))
		for range 7 {
			m.send(partition, Acknowledged)
		}
		m.send(partition, Failed)
		m.poll("a", partition, 1_000)
		m.member[p]++
		m.commit(partition, Acknowledged)
		m.now += time.Second
		m.observe(partition)
		m.ask(partition)
		limit := int64(len(m.logs[p]))
		m.now += time.Second
		m.h.Logs = append(m.h.Logs, Log{Span: m.span(), Partition: partition, Start: start, Limit: limit, ReadTo: limit, Records: slices.Clone(m.logs[p][start:])})
	}
	return m.h
}

func someHistory(t *rapid.T) *History {
	m := newModel(t)
	for range rapid.IntRange(0, 60).Draw(t, "steps") {
		m.step()
	}
	return m.finish()
}

func TestNoFalseAlarm(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		if v := Check(someHistory(t)); !v.OK() {
			t.Fatalf("%+v", v)
		}
	})
}

// one draws an element for which cond holds; finish sees to it that there is one.
func one[E any](t *rapid.T, all []E, cond func(*E) bool) *E {
	var some []*E
	for i := range all {
		if cond(&all[i]) {
			some = append(some, &all[i])
		}
	}
	return rapid.SampledFrom(some).Draw(t, "one")
}

// acked draws an acknowledged send above the log's start, the log, and where in it the record is.
func acked(t *rapid.T, h *History) (*Send, *Log, int) {
	s := one(t, h.Sends, func(s *Send) bool { return s.Outcome == Acknowledged && s.Offset >= h.Logs[s.Partition].Start })
	l := &h.Logs[s.Partition]
	return s, l, int(s.Offset - l.Start)
}

// append adds a record to a log.
func (l *Log) append(id ID) {
	r := read(l.Limit, id)
	l.Records, l.Limit, l.ReadTo = append(l.Records, r), l.Limit+1, l.ReadTo+1
}

var injections = map[Kind]func(t *rapid.T, h *History){
	LostWrite: func(t *rapid.T, h *History) {
		_, l, i := acked(t, h)
		l.Records = slices.Delete(l.Records, i, i+1)
	},
	WrongContent: func(t *rapid.T, h *History) {
		_, l, i := acked(t, h)
		if rapid.Bool().Draw(t, "damaged") {
			l.Records[i].Damaged = true
		} else {
			l.Records[i].ID.Sequence += 1000
		}
	},
	Duplicate: func(t *rapid.T, h *History) {
		s, l, _ := acked(t, h)
		l.append(s.ID)
	},
	RejectedWrite: func(t *rapid.T, h *History) {
		s := one(t, h.Sends, func(s *Send) bool { return s.Outcome == Failed })
		h.Logs[s.Partition].append(s.ID)
	},
	NeverSent: func(t *rapid.T, h *History) {
		s, l, _ := acked(t, h)
		id := s.ID
		id.Sequence += 1000
		l.append(id)
	},
	Reordered: func(t *rapid.T, h *History) {
		second := one(t, h.Sends, func(s *Send) bool { return previous(h, s) != nil })
		first := previous(h, second)
		first.Offset, second.Offset = second.Offset, first.Offset
	},
	SkippedRead: func(t *rapid.T, h *History) {
		p := pollAbove(t, h, 3)
		i := rapid.IntRange(1, len(p.Records)-2).Draw(t, "skipped")
		p.Records = slices.Delete(p.Records, i, i+1)
	},
	RepeatedRead: func(t *rapid.T, h *History) {
		p := pollAbove(t, h, 1)
		i := rapid.IntRange(0, len(p.Records)-1).Draw(t, "repeated")
		p.Records = slices.Insert(p.Records, i, p.Records[i])
	},
	PhantomRead: func(t *rapid.T, h *History) {
		p := pollAbove(t, h, 1)
		p.Records[len(p.Records)-1].ID.Sequence++
	},
	RefusedRead: func(t *rapid.T, h *History) {
		_, l, _ := acked(t, h)
		at := rapid.Int64Range(l.Start, l.Limit).Draw(t, "position")
		h.Polls = append(h.Polls, Poll{Consumer: "c", Partition: l.Partition, Position: at, Error: "OFFSET_OUT_OF_RANGE"})
	},
	HighWatermarkBack: func(t *rapid.T, h *History) {
		e := one(t, h.EndOffsets, func(e *EndOffset) bool { return e.Begin > time.Second })
		e.Offset -= rapid.Int64Range(1, e.Offset).Draw(t, "back")
	},
	CommitBack: func(t *rapid.T, h *History) {
		c := one(t, h.Committed, func(c *Committed) bool { return c.Begin > time.Second })
		c.Offset -= rapid.Int64Range(1, c.Offset+1).Draw(t, "back")
	},
}

// previous returns an earlier acknowledged send of the same producer to the same partition.
func previous(h *History, s *Send) *Send {
	for i := range h.Sends {
		o := &h.Sends[i]
		if s.Outcome == Acknowledged && o.Outcome == Acknowledged && o.Producer == s.Producer && o.Partition == s.Partition && o.Sequence < s.Sequence {
			return o
		}
	}
	return nil
}

// pollAbove draws a poll that returned n records or more, of which the last n are above the log's start.
func pollAbove(t *rapid.T, h *History, n int) *Poll {
	return one(t, h.Polls, func(p *Poll) bool {
		return len(p.Records) >= n && p.Records[0].Offset >= h.Logs[p.Partition].Start
	})
}

func TestEveryAnomalyIsFound(t *testing.T) {
	for _, kind := range slices.Sorted(maps.Keys(injections)) {
		t.Run(string(kind), func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				h := someHistory(t)
				injections[kind](t, h)
				wantKind(t, h, kind)
			})
		})
	}
}
