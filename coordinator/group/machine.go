package group

import (
	"container/list"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/coordinator"
	"github.com/tidemill/tidemill/protocol"
)

// machine is the state of one shard. It has no clock and does no I/O: each input begins with the time, and all that
// leaves goes through out. Groups are walked in the order of their ids, so equal inputs give equal outputs.
type machine struct {
	limits func() Limits
	topics func() TopicResolver

	groups map[string]*group
	timers coordinator.Timers[timerKey]
	tally  tally
	// handedOut are the pending ids of all groups, the oldest first.
	handedOut list.List

	// Of the present input.
	now time.Time
	lim Limits
	out *coordinator.Output
}

type timerKind uint8

const (
	timerSession timerKind = iota // a member or pending member was not heard of
	timerJoin                     // a rebalance has lasted long enough
	timerSync                     // members owe a sync for too long
	timerExpiry                   // offsets are looked at
)

type timerKey struct {
	kind   timerKind
	group  string
	member string
}

func newMachine(limits func() Limits, topics func() TopicResolver) *machine {
	return &machine{limits: limits, topics: topics, groups: make(map[string]*group)}
}

// begin is the start of every input.
func (m *machine) begin(now time.Time, out *coordinator.Output) {
	m.now, m.out, m.lim = now, out, m.limits()
}

// Loaded starts the clocks of what was replayed: every member gets a fresh session, and a group that is now too large
// is rebalanced (G17).
func (m *machine) Loaded(now time.Time, out *coordinator.Output) {
	m.begin(now, out)
	m.tally.begin()
	m.setExpiryTimer()
	for _, id := range m.sorted() {
		g := m.groups[id]
		g.each(func(mb *member) { m.touch(g, mb) })
		if len(g.members) > m.lim.MaxGroupSize {
			m.prepareRebalance(g)
		}
	}
}

// NextTick says when a timer fires.
func (m *machine) NextTick() (time.Time, bool) { return m.timers.Next() }

// Tick fires the timers that are due. What they set anew for now waits for the next Tick.
func (m *machine) Tick(now time.Time, out *coordinator.Output) {
	m.begin(now, out)
	var due []timerKey
	for key, ok := m.timers.Pop(now); ok; key, ok = m.timers.Pop(now) {
		due = append(due, key)
	}
	for _, key := range due {
		m.fire(key)
	}
}

func (m *machine) fire(key timerKey) {
	if key.kind == timerExpiry {
		m.expireOffsets()
		m.setExpiryTimer()
		return
	}
	g := m.groups[key.group]
	if g == nil {
		return
	}
	switch key.kind {
	case timerSession:
		m.expireSession(g, key.member)
	case timerJoin:
		m.expireJoin(g)
	case timerSync:
		m.expireSync(g)
	}
	m.forgetIfVoid(g)
}

// Drop answers all who wait; the runtime puts the reason in.
func (m *machine) Drop(out *coordinator.Output) {
	m.out = out
	m.tally.end()
	for _, id := range m.sorted() {
		g := m.groups[id]
		g.each(func(mb *member) {
			m.answerJoin(g, mb, joinError(mb.id, protocol.CodeNotCoordinator))
			m.answerSync(mb, kmsg.SyncGroupResponse{ErrorCode: int16(protocol.CodeNotCoordinator)})
		})
	}
}

// sorted returns the ids of all groups in order.
func (m *machine) sorted() []string { return slices.Sorted(maps.Keys(m.groups)) }

// ensure returns the group, and makes it if it is not there.
func (m *machine) ensure(id string) *group {
	g := m.groups[id]
	if g == nil {
		g = newGroup(cloneString(id), &m.tally)
		m.groups[g.id] = g
	}
	return g
}

// forgetIfVoid removes a group of which nothing would survive a replay and for which nobody waits.
func (m *machine) forgetIfVoid(g *group) {
	if g.state == stateEmpty && g.persisted == nil && len(g.offsets) == 0 && len(g.pending) == 0 {
		delete(m.groups, g.id)
	}
}

// moveTo is a transition.
func (m *machine) moveTo(g *group, s state) {
	g.previous, g.state, g.since = g.state, s, m.now.UnixMilli()
}

// touch gives a member a fresh session.
func (m *machine) touch(g *group, mb *member) {
	m.timers.Set(timerKey{timerSession, g.id, mb.id}, m.now.Add(mb.session))
}

func (m *machine) setExpiryTimer() {
	m.timers.Set(timerKey{kind: timerExpiry}, m.now.Add(max(m.lim.OffsetsCheckInterval, retryMin)))
}

func (m *machine) setGroupTimer(g *group, kind timerKind, after time.Duration) {
	m.timers.Set(timerKey{kind: kind, group: g.id}, m.now.Add(after))
}

func (m *machine) cancelGroupTimer(g *group, kind timerKind) {
	m.timers.Cancel(timerKey{kind: kind, group: g.id})
}
