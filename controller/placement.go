package controller

import (
	"cmp"

	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/wal"
)

// OwnersMax bounds the owners of partitions that are created together: the transaction that publishes them compares the state of each
// owner's log, and etcd takes 128 comparisons. Balance spreads them further.
const OwnersMax = 100

// Place chooses the owners of n new partitions of a topic, which may be new or have some in s. They are spread so that, in
// this order: each broker has as many of the topic as any other, as many partitions, as many of the topic in its rack,
// and as little load. Draining brokers get none unless all are draining; it is nil when there is no broker.
//
// No more than OwnersMax brokers get any of the n.
//
// The count goes before the load, since what a new partition will carry is not known, and since balance (P5) would take
// back what a quiet broker got beyond its share.
func Place(s State, topic protocol.TopicID, n int) []wal.Life {
	p := NewPlacer(s)
	ofTopic := make([]int, len(p.seats))
	for i := range s.Partitions {
		if q := &s.Partitions[i]; q.ID.Topic == topic {
			if seat, _ := p.fleet.stand(q); seat != nowhere {
				ofTopic[seat]++
			}
		}
	}
	return p.place(ofTopic, n)
}

// A Placer places the partitions of many new topics. It counts what there is once: to count all again for each of thousands of topics in
// one request would take seconds.
type Placer struct {
	fleet *fleet
	seats []candidate
}

// candidate is a seat as placement weighs it.
type candidate struct {
	ofTopic int // partitions of the topic
	count   int // partitions
	load    float64
}

// NewPlacer counts what the brokers of s have, and are to get by intents.
func NewPlacer(s State) *Placer {
	f := newFleet(s.Brokers, false)
	if len(f.seats) == 0 {
		f = newFleet(s.Brokers, true)
	}
	for i := range s.Partitions {
		q := &s.Partitions[i]
		seat, _ := f.stand(q)
		f.add(seat, q)
	}
	f.normalise()
	p := &Placer{fleet: f, seats: make([]candidate, len(f.seats))}
	for i := range f.seats {
		v := f.seats[i].load
		p.seats[i].count, v[count] = int(v[count]), 0
		p.seats[i].load = f.weight(v)
	}
	return p
}

// Place chooses the owners of the n partitions of a new topic as the function does. They do not count for the next topic until they are added.
func (p *Placer) Place(n int) []wal.Life { return p.place(make([]int, len(p.seats)), n) }

// Add counts new partitions with their owners.
func (p *Placer) Add(owners []wal.Life) {
	for _, life := range owners {
		if seat, _ := p.fleet.seat(life); seat != nowhere {
			p.seats[seat].count++
		}
	}
}

// place chooses owners when each seat has some of the topic already.
func (p *Placer) place(ofTopic []int, n int) []wal.Life {
	if len(p.seats) == 0 {
		return nil
	}
	seats := p.fleet.seats
	c := make([]candidate, len(seats))
	racks := map[string]int{}
	for i := range seats {
		c[i] = p.seats[i]
		c[i].ofTopic = ofTopic[i]
		racks[seats[i].rack] += ofTopic[i]
	}
	owners := make([]wal.Life, 0, n)
	chosen := map[int]bool{}
	for range n {
		best := nowhere
		for i := range c {
			if len(chosen) == OwnersMax && !chosen[i] {
				continue
			}
			if best == nowhere || compareCandidates(c[i], c[best], racks[seats[i].rack], racks[seats[best].rack]) < 0 {
				best = i
			}
		}
		chosen[best] = true
		c[best].ofTopic++
		c[best].count++
		racks[seats[best].rack]++
		owners = append(owners, seats[best].life)
	}
	return owners
}

func compareCandidates(a, b candidate, rackA, rackB int) int {
	return cmp.Or(cmp.Compare(a.ofTopic, b.ofTopic), cmp.Compare(a.count, b.count), cmp.Compare(rackA, rackB), cmp.Compare(a.load, b.load))
}
