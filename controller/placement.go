package controller

import (
	"cmp"

	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/wal"
)

// Place chooses the owners of n new partitions of a topic, which may be new or have some in s. They are spread so that, in
// this order: each broker has as many of the topic as any other, as many partitions, as many of the topic in its rack,
// and as little load. Draining brokers get none unless all are draining; it is nil when there is no broker.
//
// The count goes before the load, since what a new partition will carry is not known, and since balance (P5) would take
// back what a quiet broker got beyond its share.
func Place(s State, topic protocol.TopicID, n int) []wal.Life {
	if len(s.Brokers) == 0 {
		return nil
	}
	f := newFleet(s.Brokers, false)
	if len(f.seats) == 0 {
		f = newFleet(s.Brokers, true)
	}
	c := make([]candidate, len(f.seats))
	racks := map[string]int{}
	for i := range s.Partitions {
		p := &s.Partitions[i]
		seat, _ := f.stand(p)
		f.add(seat, p)
		if seat != nowhere && p.ID.Topic == topic {
			c[seat].ofTopic++
			racks[f.seats[seat].rack]++
		}
	}
	f.normalise()
	for i := range f.seats {
		v := f.seats[i].load
		c[i].count, v[count] = int(v[count]), 0
		c[i].load = f.weight(v)
	}
	owners := make([]wal.Life, 0, n)
	for range n {
		best := 0
		for i := range c {
			if compareCandidates(c[i], c[best], racks[f.seats[i].rack], racks[f.seats[best].rack]) < 0 {
				best = i
			}
		}
		c[best].ofTopic++
		c[best].count++
		racks[f.seats[best].rack]++
		owners = append(owners, f.seats[best].life)
	}
	return owners
}

// candidate is a seat as Place weighs it.
type candidate struct {
	ofTopic int // partitions of the topic
	count   int // partitions
	load    float64
}

func compareCandidates(a, b candidate, rackA, rackB int) int {
	return cmp.Or(cmp.Compare(a.ofTopic, b.ofTopic), cmp.Compare(a.count, b.count), cmp.Compare(rackA, rackB), cmp.Compare(a.load, b.load))
}
