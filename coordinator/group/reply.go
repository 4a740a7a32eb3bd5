package group

import (
	"errors"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/coordinator"
	"github.com/tidemill/tidemill/protocol"
)

// codeOf is the code of what the runtime says instead of a machine (G17).
func codeOf(err error) protocol.ErrorCode {
	switch {
	case errors.Is(err, coordinator.ErrLoading):
		return protocol.CodeCoordinatorLoadInProgress
	case errors.Is(err, coordinator.ErrNotCoordinator):
		return protocol.CodeNotCoordinator
	default:
		return protocol.CodeCoordinatorNotAvailable
	}
}

// joinWaiter is a join that was not answered yet.
type joinWaiter struct {
	version int16
	reply   func(*kmsg.JoinGroupResponse)
}

// syncWaiter is a sync that was not answered yet.
type syncWaiter struct {
	version int16
	reply   func(*kmsg.SyncGroupResponse)
}

// joinError is an answer with no generation in it.
func joinError(memberID string, code protocol.ErrorCode) kmsg.JoinGroupResponse {
	resp := kmsg.NewJoinGroupResponse()
	resp.MemberID, resp.ErrorCode = memberID, int16(code)
	return resp
}

// replyJoin answers a join once all before it is committed.
func (m *machine) replyJoin(w *joinWaiter, resp kmsg.JoinGroupResponse) {
	m.out.Reply(func(err error) {
		if err != nil {
			resp = joinError(resp.MemberID, codeOf(err))
		}
		resp.Version = w.version
		if resp.Members == nil {
			resp.Members = []kmsg.JoinGroupResponseMember{}
		}
		w.reply(&resp)
	})
}

// answerJoin answers the join that waits, if any.
func (m *machine) answerJoin(g *group, mb *member, resp kmsg.JoinGroupResponse) {
	if mb.join == nil {
		return
	}
	m.replyJoin(mb.join, resp)
	mb.join = nil
	g.joining--
}

// awaitJoin lets a join wait. The one that waited before was given up by its client: it is told to join again.
func (m *machine) awaitJoin(g *group, mb *member, w *joinWaiter) {
	m.answerJoin(g, mb, joinError(mb.id, protocol.CodeRebalanceInProgress))
	mb.join = w
	g.joining++
}

func syncError(code protocol.ErrorCode) kmsg.SyncGroupResponse {
	return kmsg.SyncGroupResponse{ErrorCode: int16(code)}
}

// replySync answers a sync once all before it is committed.
func (m *machine) replySync(w *syncWaiter, resp kmsg.SyncGroupResponse) {
	m.out.Reply(func(err error) {
		if err != nil {
			resp = syncError(syncCode(err))
		}
		resp.Version = w.version
		if resp.MemberAssignment == nil {
			resp.MemberAssignment = []byte{}
		}
		w.reply(&resp)
	})
}

// syncCode is codeOf for a sync: Kafka's client does not know COORDINATOR_LOAD_IN_PROGRESS there and would fail its
// application (G18). The rebalance that the sync belongs to is lost by the load, so it is told to join again.
func syncCode(err error) protocol.ErrorCode {
	if errors.Is(err, coordinator.ErrLoading) {
		return protocol.CodeRebalanceInProgress
	}
	return codeOf(err)
}

// heartbeatCode is codeOf for a heartbeat: Kafka's client does not know COORDINATOR_LOAD_IN_PROGRESS there (G18), and
// a load gives every member a fresh session, so the heartbeat is as good as taken.
func heartbeatCode(err error) protocol.ErrorCode {
	if errors.Is(err, coordinator.ErrLoading) {
		return protocol.CodeNone
	}
	return codeOf(err)
}

// answerSync answers the sync that waits, if any.
func (m *machine) answerSync(mb *member, resp kmsg.SyncGroupResponse) {
	if mb.sync != nil {
		m.replySync(mb.sync, resp)
		mb.sync = nil
	}
}

// joined is the answer to a member of the present generation. Only a leader that has to assign gets the members.
func (g *group) joined(mb *member, withMembers bool) kmsg.JoinGroupResponse {
	resp := kmsg.NewJoinGroupResponse()
	resp.Generation = g.generation
	resp.ProtocolType = kmsg.StringPtr(g.protocolType)
	resp.Protocol = g.protocol
	resp.LeaderID = g.leader
	resp.MemberID = mb.id
	if withMembers && mb.id == g.leader && g.protocol != nil {
		resp.Members = make([]kmsg.JoinGroupResponseMember, 0, len(g.members))
		g.each(func(other *member) {
			resp.Members = append(resp.Members, kmsg.JoinGroupResponseMember{
				MemberID:         other.id,
				InstanceID:       other.instance,
				ProtocolMetadata: other.metadata(*g.protocol),
			})
		})
	}
	return resp
}

// synced is the answer to a member that has its assignment.
func (g *group) synced(mb *member) kmsg.SyncGroupResponse {
	return kmsg.SyncGroupResponse{
		ProtocolType:     kmsg.StringPtr(g.protocolType),
		Protocol:         g.protocol,
		MemberAssignment: mb.assignment,
	}
}

// The parts of a request that outlive it are copied: its memory belongs to the connection.

func cloneString(s string) string { return strings.Clone(s) }

func clonePointer(s *string) *string {
	if s == nil {
		return nil
	}
	return kmsg.StringPtr(strings.Clone(*s))
}

// cloneBytes never returns nil: Kafka has no null metadata or assignment.
func cloneBytes(b []byte) []byte { return append([]byte{}, b...) }
