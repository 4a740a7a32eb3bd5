package group

import (
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/protocol"
)

// retryMin keeps timers that set themselves again from firing without pause, whatever clients or settings say.
const retryMin = time.Second

// initial reports whether members are gathered for the first generation after the group was empty (G4).
func (g *group) initial() bool { return g.state == statePreparing && g.previous == stateEmpty }

// rebalance starts a rebalance, or completes the present one if it waited only for the caller.
func (m *machine) rebalance(g *group) {
	if g.state == statePreparing {
		m.maybeCompleteJoin(g)
		return
	}
	m.prepareRebalance(g)
}

// prepareRebalance asks all members to join: their next heartbeat tells them.
func (m *machine) prepareRebalance(g *group) {
	if g.state == stateCompleting {
		m.resetAssignments(g, protocol.CodeRebalanceInProgress)
	}
	m.forgetSyncs(g)
	first := g.state == stateEmpty
	m.moveTo(g, statePreparing)
	if first {
		g.arrived = false
		g.delay = m.lim.InitialRebalanceDelay
		g.remaining = max(g.rebalanceTimeout()-g.delay, 0)
		m.setGroupTimer(g, timerJoin, g.delay)
		return
	}
	if g.allJoined() {
		m.completeJoin(g)
		return
	}
	m.setGroupTimer(g, timerJoin, g.rebalanceTimeout())
}

// resetAssignments takes back what the members were assigned and answers the syncs that wait.
func (m *machine) resetAssignments(g *group, code protocol.ErrorCode) {
	g.each(func(mb *member) {
		mb.assignment = nil
		if mb.sync != nil {
			m.answerSync(mb, syncError(code))
			m.touch(g, mb)
		}
	})
}

// forgetSyncs ends the wait for syncs.
func (m *machine) forgetSyncs(g *group) {
	if g.unsynced > 0 {
		g.each(func(mb *member) { g.setOwesSync(mb, false) })
	}
	m.cancelGroupTimer(g, timerSync)
}

// maybeCompleteJoin completes the rebalance if nobody has to be waited for. The initial one lasts its time (G4).
func (m *machine) maybeCompleteJoin(g *group) {
	if g.state == statePreparing && !g.initial() && g.allJoined() {
		m.completeJoin(g)
	}
}

// expireJoin is the end of the time that members have to join.
func (m *machine) expireJoin(g *group) {
	if g.state != statePreparing {
		return
	}
	if g.initial() && g.arrived && g.remaining > 0 {
		g.arrived = false
		delay := min(m.lim.InitialRebalanceDelay, g.remaining)
		g.remaining = max(g.remaining-g.delay, 0)
		g.delay = delay
		m.setGroupTimer(g, timerJoin, delay)
		return
	}
	m.completeJoin(g)
}

// completeJoin begins a generation with the members that have joined. Dynamic members that have not are removed,
// static ones stay until their session ends (G4, G5).
func (m *machine) completeJoin(g *group) {
	m.cancelGroupTimer(g, timerJoin)
	g.each(func(mb *member) {
		if mb.join == nil && mb.instance == nil {
			m.remove(g, mb)
		}
	})
	if len(g.members) > 0 && !g.electJoined() {
		m.setGroupTimer(g, timerJoin, max(g.rebalanceTimeout(), retryMin))
		return
	}
	g.generation++
	if len(g.members) == 0 {
		g.protocol = nil
		g.subscribed = g.subscriptions()
		m.moveTo(g, stateEmpty)
		m.persist(g)
		return
	}
	g.protocol = kmsg.StringPtr(g.vote())
	g.subscribed = g.subscriptions()
	m.moveTo(g, stateCompleting)
	g.each(func(mb *member) {
		m.answerJoin(g, mb, g.joined(mb, true))
		mb.fresh = false
		m.touch(g, mb)
		g.setOwesSync(mb, true)
	})
	m.setGroupTimer(g, timerSync, g.rebalanceTimeout())
}

// expireSync removes the members that took the generation but never asked for their assignment (G5).
func (m *machine) expireSync(g *group) {
	if g.unsynced == 0 || (g.state != stateCompleting && g.state != stateStable) {
		return
	}
	g.each(func(mb *member) {
		if mb.owesSync {
			m.remove(g, mb)
		}
	})
	m.prepareRebalance(g)
}

// expireSession removes a member that was not heard of. One whose join or sync waits here is there; but the first
// join of a member does not wait for ever (G6).
func (m *machine) expireSession(g *group, memberID string) {
	if m.dropPending(g, memberID) {
		m.maybeCompleteJoin(g)
		return
	}
	mb := g.members[memberID]
	if mb == nil || !mb.fresh && (mb.join != nil || mb.sync != nil) {
		return
	}
	m.remove(g, mb)
	m.rebalance(g)
}

// remove takes a member out and answers what it waits for.
func (m *machine) remove(g *group, mb *member) {
	m.answerJoin(g, mb, joinError("", protocol.CodeUnknownMemberID))
	m.answerSync(mb, syncError(protocol.CodeUnknownMemberID))
	m.timers.Cancel(timerKey{timerSession, g.id, mb.id})
	g.unlink(mb)
}
