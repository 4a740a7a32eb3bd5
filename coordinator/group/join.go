package group

import (
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/protocol"
)

// newMemberJoinTimeout is how long the first join of a member may wait (G6), as in Kafka.
const newMemberJoinTimeout = 5 * time.Minute

// join is one JoinGroup request.
type join struct {
	req     *kmsg.JoinGroupRequest // a copy without the protocols
	client  Client
	unique  string // for a member id
	session time.Duration
	// rebalance is the session timeout where the version has no other (v0).
	rebalance time.Duration
	offers    []offer
	waiter    *joinWaiter
}

func newJoin(req *kmsg.JoinGroupRequest, client Client, unique string, reply func(*kmsg.JoinGroupResponse)) *join {
	kept := &kmsg.JoinGroupRequest{
		Version:      req.Version,
		Group:        cloneString(req.Group),
		MemberID:     cloneString(req.MemberID),
		InstanceID:   clonePointer(req.InstanceID),
		ProtocolType: cloneString(req.ProtocolType),
	}
	j := &join{
		req:       kept,
		client:    client,
		unique:    unique,
		session:   time.Duration(req.SessionTimeoutMillis) * time.Millisecond,
		rebalance: time.Duration(req.RebalanceTimeoutMillis) * time.Millisecond,
		waiter:    &joinWaiter{version: req.Version, reply: reply},
	}
	if req.Version == 0 {
		j.rebalance = j.session
	}
	j.offers = make([]offer, 0, len(req.Protocols))
	for _, p := range req.Protocols {
		j.offers = append(j.offers, offer{name: cloneString(p.Name), metadata: cloneBytes(p.Metadata)})
	}
	return j
}

// growth is how much more the shard holds with this join than it held of its member before.
func (j *join) growth(g *group) int64 {
	mb := j.member(j.memberID())
	n := memberBytes(j.req.Group, j.req.ProtocolType, mb)
	old := g.members[mb.id]
	if old == nil && mb.instance != nil {
		old = g.members[g.static[*mb.instance]] // whose place it takes (G14)
	}
	if old != nil {
		n -= old.counted
	}
	if g.pending[mb.id] != nil {
		n -= pendingBytes(g.id, mb.id)
	}
	return n
}

// memberID is the id that the member has or is given.
func (j *join) memberID() string {
	switch {
	case j.req.MemberID != "":
		return j.req.MemberID
	case j.req.InstanceID != nil:
		return *j.req.InstanceID + "-" + j.unique
	default:
		return j.client.ID + "-" + j.unique
	}
}

// member is the new member that the join makes.
func (j *join) member(id string) *member {
	return &member{
		id:        id,
		instance:  j.req.InstanceID,
		client:    j.client,
		rebalance: j.rebalance,
		session:   j.session,
		protocols: j.offers,
		fresh:     true,
	}
}

// tooLong reports whether a name does not fit into a record, or the offers alone into the group's: such a join would hold
// its memory while it waits, and its group could never be stable.
func (j *join) tooLong() bool {
	size := 0
	for _, o := range j.offers {
		size += len(o.metadata)
	}
	if size > recordBytesMax {
		return true
	}
	return len(j.client.ID) > nameBytesMax || len(j.req.ProtocolType) > nameBytesMax ||
		j.req.InstanceID != nil && len(*j.req.InstanceID) > nameBytesMax ||
		slices.ContainsFunc(j.offers, func(o offer) bool { return len(o.name) > nameBytesMax })
}

// repeats reports whether a protocol is offered twice.
func (j *join) repeats() bool {
	seen := make(map[string]bool, len(j.offers))
	for _, o := range j.offers {
		if seen[o.name] {
			return true
		}
		seen[o.name] = true
	}
	return false
}

func (m *machine) refuseJoin(j *join, memberID string, code protocol.ErrorCode) {
	m.replyJoin(j.waiter, joinError(memberID, code))
}

// joinGroup is the input of a JoinGroup request.
func (m *machine) joinGroup(j *join) {
	id := j.req.MemberID
	if j.session < m.lim.MinSessionTimeout || j.session > m.lim.MaxSessionTimeout {
		m.refuseJoin(j, id, protocol.CodeInvalidSessionTimeout)
		return
	}
	if j.tooLong() {
		m.refuseJoin(j, id, protocol.CodeInvalidRequest)
		return
	}
	g := m.groups[j.req.Group]
	if g == nil && id != "" {
		m.refuseJoin(j, id, protocol.CodeUnknownMemberID) // G2
		return
	}
	g = m.ensure(j.req.Group)
	switch {
	case !m.hasRoom(g, id):
		if mb := g.members[id]; mb != nil {
			m.remove(g, mb)
			m.maybeCompleteJoin(g)
		}
		m.refuseJoin(j, "", protocol.CodeGroupMaxSizeReached)
	case !m.tally.room(j.growth(g)):
		m.refuseJoin(j, id, protocol.CodeGroupMaxSizeReached)
	case !g.supports(j.req.ProtocolType, j.offers) || j.repeats():
		m.refuseJoin(j, id, protocol.CodeInconsistentGroupProtocol)
	case id == "":
		m.joinNew(g, j)
	default:
		m.joinKnown(g, j)
	}
	m.forgetIfVoid(g)
}

// hasRoom reports whether the group may take this join without growing past its limit.
func (m *machine) hasRoom(g *group, id string) bool {
	limit := m.lim.MaxGroupSize
	if id == "" && len(g.pending) >= limit {
		return false
	}
	mb := g.members[id]
	switch g.state {
	case stateEmpty:
		return true
	case statePreparing:
		return mb != nil && mb.join != nil || g.joining < limit
	default:
		return mb != nil || len(g.members) < limit
	}
}

// joinNew is a join without a member id.
func (m *machine) joinNew(g *group, j *join) {
	id := j.memberID()
	if instance := j.req.InstanceID; instance != nil {
		if old, ok := g.static[*instance]; ok {
			m.replaceStatic(g, g.members[old], id, j)
			return
		}
		m.admit(g, id, j)
		return
	}
	if j.req.Version < 4 {
		m.admit(g, id, j)
		return
	}
	// KIP-394: a client whose answer gets lost must not leave a member behind that all others wait for.
	m.addPending(g, id, j.session)
	m.refuseJoin(j, id, protocol.CodeMemberIDRequired)
}

// joinKnown is a join with a member id.
func (m *machine) joinKnown(g *group, j *join) {
	id := j.req.MemberID
	if g.pending[id] != nil && j.req.InstanceID == nil {
		m.admit(g, id, j)
		return
	}
	if code := g.check(id, j.req.InstanceID); code != protocol.CodeNone {
		m.refuseJoin(j, id, code)
		return
	}
	mb := g.members[id]
	rejoin := true
	switch g.state {
	case stateCompleting: // G7
		rejoin = !mb.offers(j.offers)
	case stateStable: // G8
		rejoin = mb.id == g.leader || !mb.offers(j.offers)
	}
	if !rejoin {
		m.replyJoin(j.waiter, g.joined(mb, g.state == stateCompleting))
		return
	}
	m.update(g, mb, j)
	m.awaitJoin(g, mb, j.waiter)
	m.rebalance(g)
}

// admit makes a new member.
func (m *machine) admit(g *group, id string, j *join) {
	mb := j.member(id)
	m.dropPending(g, id)
	g.arrived = g.arrived || g.initial()
	g.add(mb, j.req.ProtocolType)
	m.timers.Set(timerKey{timerSession, g.id, id}, m.now.Add(newMemberJoinTimeout)) // G6
	m.awaitJoin(g, mb, j.waiter)
	m.rebalance(g)
}

// update takes over what a member says about itself when it joins again.
func (m *machine) update(g *group, mb *member, j *join) {
	g.setProtocols(mb, j.offers)
	mb.rebalance, mb.session = j.rebalance, j.session
}

// replaceStatic gives a static member that was restarted the place of its former self (G14). Who still uses the old id
// is fenced.
func (m *machine) replaceStatic(g *group, mb *member, id string, j *join) {
	formerLeader := g.leader
	m.answerJoin(g, mb, joinError(mb.id, protocol.CodeFencedInstanceID))
	m.answerSync(mb, syncError(protocol.CodeFencedInstanceID))
	m.timers.Cancel(timerKey{timerSession, g.id, mb.id})
	g.rename(mb, id)
	mb.client = j.client
	m.update(g, mb, j)
	m.touch(g, mb)
	if g.state != stateStable || g.vote() != *g.protocol {
		m.awaitJoin(g, mb, j.waiter)
		m.rebalance(g)
		return
	}
	g.subscribed = g.subscriptions()
	if !m.persist(g) {
		m.awaitJoin(g, mb, j.waiter)
		m.rebalance(g)
		return
	}
	resp := g.joined(mb, j.req.Version >= 9)
	if j.req.Version >= 9 {
		resp.SkipAssignment = mb.id == g.leader
	} else {
		// An old client that is told that it leads would assign; it is told that its former self leads.
		resp.LeaderID = formerLeader
	}
	m.replyJoin(j.waiter, resp)
}
