package partition

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/tidemill/tidemill/objectstore/faultstore"
	"github.com/tidemill/tidemill/protocol/record"
	"github.com/tidemill/tidemill/wal"
)

// model is a partition as a list.
type model struct {
	batches  []modelBatch
	logStart int64
}

type modelBatch struct {
	base, last int64
	producer   int64
	epoch      int16
	first      int32
	records    int
}

// modelProducer is a client: it numbers its batches and sends the oldest unanswered ones again after a restart.
type modelProducer struct {
	id     int64
	epoch  int16
	next   int32
	unsent []sentBatch
}

type sentBatch struct {
	seq     int32
	records int
	outcome *outcomeOf
}

// machine drives one partition beside bystanders and compares it with the model.
type machine struct {
	w         *world
	n         *node
	l         *Log
	model     model
	producers []*modelProducer
	inSlots   []*wal.Slot // cut, in order, not committed
	all       []*outcomeOf
}

func (m *machine) send(p *modelProducer, s *sentBatch) {
	b := producerBatch(p.id, p.epoch, s.seq, s.records, int64(s.seq))
	s.outcome = m.l.try(b)
	m.all = append(m.all, s.outcome)
}

// settle takes what was answered off the producers' lists and into the model.
func (m *machine) settle(t *rapid.T) {
	for _, p := range m.producers {
		for len(p.unsent) > 0 && p.unsent[0].outcome != nil && p.unsent[0].outcome.calls > 0 {
			s := p.unsent[0]
			if s.outcome.err != nil {
				if !errors.Is(s.outcome.err, ErrNotLeader) {
					t.Fatalf("producer %d sequence %d: %v", p.id, s.seq, s.outcome.err)
				}
				break
			}
			p.unsent = p.unsent[1:]
			base := s.outcome.res.BaseOffset
			m.model.batches = append(m.model.batches, modelBatch{
				base: base, last: base + int64(s.records) - 1, producer: p.id, epoch: p.epoch, first: s.seq, records: s.records,
			})
		}
	}
	slices.SortFunc(m.model.batches, func(a, b modelBatch) int { return int(a.base - b.base) })
}

func (m *machine) commit(t *rapid.T, n int) {
	for _, s := range m.inSlots[:n] {
		m.n.set.Committed(s)
	}
	m.inSlots = m.inSlots[n:]
	m.settle(t)
}

// restart kills the life. What was cut survives, acknowledged or not, up to a point; what was not cut is lost.
func (m *machine) restart(t *rapid.T, durable int) {
	recoveries := m.n.kill()
	r := recoveries[m.n.life]
	lost := m.inSlots[durable:]
	if len(lost) > 0 {
		r.N = lost[0].Seq
		r.Chunks = slices.DeleteFunc(r.Chunks, func(c wal.RecoveredChunk) bool { return c.Seq >= r.N })
		recoveries[m.n.life] = r
	}
	m.inSlots = nil
	m.n.set.Fenced(wal.ErrFenced)
	m.settle(t)
	m.n = m.w.reopen(recoveries)
	m.l = m.n.log(0)
	if got := m.l.State().LogStart; got != m.model.logStart {
		t.Fatalf("log start %d after restart, want %d", got, m.model.logStart)
	}
	for _, p := range m.producers {
		for i := range p.unsent {
			m.send(p, &p.unsent[i])
		}
	}
}

// check reads everything and compares it with the acknowledged batches: each there once, at its offset.
func (m *machine) check(t *rapid.T) {
	st := m.l.State()
	var got []modelBatch
	for offset := m.model.logStart; offset < st.HighWatermark; {
		r, err := m.l.Read(context.Background(), ReadInput{Offset: offset, MaxBytes: 300, AtLeastOne: true})
		if err != nil || r.Bytes == 0 {
			t.Fatalf("read at %d: %d bytes, %v", offset, r.Bytes, err)
		}
		for buf := bytes.Join(r.Batches, nil); len(buf) > 0; {
			b, rest, err := record.Next(buf)
			if err != nil || record.Check(b) != nil || len(got) > 0 && b.BaseOffset() != got[len(got)-1].last+1 {
				t.Fatalf("batch at %d behind %d: %v", b.BaseOffset(), offset, err)
			}
			got = append(got, modelBatch{
				base: b.BaseOffset(), last: b.LastOffset(), producer: b.ProducerID(), epoch: b.ProducerEpoch(),
				first: b.BaseSequence(), records: int(b.NumRecords()),
			})
			buf, offset = rest, b.LastOffset()+1
		}
	}
	have := map[string]int64{}
	for _, b := range got {
		key := fmt.Sprint(b.producer, b.epoch, b.first, b.records)
		if at, twice := have[key]; twice {
			t.Fatalf("batch %s is at %d and at %d", key, at, b.base)
		}
		have[key] = b.base
	}
	for _, b := range m.model.batches {
		if b.last < m.model.logStart {
			continue
		}
		key := fmt.Sprint(b.producer, b.epoch, b.first, b.records)
		if at, ok := have[key]; !ok || at != b.base {
			t.Fatalf("acknowledged batch %s is at %d (%v), want %d", key, at, ok, b.base)
		}
	}
	for _, o := range m.all {
		if o.calls > 1 {
			t.Fatalf("answered %d times: %+v", o.calls, o)
		}
	}
}

func TestModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(t)
		m := &machine{w: w, n: w.start()}
		m.l = m.n.create(0)
		for id := range int64(3) {
			m.producers = append(m.producers, &modelProducer{id: id, epoch: 1})
		}
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 0))
		steps := rapid.IntRange(1, 60).Draw(rt, "steps")
		for range steps {
			m.step(rt, rng)
			m.check(rt)
		}
		m.inSlots = append(m.inSlots, m.n.cut())
		m.commit(rt, len(m.inSlots))
		m.check(rt)
		for _, p := range m.producers {
			if len(p.unsent) > 0 {
				rt.Fatalf("producer %d was not answered: %+v", p.id, p.unsent[0])
			}
		}
	})
}

func (m *machine) step(t *rapid.T, rng *rand.Rand) {
	switch p := m.producers[rng.IntN(len(m.producers))]; rng.IntN(10) {
	case 0, 1, 2:
		if len(p.unsent) == producerBatches {
			return
		}
		p.unsent = append(p.unsent, sentBatch{seq: p.next, records: 1 + rng.IntN(4)})
		s := &p.unsent[len(p.unsent)-1]
		p.next += int32(s.records)
		m.send(p, s)
	case 3: // the answer was lost on the way: the client sends again, the original counts
		if len(p.unsent) > 0 {
			s := p.unsent[rng.IntN(len(p.unsent))]
			again := m.l.try(producerBatch(p.id, p.epoch, s.seq, s.records, int64(s.seq)))
			m.all = append(m.all, again)
		}
	case 4, 5:
		m.inSlots = append(m.inSlots, m.n.cut())
	case 6, 7:
		m.commit(t, rng.IntN(len(m.inSlots)+1))
	case 8:
		m.checkpoint(t, rng)
	case 9:
		if rng.IntN(2) == 0 {
			m.restart(t, rng.IntN(len(m.inSlots)+1))
			return
		}
		st := m.l.State()
		to := st.LogStart + rng.Int64N(st.HighWatermark-st.LogStart+1)
		got, err := m.l.DeleteRecords(context.Background(), to)
		if err != nil || got != to {
			t.Fatalf("delete records up to %d: %d, %v", to, got, err)
		}
		m.model.logStart = to
	}
}

// checkpoint writes one, perhaps under a fault: then nothing may change but that it failed.
func (m *machine) checkpoint(t *rapid.T, rng *rand.Rand) {
	fault := rng.IntN(6)
	switch fault {
	case 0:
		m.w.meta.before = errMeta
	case 1:
		m.w.meta.after, m.w.meta.apply = errMeta, 1
	case 2:
		m.w.store.SetRules(faultstore.Rule{Op: faultstore.Put, Match: isManifest, Fault: faultstore.Lost})
	case 3:
		m.w.store.SetRules(faultstore.Rule{Op: faultstore.Put, Match: isManifest, Fault: faultstore.LostReply, Limit: 2})
	}
	err := m.n.set.Checkpoint(context.Background())
	if err != nil && fault > 2 {
		t.Fatalf("checkpoint: %v", err)
	}
	m.w.meta.before, m.w.meta.after = nil, nil
	m.w.store.SetRules()
}
