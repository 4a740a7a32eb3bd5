package group

import (
	"container/list"
	"slices"
	"time"

	"github.com/tidemill/tidemill/protocol"
)

// state is where a group is in its life. A group that is not there is Dead.
type state uint8

const (
	stateEmpty      state = iota // no members; perhaps offsets
	statePreparing               // members are asked to join
	stateCompleting              // members have joined and wait for the leader's assignment
	stateStable                  // members have their assignment
)

// stateDead is how a group that is not there is described (G15).
const stateDead = "Dead"

func (s state) String() string {
	return [...]string{"Empty", "PreparingRebalance", "CompletingRebalance", "Stable"}[s]
}

// group is one group. The machine owns it.
//
// Invariants:
//   - joining counts the members whose join waits, unsynced those that owe a sync.
//   - supported counts the members per protocol name; each member counts once per name.
//   - leader is a member unless there are none.
//   - a member's join waits only in statePreparing, its sync only in stateCompleting.
type group struct {
	id       string
	tally    *tally
	state    state
	previous state // the state before this one
	since    int64 // ms of the last transition; -1 unknown

	protocolType string  // "" if the group never had members
	protocol     *string // selected at the last completed join
	generation   int32
	leader       string

	members     map[string]*member
	first, last *member                  // members in the order of arrival
	static      map[string]string        // instance id -> member id
	pending     map[string]*list.Element // in machine.handedOut: ids handed out with MEMBER_ID_REQUIRED (G1)
	supported   map[string]int
	joining     int
	unsynced    int

	arrived          bool // a member arrived during the present initial delay (G4)
	delay, remaining time.Duration

	// subscribed are the topics of the members. nil means that they are not known.
	subscribed map[string]bool
	// persisted is the value of the newest GroupMetadata record; nil if there is none.
	persisted []byte
	offsets   map[string]map[int32]offset
}

// offset is a committed offset.
type offset struct {
	at       int64
	epoch    int32
	metadata string
	commit   int64 // ms
	expire   int64 // ms; -1 means by the retention of the broker
	topic    protocol.TopicID
}

type member struct {
	id         string
	instance   *string
	client     Client
	rebalance  time.Duration
	session    time.Duration
	protocols  []offer
	assignment []byte

	counted    int64 // in the tally
	fresh      bool  // its first join was not yet answered (G6)
	owesSync   bool
	join       *joinWaiter
	sync       *syncWaiter
	prev, next *member
}

// offer is a protocol that a member speaks; first offers are preferred.
type offer struct {
	name     string
	metadata []byte
}

func newGroup(id string, t *tally) *group {
	return &group{
		id:        id,
		tally:     t,
		since:     -1,
		members:   make(map[string]*member),
		static:    make(map[string]string),
		pending:   make(map[string]*list.Element),
		supported: make(map[string]int),
		offsets:   make(map[string]map[int32]offset),
	}
}

// each calls fn for the members in the order of arrival. fn may remove the member.
func (g *group) each(fn func(*member)) {
	for mb := g.first; mb != nil; {
		next := mb.next
		fn(mb)
		mb = next
	}
}

// add makes mb a member; the first member decides the protocol type and leads.
func (g *group) add(mb *member, protocolType string) {
	if len(g.members) == 0 {
		g.protocolType = protocolType
	}
	if g.leader == "" {
		g.leader = mb.id
	}
	if mb.instance != nil {
		g.static[*mb.instance] = mb.id
	}
	g.members[mb.id] = mb
	if mb.prev = g.last; g.last == nil {
		g.first = mb
	} else {
		g.last.next = mb
	}
	g.last = mb
	g.count(mb, 1)
	g.weigh(mb)
}

// unlink takes mb out of the group. Its waiters were answered before.
func (g *group) unlink(mb *member) {
	delete(g.members, mb.id)
	if mb.instance != nil && g.static[*mb.instance] == mb.id {
		delete(g.static, *mb.instance)
	}
	g.setOwesSync(mb, false)
	g.count(mb, -1)
	g.tally.add(-mb.counted)
	if mb.prev == nil {
		g.first = mb.next
	} else {
		mb.prev.next = mb.next
	}
	if mb.next == nil {
		g.last = mb.prev
	} else {
		mb.next.prev = mb.prev
	}
	if g.leader == mb.id {
		g.leader = ""
		if g.first != nil {
			g.leader = g.first.id
		}
	}
}

// rename gives a static member a new id in its old place (G14).
func (g *group) rename(mb *member, id string) {
	delete(g.members, mb.id)
	if g.leader == mb.id {
		g.leader = id
	}
	mb.id = id
	g.members[id] = mb
	g.static[*mb.instance] = id
}

// weigh brings the tally up to date with what is now known of the member.
func (g *group) weigh(mb *member) {
	n := memberBytes(g.id, g.protocolType, mb)
	g.tally.add(n - mb.counted)
	mb.counted = n
}

func (g *group) count(mb *member, by int) {
	for _, o := range mb.protocols {
		if g.supported[o.name] += by; g.supported[o.name] == 0 {
			delete(g.supported, o.name)
		}
	}
}

func (g *group) setProtocols(mb *member, offers []offer) {
	g.count(mb, -1)
	mb.protocols = offers
	g.count(mb, 1)
	g.weigh(mb)
}

func (g *group) setOwesSync(mb *member, owes bool) {
	switch {
	case owes && !mb.owesSync:
		g.unsynced++
	case !owes && mb.owesSync:
		g.unsynced--
	}
	mb.owesSync = owes
}

// allJoined reports whether nobody has to be waited for (G4).
func (g *group) allJoined() bool { return g.joining == len(g.members) && len(g.pending) == 0 }

// rebalanceTimeout is the longest that any member may take to rejoin.
func (g *group) rebalanceTimeout() time.Duration {
	var longest time.Duration
	g.each(func(mb *member) { longest = max(longest, mb.rebalance) })
	return longest
}

// supports reports whether a member with these protocols may join (G3).
func (g *group) supports(protocolType string, offers []offer) bool {
	if g.state == stateEmpty {
		return protocolType != "" && len(offers) > 0
	}
	return g.protocolType == protocolType && slices.ContainsFunc(offers, func(o offer) bool {
		return g.supported[o.name] == len(g.members)
	})
}

// vote selects the protocol: each member votes for the first of its own that all support, and most votes win; at a
// tie the one that was voted for first (G3). There is at least one member.
func (g *group) vote() string {
	votes := make(map[string]int)
	var order []string
	g.each(func(mb *member) {
		for _, o := range mb.protocols {
			if g.supported[o.name] == len(g.members) {
				if votes[o.name]++; votes[o.name] == 1 {
					order = append(order, o.name)
				}
				return
			}
		}
	})
	best := ""
	for _, name := range order {
		if votes[name] > votes[best] {
			best = name
		}
	}
	return best
}

// electJoined makes sure that the leader is a member that has joined, and reports whether there is one (G5).
func (g *group) electJoined() bool {
	if leader := g.members[g.leader]; leader != nil && leader.join != nil {
		return true
	}
	for mb := g.first; mb != nil; mb = mb.next {
		if mb.join != nil {
			g.leader = mb.id
			return true
		}
	}
	return false
}

// check says whether the ids name a member: the code is for the caller (G13, G14).
func (g *group) check(memberID string, instance *string) protocol.ErrorCode {
	if instance != nil {
		id, ok := g.static[*instance]
		if !ok {
			return protocol.CodeUnknownMemberID
		}
		if id != memberID {
			return protocol.CodeFencedInstanceID
		}
	}
	if g.members[memberID] == nil {
		return protocol.CodeUnknownMemberID
	}
	return protocol.CodeNone
}

// metadata returns what mb said when it offered the named protocol.
func (mb *member) metadata(name string) []byte {
	for _, o := range mb.protocols {
		if o.name == name {
			return o.metadata
		}
	}
	return []byte{}
}

// offers reports whether mb offers exactly these.
func (mb *member) offers(offers []offer) bool {
	return slices.EqualFunc(mb.protocols, offers, func(a, b offer) bool {
		return a.name == b.name && string(a.metadata) == string(b.metadata)
	})
}
