package group

import (
	"sync/atomic"
	"time"
)

const (
	// offerOverhead is about what an offer takes beside its name and metadata.
	offerOverhead = 64
	// pendingMax bounds the member ids that a shard has handed out and not seen again. Clients come back with theirs at once:
	// the oldest gives way, and its client, should it come, begins anew.
	pendingMax = 4096
)

// A tally counts the bytes of what the members of a shard offer, and bounds those of all shards together (D11): a join
// that waits has left its request behind, and a group that never gets stable is written nowhere.
type tally struct {
	all *atomic.Int64 // of all shards; nil for one alone
	max int64         // 0 means no bound
	own int64
	// live is set when own is part of all, which is after the replay.
	live bool
}

func offersBytes(offers []offer) int64 {
	n := int64(0)
	for _, o := range offers {
		n += offerOverhead + int64(len(o.name)+len(o.metadata))
	}
	return n
}

// heldBy returns what the group already holds of a member, which may be nil.
func heldBy(mb *member) int64 {
	if mb == nil {
		return 0
	}
	return offersBytes(mb.protocols)
}

func (t *tally) add(n int64) {
	t.own += n
	if t.live && t.all != nil {
		t.all.Add(n)
	}
}

// begin and end say from when to when the shard counts among all.
func (t *tally) begin() {
	t.live = true
	if t.all != nil {
		t.all.Add(t.own)
	}
}

func (t *tally) end() {
	if t.live && t.all != nil {
		t.all.Add(-t.own)
	}
	t.live = false
}

// room reports whether n more bytes may be held.
func (t *tally) room(n int64) bool {
	return n <= 0 || t.max == 0 || t.all == nil || t.all.Load()+n <= t.max
}

// handedOut is a member id that waits for its client.
type handedOut struct{ group, member string }

// addPending notes an id that was handed out with MEMBER_ID_REQUIRED.
func (m *machine) addPending(g *group, id string, session time.Duration) {
	if len(m.handedOut) == pendingMax {
		oldest := m.handedOut[0]
		m.handedOut = m.handedOut[1:]
		if old := m.groups[oldest.group]; old != nil && old.pending[oldest.member] {
			delete(old.pending, oldest.member)
			m.timers.Cancel(timerKey{timerSession, old.id, oldest.member})
			m.maybeCompleteJoin(old)
			if old != g {
				m.forgetIfVoid(old)
			}
		}
	}
	m.handedOut = append(m.handedOut, handedOut{g.id, id})
	g.pending[id] = true
	m.timers.Set(timerKey{timerSession, g.id, id}, m.now.Add(session))
}
