package controller

import (
	"slices"

	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/wal"
)

// seal makes orphans of what a dead life owns.
func (s *State) seal(l wal.Life) {
	for i := range s.Partitions {
		if s.Partitions[i].Owner == l {
			s.Partitions[i].Orphan = true
		}
	}
}

// intend writes the moves as intents.
func (s *State) intend(moves []Move) {
	s.each(moves, func(p *Partition, m Move) {
		p.Target, p.Overdue = m.To, false
		if m.To == m.From {
			p.Target = wal.Life{}
		}
	})
}

// apply carries the moves out.
func (s *State) apply(moves []Move) {
	s.each(moves, func(p *Partition, m Move) {
		if m.To != m.From {
			p.Owner, p.Orphan, p.Overdue = m.To, false, false
		}
		p.Target = wal.Life{}
	})
}

// settle carries out every intent that can be.
func (s *State) settle() {
	for i := range s.Partitions {
		p := &s.Partitions[i]
		if target := s.broker(p.Target); target != nil && (p.Orphan || s.broker(p.Owner) != nil) && p.Owner != p.Target {
			p.Owner, p.Orphan, p.Overdue, p.Target = p.Target, false, false, wal.Life{}
		}
	}
}

func (s *State) each(moves []Move, f func(p *Partition, m Move)) {
	at := make(map[protocol.PartitionID]int, len(s.Partitions))
	for i := range s.Partitions {
		at[s.Partitions[i].ID] = i
	}
	for _, m := range moves {
		f(&s.Partitions[at[m.ID]], m)
	}
}

func (s *State) broker(l wal.Life) *Broker {
	for i := range s.Brokers {
		if s.Brokers[i].Life == l {
			return &s.Brokers[i]
		}
	}
	return nil
}

// roomy is the lives that may get partitions.
func (s *State) roomy() []wal.Life {
	var lives []wal.Life
	for _, b := range s.Brokers {
		if !b.Draining {
			lives = append(lives, b.Life)
		}
	}
	return lives
}

// loads is what each of the lives that may get partitions owns.
func (s *State) loads() []vector {
	lives := s.roomy()
	out := make([]vector, len(lives))
	for i := range s.Partitions {
		if at := slices.Index(lives, s.Partitions[i].Owner); at >= 0 {
			out[at].plus(s.Partitions[i].vector())
		}
	}
	return out
}

// spread is the mean load in a dimension, and how far the broker is off that is off most.
func (s *State) spread(d int) (mean, off float64) {
	loads := s.loads()
	for _, v := range loads {
		mean += v[d] / float64(len(loads))
	}
	for _, v := range loads {
		off = max(off, v[d]-mean, mean-v[d])
	}
	return mean, off
}

func (s *State) clone() State {
	return State{Brokers: slices.Clone(s.Brokers), Partitions: slices.Clone(s.Partitions)}
}
