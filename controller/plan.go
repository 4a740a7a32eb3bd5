// Package controller decides which life owns which partition.
//
// A plan is a pure function of what metadata shows: no clock, no randomness, no order of its inputs matters. So whoever
// runs the controller plans the same, a plan that was carried out in part is simply made again, and tests are texts.
// A move costs one transaction and a pause of its partition, whatever its data: what the rules save is pauses.
//
//   - P1 An orphan, whose owner's log is SEALED (O2b), goes to a broker that is not draining. It has no owner to wait for,
//     so it comes first and without a limit on how many.
//   - P2 What a draining broker owns goes to those that are not. With no such broker nothing moves: a broker that is about
//     to stop would only have to give away again what it got.
//   - P3 An intent stands while its target is live and not draining. Otherwise a partition that must move still (P1, P2)
//     gets a new target, and for any other the intent is cancelled.
//     Nor does that of an orphan stand whose target has not claimed it for long, though it lives, while there are others: it may
//     not reach the bucket. The next in the order of lives gets it, and so on, so that all have tried in the end.
//   - P4 A partition whose owner is gone while its log is not SEALED is left alone: nothing can be done for it (S7).
//   - P5 Balance begins when P1 to P4 leave nothing to do or to wait for, since each of them changes what is even. What is stuck
//     is not waited for: one damaged partition must not keep a new broker from its share.
//     Then a dimension (partitions, bytes, requests) in which some broker is off the mean by the threshold is evened out,
//     until every broker is within half of it or no move helps. Between the two nothing moves, so that loads may swing.
//   - P6 Every move for balance lowers the sum of the squares of all brokers' normalised loads. So no sequence of plans comes
//     back to where it was, and all end. Nor does it leave the target worse off than the source was: in the dimension it
//     has less then, and none is above the mean by the threshold unless one of the source's was by as much.
//   - P7 Balance leaves pinned partitions alone; P1 and P2 do not.
//   - P8 What came to its owner lately is not moved again for bytes or requests: what it costs there is not known yet, and a load
//     that swings would be sent to and fro. For the count it is, as a new broker waits for its share and counts do not swing.
package controller

import (
	"bytes"
	"cmp"
	"slices"

	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/wal"
)

// Broker is a registered broker whose log is OPEN, so that its life may own partitions.
type Broker struct {
	Life     wal.Life
	Rack     string // "": unknown
	Draining bool   // about to stop: it gives away and gets nothing
}

// Load is what a partition costs its owner, smoothed over minutes by who measures it.
type Load struct {
	BytesPerSecond    float64
	RequestsPerSecond float64
}

// Partition is one partition as metadata shows it.
type Partition struct {
	ID    protocol.PartitionID
	Owner wal.Life
	// Orphan: the owner's life is SEALED, so that any open life may claim the partition (O2b).
	Orphan bool
	// Target is where an intent sends it; zero: nowhere.
	Target wal.Life
	Load   Load
	// Pinned: balance leaves it where it is, because an operator sent it there (P7).
	Pinned bool
	// Stuck: its intent, or the end of its owner's log, is waited for since so long that nobody knows whether it will come (P5).
	Stuck bool
	// Overdue: its present target has had as long (P3).
	Overdue bool
	// Recent: it came to its owner lately, for balance, or so lately that its load was not measured there yet (P8).
	Recent bool
}

// State is all that a plan depends on. The order of the slices does not matter; lives and ids are unique.
type State struct {
	Brokers    []Broker
	Partitions []Partition
}

// Options are what an operator may choose. The zero value means the defaults.
type Options struct {
	// Threshold is how far off the mean a broker may be before balance begins, as a share of it; 0: a fifth.
	Threshold float64
	// MovesMax bounds the moves for balance in one plan; 0: a tenth of the partitions, but at least 64; negative: none.
	MovesMax int
}

// Defaults. A fifth is more than smoothed loads swing and less than users notice. A tenth per plan gives a new broker its
// share within five plans, and lets the loads be measured between them; 64 intents are one or two transactions.
const (
	thresholdDefault = 0.2
	movesMin         = 64
	movesShare       = 10
)

func (o Options) threshold() float64 {
	if o.Threshold <= 0 {
		return thresholdDefault
	}
	return o.Threshold
}

func (o Options) movesMax(partitions int) int {
	if o.MovesMax == 0 {
		return max(movesMin, partitions/movesShare)
	}
	return max(0, o.MovesMax)
}

// Reason says why a move is planned.
type Reason string

// The reasons, by rule.
const (
	ReasonOrphan  Reason = "orphan"  // P1
	ReasonDrain   Reason = "drain"   // P2
	ReasonCancel  Reason = "cancel"  // P3
	ReasonBalance Reason = "balance" // P5
)

// Move sends a partition to another life, in place of where an earlier plan sent it. It is written as an intent, and carried
// out by the owner, or by the target if the partition is an orphan. To equals From when the partition stays and its intent
// is to be removed (ReasonCancel).
type Move struct {
	ID       protocol.PartitionID
	From, To wal.Life
	Reason   Reason
}

// Plan returns the moves that s calls for, at most one per partition: orphans first, then drains, the heaviest first; then
// what is cancelled; or else what balance asks for. It is empty when all is well or on its way.
func Plan(s State, o Options) []Move {
	f := newFleet(s.Brokers, false)
	homes := make([]int32, len(s.Partitions))
	var orphans, drained, cancelled []*Partition
	var passed []Move
	waiting := false
	for i := range s.Partitions {
		p := &s.Partitions[i]
		seat, st := f.stand(p)
		homes[i] = nowhere // balance moves what is settled
		switch st {
		case orphaned:
			orphans = append(orphans, p)
		case forsaken:
			passed = append(passed, Move{ID: p.ID, From: p.Owner, To: f.seats[seat].life, Reason: ReasonOrphan})
		case evicted:
			drained = append(drained, p)
		case misdirected:
			cancelled = append(cancelled, p)
		case underWay, stranded:
			waiting = waiting || !p.Stuck
		case settled:
			homes[i] = seat
		}
		f.add(seat, p)
	}
	for _, list := range [][]*Partition{orphans, drained} {
		for _, p := range list {
			f.expect(p)
		}
	}
	f.normalise()
	moves := append(f.assign(orphans, ReasonOrphan), sortedByID(passed)...)
	moves = append(moves, f.assign(drained, ReasonDrain)...)
	moves = append(moves, cancel(cancelled)...)
	if waiting || len(moves) > 0 {
		return moves
	}
	return f.balance(s.Partitions, homes, o)
}

// standing is what the rules say of a partition.
type standing int

const (
	settled     standing = iota // its owner is live and nothing is planned
	underWay                    // its intent stands (P3)
	orphaned                    // P1
	forsaken                    // an orphan that its target does not claim (P3)
	evicted                     // P2
	misdirected                 // its intent is to be removed (P3)
	stranded                    // nothing can be done now (P4, or nobody can take it)
)

// stand judges a partition, and returns the seat that it has or is on its way to, or nowhere.
func (f *fleet) stand(p *Partition) (int32, standing) {
	owner, alive := f.seat(p.Owner)
	target, _ := f.seat(p.Target)
	switch {
	case target != nowhere && p.Orphan && p.Overdue && len(f.seats) > 1:
		return (target + 1) % int32(len(f.seats)), forsaken
	case target != nowhere && p.Target != p.Owner:
		return target, underWay
	case p.Orphan && len(f.seats) > 0:
		return nowhere, orphaned
	case p.Orphan, !alive:
		return nowhere, stranded
	case owner == nowhere && len(f.seats) > 0:
		return nowhere, evicted
	case !p.Target.IsZero():
		return owner, misdirected
	}
	return owner, settled
}

func cancel(partitions []*Partition) []Move {
	var moves []Move
	for _, p := range partitions {
		moves = append(moves, Move{ID: p.ID, From: p.Owner, To: p.Owner, Reason: ReasonCancel})
	}
	return sortedByID(moves)
}

func sortedByID(moves []Move) []Move {
	slices.SortFunc(moves, func(a, b Move) int { return compareIDs(a.ID, b.ID) })
	return moves
}

func compareIDs(a, b protocol.PartitionID) int {
	if c := bytes.Compare(a.Topic[:], b.Topic[:]); c != 0 {
		return c
	}
	return cmp.Compare(a.Partition, b.Partition)
}

func compareLives(a, b wal.Life) int {
	return cmp.Or(cmp.Compare(a.Broker, b.Broker), cmp.Compare(a.Epoch, b.Epoch), bytes.Compare(a.Nonce[:], b.Nonce[:]))
}
