package group

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/protocol"
)

// syncGroup is the input of a SyncGroup request (G9).
func (m *machine) syncGroup(req *kmsg.SyncGroupRequest, w *syncWaiter) {
	g := m.groups[req.Group]
	if code := checkSync(g, req); code != protocol.CodeNone {
		m.replySync(w, syncError(code))
		return
	}
	mb := g.members[req.MemberID]
	g.setOwesSync(mb, false)
	if g.unsynced == 0 {
		m.cancelGroupTimer(g, timerSync)
	}
	if g.state == stateStable {
		m.replySync(w, g.synced(mb))
		return
	}
	m.answerSync(mb, syncError(protocol.CodeRebalanceInProgress)) // an earlier one that was given up
	mb.sync = w
	if mb.id == g.leader {
		m.assign(g, req.GroupAssignment)
	}
}

func checkSync(g *group, req *kmsg.SyncGroupRequest) protocol.ErrorCode {
	if g == nil || g.state == stateEmpty {
		return protocol.CodeUnknownMemberID
	}
	if code := g.check(req.MemberID, req.InstanceID); code != protocol.CodeNone {
		return code
	}
	switch {
	case req.Generation != g.generation:
		return protocol.CodeIllegalGeneration
	case req.ProtocolType != nil && *req.ProtocolType != g.protocolType,
		req.Protocol != nil && (g.protocol == nil || *req.Protocol != *g.protocol):
		return protocol.CodeInconsistentGroupProtocol
	case g.state == statePreparing:
		return protocol.CodeRebalanceInProgress
	}
	return protocol.CodeNone
}

// assign makes the group stable with the leader's assignment. Members that it forgot get an empty one. The answers
// leave when the assignment is committed.
func (m *machine) assign(g *group, assignment []kmsg.SyncGroupRequestGroupAssignment) {
	g.each(func(mb *member) { mb.assignment = []byte{} })
	for _, a := range assignment {
		if mb := g.members[a.MemberID]; mb != nil {
			mb.assignment = a.MemberAssignment
		}
	}
	g.each(func(mb *member) { mb.assignment = cloneBytes(mb.assignment) })
	m.moveTo(g, stateStable)
	if !m.persist(g) {
		m.moveTo(g, stateCompleting)
		m.resetAssignments(g, protocol.CodeUnknownServerError)
		m.prepareRebalance(g)
		return
	}
	g.each(func(mb *member) {
		if mb.sync != nil {
			m.answerSync(mb, g.synced(mb))
			m.touch(g, mb)
		}
	})
}

// heartbeat is the input of a Heartbeat request (G10).
func (m *machine) heartbeat(req *kmsg.HeartbeatRequest) protocol.ErrorCode {
	g := m.groups[req.Group]
	if g == nil {
		return protocol.CodeUnknownMemberID
	}
	if code := g.check(req.MemberID, req.InstanceID); code != protocol.CodeNone {
		return code
	}
	if req.Generation != g.generation {
		return protocol.CodeIllegalGeneration
	}
	m.touch(g, g.members[req.MemberID])
	if g.state == statePreparing {
		return protocol.CodeRebalanceInProgress
	}
	return protocol.CodeNone
}

// leaveGroup is the input of a LeaveGroup request (G13). It returns one answer for each that leaves.
func (m *machine) leaveGroup(group string, leaving []kmsg.LeaveGroupRequestMember) []kmsg.LeaveGroupResponseMember {
	g := m.groups[group]
	answers := make([]kmsg.LeaveGroupResponseMember, 0, len(leaving))
	left := false
	for _, l := range leaving {
		code := protocol.CodeUnknownMemberID
		if g != nil {
			code = m.leave(g, l)
		}
		left = left || code == protocol.CodeNone
		answers = append(answers, kmsg.LeaveGroupResponseMember{
			MemberID: l.MemberID, InstanceID: l.InstanceID, ErrorCode: int16(code),
		})
	}
	if left {
		if g.state != stateEmpty {
			m.rebalance(g)
		}
		m.forgetIfVoid(g)
	}
	return answers
}

func (m *machine) leave(g *group, l kmsg.LeaveGroupRequestMember) protocol.ErrorCode {
	id := l.MemberID
	if id == "" && l.InstanceID != nil { // an administrator removes a static member
		id = g.static[*l.InstanceID]
	}
	if m.dropPending(g, id) {
		return protocol.CodeNone
	}
	if code := g.check(id, l.InstanceID); code != protocol.CodeNone {
		return code
	}
	m.remove(g, g.members[id])
	return protocol.CodeNone
}
