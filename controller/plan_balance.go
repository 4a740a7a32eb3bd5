package controller

import (
	"cmp"
	"math"
	"slices"

	"github.com/tidemill/tidemill/protocol"
)

const (
	// gainMin is what a move must lower the sum of squares by, of about one per broker: above what rounding makes of nothing.
	gainMin = 1e-9
	// worthShare: a partition with less than this share of an average one in a dimension is not moved for it. All such
	// together carry less than this share of the whole.
	worthShare = 0.1
	// slack is how far above the mean any target may come, as a share of what starts a balance. More than the half at which
	// balance stops, so that what one dimension needs can be paid for in another: with half, one in a few hundred clusters of
	// random loads ended with a broker off by the threshold. Less than the whole, so that no move calls for the next.
	slack = 0.75
)

// balancing is a plan for balance being made.
type balancing struct {
	*fleet
	start   vector             // how far off the mean a broker may be
	worth   vector             // what a partition must have to be moved for a dimension
	uneven  [dimensions]bool   // dimensions in which a broker is off by start
	stuck   [][dimensions]bool // by seat: no move helps
	movable [][]alike          // by seat; what was moved is in no list, so it moves once
}

// alike are the partitions of a seat with the same load, the one that is taken first last. Most partitions of a large cluster are idle:
// looked at one by one for each move, 100,000 of them would take a minute.
type alike struct {
	load   vector
	recent bool // moved for the count alone (P8)
	list   []*Partition
}

// first is the partition that is taken first.
func (a *alike) first() *Partition { return a.list[len(a.list)-1] }

// balance evens out the dimensions in which some broker is off the mean by the threshold (P5).
func (f *fleet) balance(partitions []Partition, homes []int32, o Options) []Move {
	b := &balancing{fleet: f}
	if !b.begin(o.threshold(), len(partitions)) {
		return nil
	}
	b.stuck = make([][dimensions]bool, len(f.seats))
	b.collect(partitions, homes)
	var moves []Move
	for limit := o.movesMax(len(partitions)); len(moves) < limit; {
		seat, d, off := b.worst()
		if seat == nowhere {
			break
		}
		if m, ok := b.mend(seat, d, off); ok {
			moves = append(moves, m)
		} else {
			b.stuck[seat][d] = true
		}
	}
	return moves
}

// collect sorts what may move by where it is and what it carries.
func (b *balancing) collect(partitions []Partition, homes []int32) {
	type place struct {
		seat   int32
		load   vector
		recent bool
	}
	b.movable = make([][]alike, len(b.seats))
	at := map[place]int{}
	for i := range partitions {
		p := &partitions[i]
		if homes[i] == nowhere || p.Pinned {
			continue
		}
		here := place{homes[i], p.vector(), p.Recent}
		k, known := at[here]
		if !known {
			k = len(b.movable[here.seat])
			at[here] = k
			b.movable[here.seat] = append(b.movable[here.seat], alike{load: here.load, recent: p.Recent})
		}
		b.movable[here.seat][k].list = append(b.movable[here.seat][k].list, p)
	}
	for _, lists := range b.movable {
		for i := range lists {
			lists[i].interleave()
		}
	}
}

// interleave orders the list so that any run from its end has the same share of each topic, up to one partition. By their ids alone all
// partitions of a topic would follow one another: a new broker got whole topics, or nothing of them.
func (a *alike) interleave() {
	all, seen := map[protocol.TopicID]int{}, map[protocol.TopicID]int{}
	for _, p := range a.list {
		all[p.ID.Topic]++
	}
	slices.SortFunc(a.list, func(x, y *Partition) int { return compareIDs(x.ID, y.ID) })
	turns := make(map[*Partition]float64, len(a.list)) // between 0 and 1: the share of its topic that goes before it
	for _, p := range a.list {
		turns[p] = (float64(seen[p.ID.Topic]) + 0.5) / float64(all[p.ID.Topic])
		seen[p.ID.Topic]++
	}
	slices.SortFunc(a.list, func(x, y *Partition) int { return cmp.Or(cmp.Compare(turns[y], turns[x]), compareIDs(y.ID, x.ID)) })
}

// begin reports whether there is anything to do.
func (b *balancing) begin(threshold float64, partitions int) bool {
	begin := false
	for d := range dimensions {
		b.start[d] = max(threshold*b.mean[d], floors[d])
		b.worth[d] = worthShare * b.total[d] / float64(max(1, partitions))
		for i := range b.seats {
			if math.Abs(b.seats[i].load[d]-b.mean[d]) >= b.start[d] {
				b.uneven[d] = true
			}
		}
		begin = begin || b.uneven[d]
	}
	return begin
}

// worst returns the seat that is off most, in which dimension, and by how much, or nowhere when all are within half of what
// starts a balance, or stuck.
func (b *balancing) worst() (seat, dimension int, off float64) {
	seat, most := nowhere, 0.5
	for d := range dimensions {
		if !b.uneven[d] {
			continue
		}
		for i := range b.seats {
			by := b.seats[i].load[d] - b.mean[d]
			if share := math.Abs(by) / b.start[d]; share > most && !b.stuck[i][d] {
				seat, dimension, off, most = i, d, by, share
			}
		}
	}
	return seat, dimension, off
}

// mend moves the best partition from a seat that has too much to the one that has least and can take it, or to a seat that
// has too little from the one that has most and can give.
func (b *balancing) mend(seat, d int, off float64) (Move, bool) {
	partners := make([]int, len(b.seats))
	for i := range partners {
		partners[i] = i
	}
	slices.SortStableFunc(partners, func(i, j int) int {
		c := cmp.Compare(b.seats[i].load[d], b.seats[j].load[d])
		if off < 0 {
			return -c
		}
		return c
	})
	for _, partner := range partners {
		from, to := seat, partner
		if off < 0 {
			from, to = partner, seat
		}
		if b.seats[from].load[d] <= b.seats[to].load[d] {
			break // and so it is with all that follow
		}
		if i := b.best(from, to, d); i != nowhere {
			return b.move(from, to, i), true
		}
	}
	return Move{}, false
}

// best returns the index of the partitions of which one gains most by a move, or nowhere. What came lately is taken for the count alone,
// and when nothing else gains (P8).
func (b *balancing) best(from, to, d int) int {
	best, most := nowhere, gainMin
	list, limits := b.movable[from], b.limits(&b.seats[from], d)
	for _, recent := range []bool{false, true} {
		if recent && (best != nowhere || d != count) {
			break
		}
		for i := range list {
			if list[i].recent != recent {
				continue
			}
			gain := b.gain(&b.seats[from], &b.seats[to], &limits, list[i].load, d)
			if gain > most || gain == most && best != nowhere && compareIDs(list[i].first().ID, list[best].first().ID) < 0 {
				best, most = i, gain
			}
		}
	}
	return best
}

// limits are what a target may have after a move from a seat for dimension d: there less than the seat has, and anywhere no
// further above the mean than slack, or than the seat is where it is worst.
func (b *balancing) limits(from *seat, d int) vector {
	worst := slack
	for e := range from.load {
		worst = max(worst, (from.load[e]-b.mean[e])/b.start[e])
	}
	var limits vector
	for e := range limits {
		limits[e] = b.mean[e] + worst*b.start[e]
	}
	limits[d] = min(limits[d], math.Nextafter(from.load[d], 0))
	return limits
}

// gain is half of what a move of v lowers the sum of squares by (P6), or 0 if it does too little for the dimension or
// passes the limits of the target.
func (b *balancing) gain(from, to *seat, limits *vector, v vector, d int) float64 {
	if v[d] < b.worth[d] {
		return 0
	}
	gain := 0.0
	for e := range v {
		after := to.load[e] + v[e]
		if after > limits[e] {
			return 0
		}
		gain += v[e] * b.scale[e] * (from.load[e] - after) * b.scale[e]
	}
	return gain
}

func (b *balancing) move(from, to, i int) Move {
	lists := b.movable[from]
	a := &lists[i]
	p, load := a.first(), a.load
	if a.list = a.list[:len(a.list)-1]; len(a.list) == 0 {
		lists[i] = lists[len(lists)-1]
		b.movable[from] = lists[:len(lists)-1]
	}
	b.seats[from].load.minus(load)
	b.seats[to].load.plus(load)
	return Move{ID: p.ID, From: b.seats[from].life, To: b.seats[to].life, Reason: ReasonBalance}
}
