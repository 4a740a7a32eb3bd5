package model

// A Verdict is what the search found out about a variant.
type Verdict string

// The verdicts of the protocol's table of variants.
const (
	Safe      Verdict = "safe"
	Hole      Verdict = "hole"              // the log has a slot that nobody can read
	Lost      Verdict = "lost acked write"  // an acknowledged slot is not in the log
	Divergent Verdict = "divergent"         // two sealers disagree about the log
	Violation Verdict = "sealed below trim" // the log ends before what is already in manifests
	Twice     Verdict = "visible twice"     // one batch is in two slots of the log
	Spurious  Verdict = "spurious fence"    // the writer took its own slot for a foreign one
	Unknown   Verdict = "bound exceeded"    // more states than allowed: nothing is proven
)

// Claim is how a sealer chooses the position of its Seal.
type Claim uint8

// Ways to choose.
const (
	FirstHole Claim = iota // S3, S4: walk from the trim, claim the first absent slot
	ListMax                // LIST, claim the number after the largest
	FillHoles              // F1-F3: claim every hole, stop after StopAfter Seals in a row
)

// Collect is when the trim may rise, and so what may be deleted.
type Collect uint8

// Policies of compaction and garbage collection.
const (
	NoGC        Collect = iota
	Unguarded           // at any time: no transaction guards the trim
	WhileOpen           // G1, first half: refused once SEALING
	AroundSeals         // G1: while OPEN, and again once SEALED, up to n
)

// On412 is what the writer makes of a 412.
type On412 uint8

// Answers to a 412.
const (
	ReadSlot  On412 = iota // W4: read the slot and see whose it is
	TakeAsOwn              // variant 9
	TakeFence              // variant 10
)

// A Variant is one protocol and the size of the instance that is searched.
type Variant struct {
	// Slots is how many slots the writer may send, Window is K (W3), Sealers is 1 or 2.
	Slots, Window, Sealers uint8
	// Doubles is how many extra copies of PUTs there may be; Crashes how many processes may crash.
	Doubles, Crashes uint8

	Claim     Claim
	StopAfter uint8 // FillHoles: Seals in a row that end the walk
	Truncate  bool  // the recoverer ends the log at the first hole instead of reporting it
	Reread    bool  // the sealer reads the trim again after its claim (variant 6)
	Adopt     bool  // S5, S6: the recovery object decides; without it a sealer trusts its own claim

	AckEach    bool // acknowledge each slot by itself instead of the prefix (W5)
	On412      On412
	GiveUp     bool // the writer may give up an unresolved slot and go on (variant 11)
	Reissue    bool // an unresolved slot's batch may be issued again in the next slot, against W2
	GC         Collect
	DropSeal   bool // the collector deletes the Seal of a SEALED stream, against G3
	SafetyOnly bool // do not judge availability
}

// A Result is the outcome of one search.
type Result struct {
	Verdict Verdict
	// States is the number of distinct states visited.
	States int
	// Trace is a shortest way to the violation, one line for each action. It is empty when there is none.
	Trace []string
}
