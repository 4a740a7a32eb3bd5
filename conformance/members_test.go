package conformance

import (
	"bytes"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/protocol"
)

// A member is one of a classic group, on a connection of its own: joins wait for other members.
type member struct {
	c               *Client
	group, instance string
	id              string
	generation      int32
	protocols       []kmsg.JoinGroupRequestProtocol
	joining         *kmsg.JoinGroupRequest
	due             int32
}

// newMember connects one that has not joined. It knows protocol "p".
func newMember(t *testing.T, group string) *member {
	t.Helper()
	m := &member{c: Dial(t, target.addr), group: group, generation: -1}
	m.knows("p", "metadata")
	return m
}

// knows replaces the member's protocols: names and metadata in turn.
func (m *member) knows(protocols ...string) *member {
	m.protocols = nil
	for i := 0; i < len(protocols); i += 2 {
		m.protocols = append(m.protocols, kmsg.JoinGroupRequestProtocol{Name: protocols[i], Metadata: []byte(protocols[i+1])})
	}
	return m
}

func (m *member) joinRequest(version int16) *kmsg.JoinGroupRequest {
	req := kmsg.NewPtrJoinGroupRequest()
	req.Version, req.Group, req.MemberID, req.ProtocolType, req.Protocols = version, m.group, m.id, "test", m.protocols
	req.SessionTimeoutMillis, req.RebalanceTimeoutMillis = 60_000, 60_000
	if m.instance != "" {
		req.InstanceID = &m.instance
	}
	return req
}

// ask takes the member's id from the group, which a dynamic member gets before it joins (G1).
func (m *member) ask() *member {
	m.c.T.Helper()
	var resp *kmsg.JoinGroupResponse
	WaitFor(m.c.T, "the coordinator of "+m.group, func() bool {
		Ask[*kmsg.FindCoordinatorResponse](m.c, FindRequest(m.group))
		resp = Ask[*kmsg.JoinGroupResponse](m.c, m.joinRequest(9))
		return resp.ErrorCode != int16(protocol.CodeCoordinatorLoadInProgress) && resp.ErrorCode != int16(protocol.CodeNotCoordinator) &&
			resp.ErrorCode != int16(protocol.CodeCoordinatorNotAvailable)
	})
	WantCode(m.c.T, "G1 the first join", resp.ErrorCode, protocol.CodeMemberIDRequired)
	m.id = resp.MemberID
	return m
}

// join sends a join; joined waits for its answer.
func (m *member) join() {
	m.c.T.Helper()
	m.joining = m.joinRequest(9)
	m.due = m.c.Send(m.joining)
}

func (m *member) joined() *kmsg.JoinGroupResponse {
	m.c.T.Helper()
	resp := Answer[*kmsg.JoinGroupResponse](m.c, m.joining, m.due)
	WantCode(m.c.T, "join", resp.ErrorCode, protocol.CodeNone)
	m.generation, m.id = resp.Generation, resp.MemberID
	return resp
}

func (m *member) syncRequest(assignments map[string]string) *kmsg.SyncGroupRequest {
	req := kmsg.NewPtrSyncGroupRequest()
	req.Version, req.Group, req.MemberID, req.Generation = 5, m.group, m.id, m.generation
	kind, name := "test", m.protocols[0].Name
	req.ProtocolType, req.Protocol = &kind, &name
	if m.instance != "" {
		req.InstanceID = &m.instance
	}
	for id, assignment := range assignments {
		req.GroupAssignment = append(req.GroupAssignment, kmsg.SyncGroupRequestGroupAssignment{MemberID: id, MemberAssignment: []byte(assignment)})
	}
	return req
}

// sync asks for the member's assignment; the leader brings everybody's.
func (m *member) sync(assignments map[string]string) *kmsg.SyncGroupResponse {
	m.c.T.Helper()
	return Ask[*kmsg.SyncGroupResponse](m.c, m.syncRequest(assignments))
}

// beat sends a heartbeat and returns its error.
func (m *member) beat() int16 {
	m.c.T.Helper()
	req := kmsg.NewPtrHeartbeatRequest()
	req.Version, req.Group, req.MemberID, req.Generation = 4, m.group, m.id, m.generation
	if m.instance != "" {
		req.InstanceID = &m.instance
	}
	return Ask[*kmsg.HeartbeatResponse](m.c, req).ErrorCode
}

// awaitRebalance returns when the group wants its members to join again.
func (m *member) awaitRebalance() {
	m.c.T.Helper()
	WaitFor(m.c.T, "a rebalance of "+m.group, func() bool { return m.beat() == int16(protocol.CodeRebalanceInProgress) })
}

// leave ends memberships by id, and returns the errors.
func (m *member) leave(ids ...string) []int16 {
	m.c.T.Helper()
	req := kmsg.NewPtrLeaveGroupRequest()
	req.Version, req.Group = 5, m.group
	for _, id := range ids {
		one := kmsg.NewLeaveGroupRequestMember()
		one.MemberID = id
		req.Members = append(req.Members, one)
	}
	resp := Ask[*kmsg.LeaveGroupResponse](m.c, req)
	WantCode(m.c.T, "leave", resp.ErrorCode, protocol.CodeNone)
	var codes []int16
	for _, one := range resp.Members {
		codes = append(codes, one.ErrorCode)
	}
	return codes
}

// commit commits an offset of partition 0 of a topic as the member.
func (m *member) commit(version int16, topic string) int16 {
	m.c.T.Helper()
	req := CommitRequest(m.group, topic, 7)
	req.Version, req.MemberID, req.Generation = version, m.id, m.generation
	return Ask[*kmsg.OffsetCommitResponse](m.c, req).Topics[0].Partitions[0].ErrorCode
}

// alone makes a group of one, whose assignments are awaited.
func alone(t *testing.T, group string) *member {
	t.Helper()
	m := newMember(t, group).ask()
	m.join()
	m.joined()
	return m
}

// pair makes a stable group of a leader and a follower with assignments "one" and "two".
func pair(t *testing.T, group string) (leader, follower *member) {
	t.Helper()
	leader = alone(t, group)
	follower = newMember(t, group).ask()
	follower.join()
	leader.awaitRebalance()
	leader.join()
	leader.joined()
	follower.joined()
	settle(t, leader, follower)
	return leader, follower
}

// settle brings assignments to a pair.
func settle(t *testing.T, leader, follower *member) {
	t.Helper()
	req := follower.syncRequest(nil)
	due := follower.c.Send(req)
	one := leader.sync(map[string]string{leader.id: "one", follower.id: "two"})
	two := Answer[*kmsg.SyncGroupResponse](follower.c, req, due)
	WantCode(t, "the leader's sync", one.ErrorCode, protocol.CodeNone)
	WantCode(t, "the follower's sync", two.ErrorCode, protocol.CodeNone)
	if !bytes.Equal(one.MemberAssignment, []byte("one")) || !bytes.Equal(two.MemberAssignment, []byte("two")) {
		t.Errorf("G9 assignments %q and %q", one.MemberAssignment, two.MemberAssignment)
	}
}
