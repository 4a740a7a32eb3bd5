package group

import "time"

// pendingMax bounds the member ids that a shard has handed out and not seen again. Clients come back with theirs at once:
// the oldest gives way, and its client, should it come, begins anew.
const pendingMax = 4096

// handedOut is a member id that waits for its client.
type handedOut struct {
	group  *group
	member string
}

// addPending notes an id that was handed out with MEMBER_ID_REQUIRED (G1).
func (m *machine) addPending(g *group, id string, session time.Duration) {
	if m.handedOut.Len() == pendingMax {
		oldest := m.handedOut.Front().Value.(handedOut)
		old := oldest.group
		m.dropPending(old, oldest.member)
		m.maybeCompleteJoin(old)
		if old != g {
			m.forgetIfVoid(old)
		}
	}
	g.pending[id] = m.handedOut.PushBack(handedOut{g, id})
	m.tally.add(pendingBytes(g.id, id))
	m.timers.Set(timerKey{timerSession, g.id, id}, m.now.Add(session))
}

// dropPending forgets an id that was handed out, and reports whether it was waited for.
func (m *machine) dropPending(g *group, id string) bool {
	at, waits := g.pending[id]
	if !waits {
		return false
	}
	delete(g.pending, id)
	m.handedOut.Remove(at)
	m.tally.add(-pendingBytes(g.id, id))
	m.timers.Cancel(timerKey{timerSession, g.id, id})
	return true
}
