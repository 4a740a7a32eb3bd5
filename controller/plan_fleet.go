package controller

import (
	"cmp"
	"math"
	"slices"

	"github.com/tidemill/tidemill/wal"
)

// The dimensions of load.
const (
	count = iota
	bytesPerSecond
	requestsPerSecond
	dimensions
)

// vector is a load in all dimensions. Its numbers are whole and small enough for float64 to add them exactly, so sums do
// not depend on the order of their parts.
type vector [dimensions]float64

// floors are what a broker may be off the mean, whatever the mean: below it nobody is worth a pause. One partition off the
// mean on some broker is what two apart from the least to the most loaded comes to. Means below the floors do not
// enlarge what little there is: it must not outweigh the count.
var floors = vector{1, 1e6, 100}

// loadMax bounds what one partition is believed to have in a dimension: more than any broker's network takes.
const loadMax = 1e10

func (p *Partition) vector() vector {
	return vector{1, whole(p.Load.BytesPerSecond), whole(p.Load.RequestsPerSecond)}
}

// whole bounds and rounds x; what is no number is nothing.
func whole(x float64) float64 {
	if math.IsNaN(x) {
		return 0
	}
	return math.Round(min(max(x, 0), loadMax))
}

func (v *vector) plus(w vector) {
	for d := range v {
		v[d] += w[d]
	}
}

func (v *vector) minus(w vector) {
	for d := range v {
		v[d] -= w[d]
	}
}

// nowhere is the seat of what has none.
const nowhere = -1

// seat is a broker that may get partitions.
type seat struct {
	life wal.Life
	rack string
	load vector // of what it has, or will have when intents and the moves planned so far are carried out
}

// fleet is the live brokers with what each has to carry.
type fleet struct {
	seats  []seat             // in order of their lives
	places map[wal.Life]int32 // of each live broker: its seat, or nowhere when it is draining
	total  vector
	mean   vector // per seat
	scale  vector // what makes loads of different dimensions comparable: 1 is a mean broker's
}

// newFleet seats the brokers that are not draining, or all.
func newFleet(brokers []Broker, all bool) *fleet {
	f := &fleet{places: make(map[wal.Life]int32, len(brokers))}
	for _, b := range brokers {
		f.places[b.Life] = nowhere
		if all || !b.Draining {
			f.seats = append(f.seats, seat{life: b.Life, rack: b.Rack})
		}
	}
	slices.SortFunc(f.seats, func(a, b seat) int { return compareLives(a.life, b.life) })
	for i := range f.seats {
		f.places[f.seats[i].life] = int32(i)
	}
	return f
}

// seat returns the seat of a life, or nowhere, and whether it is live at all.
func (f *fleet) seat(l wal.Life) (int32, bool) {
	if i, ok := f.places[l]; ok {
		return i, true
	}
	return nowhere, false
}

// add counts p at a seat; at nowhere, it is nobody's load.
func (f *fleet) add(seat int32, p *Partition) {
	if seat != nowhere {
		v := p.vector()
		f.seats[seat].load.plus(v)
		f.total.plus(v)
	}
}

// expect counts p as a load that some seat will get.
func (f *fleet) expect(p *Partition) { f.total.plus(p.vector()) }

// normalise sets mean and scale from the total.
func (f *fleet) normalise() {
	for d := range f.total {
		f.mean[d] = f.total[d] / float64(max(1, len(f.seats)))
		f.scale[d] = 1 / max(f.mean[d], floors[d])
	}
}

// weight is what v adds to an empty seat.
func (f *fleet) weight(v vector) float64 {
	w := 0.0
	for d := range v {
		w += v[d] * f.scale[d]
	}
	return w
}

// assign gives each partition the seat where it hurts least, the heaviest first.
func (f *fleet) assign(partitions []*Partition, why Reason) []Move {
	type item struct {
		*Partition
		load   vector
		weight float64
	}
	items := make([]item, 0, len(partitions))
	for _, p := range partitions {
		v := p.vector()
		items = append(items, item{p, v, f.weight(v)})
	}
	slices.SortFunc(items, func(a, b item) int {
		if c := cmp.Compare(b.weight, a.weight); c != 0 {
			return c
		}
		return compareIDs(a.ID, b.ID)
	})
	moves := make([]Move, 0, len(items))
	for _, it := range items {
		to := f.leastHurt(it.load)
		to.load.plus(it.load)
		moves = append(moves, Move{ID: it.ID, From: it.Owner, To: to.life, Reason: why})
	}
	return moves
}

// leastHurt returns the seat where v raises the sum of squares (P6) least. Which one that is depends on v, whose bytes
// want another seat than its requests, so no queue of seats could have it ready.
func (f *fleet) leastHurt(v vector) *seat {
	var best *seat
	least := math.Inf(1)
	for i := range f.seats {
		s := &f.seats[i]
		hurt := 0.0
		for d := range v {
			hurt += v[d] * f.scale[d] * s.load[d] * f.scale[d]
		}
		if hurt < least {
			best, least = s, hurt
		}
	}
	return best
}
