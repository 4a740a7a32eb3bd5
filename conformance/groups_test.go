package conformance

import (
	"fmt"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/protocol"
)

// TestG0: bounds of sessions, and the empty group id.
func TestG0(t *testing.T) {
	_, n := begin(t)
	m := newMember(t, n("g")).ask()
	m.id = ""
	for timeout, want := range map[int32]protocol.ErrorCode{
		5999: protocol.CodeInvalidSessionTimeout, 1_800_001: protocol.CodeInvalidSessionTimeout, -1: protocol.CodeInvalidSessionTimeout,
		6000: protocol.CodeMemberIDRequired, 1_800_000: protocol.CodeMemberIDRequired,
	} {
		req := m.joinRequest(9)
		req.SessionTimeoutMillis = timeout
		WantCode(t, fmt.Sprintf("a session of %d ms", timeout), Ask[*kmsg.JoinGroupResponse](m.c, req).ErrorCode, want)
	}
	nobody := newMember(t, "")
	nobody.id, nobody.generation = "m", 1
	WantCode(t, "join of no group", Ask[*kmsg.JoinGroupResponse](nobody.c, nobody.joinRequest(9)).ErrorCode, protocol.CodeInvalidGroupID)
	WantCode(t, "sync of no group", nobody.sync(nil).ErrorCode, protocol.CodeInvalidGroupID)
	WantCode(t, "heartbeat of no group", nobody.beat(), protocol.CodeInvalidGroupID)
	leave := kmsg.NewPtrLeaveGroupRequest()
	leave.Version, leave.MemberID = 1, "m"
	WantCode(t, "leave of no group", Ask[*kmsg.LeaveGroupResponse](nobody.c, leave).ErrorCode, protocol.CodeInvalidGroupID)
}

// TestG1: a dynamic member is told its id first; until it joins with it, it is no member.
func TestG1(t *testing.T) {
	_, n := begin(t)
	m := newMember(t, n("g"))
	m.c.Name = "client-a"
	m.ask()
	if !strings.HasPrefix(m.id, "client-a-") || len(m.id) != len("client-a-")+36 {
		t.Errorf("member id %q, want the client id and a UUID", m.id)
	}
	m.generation = 0
	WantCode(t, "heartbeat of a pending member", m.beat(), protocol.CodeUnknownMemberID)
	WantCode(t, "sync of a pending member", m.sync(nil).ErrorCode, protocol.CodeUnknownMemberID)
	m.join()
	if resp := m.joined(); resp.Generation != 1 || resp.LeaderID != m.id {
		t.Errorf("generation %d, leader %q", resp.Generation, resp.LeaderID)
	}
	t.Run("G1 versions before 4 join at once", func(t *testing.T) {
		for version := int16(0); version <= 3; version++ {
			old := newMember(t, n(fmt.Sprintf("old-%d", version)))
			resp := Ask[*kmsg.JoinGroupResponse](old.c, old.joinRequest(version))
			if resp.ErrorCode != 0 || resp.Generation != 1 || resp.MemberID == "" || resp.LeaderID != resp.MemberID {
				t.Errorf("v%d: code %d, generation %d, member %q, leader %q", version, resp.ErrorCode, resp.Generation, resp.MemberID, resp.LeaderID)
			}
		}
	})
	t.Run("G1 a pending member may leave", func(t *testing.T) {
		pending := newMember(t, n("leaving")).ask()
		if codes := pending.leave(pending.id, pending.id); codes[0] != 0 || codes[1] != int16(protocol.CodeUnknownMemberID) {
			t.Errorf("leaving twice: %v", codes)
		}
		WantCode(t, "join with the id that left", Ask[*kmsg.JoinGroupResponse](pending.c, pending.joinRequest(9)).ErrorCode, protocol.CodeUnknownMemberID)
	})
}

// TestG2G3: members that are not known, and protocols that do not fit.
func TestG2G3(t *testing.T) {
	_, n := begin(t)
	leader := newMember(t, n("g")).knows("a", "1", "b", "2").ask()
	leader.join()
	if resp := leader.joined(); resp.Protocol == nil || *resp.Protocol != "a" || resp.ProtocolType == nil || *resp.ProtocolType != "test" {
		t.Errorf("G3 protocol %v of type %v, want the first of type test", resp.Protocol, resp.ProtocolType)
	}
	stranger := newMember(t, n("g")).knows("a", "0")
	stranger.id, stranger.generation = "nobody", 1
	WantCode(t, "G2 join", Ask[*kmsg.JoinGroupResponse](stranger.c, stranger.joinRequest(9)).ErrorCode, protocol.CodeUnknownMemberID)
	WantCode(t, "G2 sync", stranger.sync(nil).ErrorCode, protocol.CodeUnknownMemberID)
	WantCode(t, "G2 heartbeat", stranger.beat(), protocol.CodeUnknownMemberID)
	WantCode(t, "G2 leave", stranger.leave("nobody")[0], protocol.CodeUnknownMemberID)
	elsewhere := newMember(t, n("no-such-group"))
	elsewhere.id, elsewhere.generation = "nobody", 1
	WantCode(t, "G2 join of an unknown group", Ask[*kmsg.JoinGroupResponse](elsewhere.c, elsewhere.joinRequest(9)).ErrorCode, protocol.CodeUnknownMemberID)
	WantCode(t, "G2 heartbeat of an unknown group", elsewhere.beat(), protocol.CodeUnknownMemberID)

	other := newMember(t, n("g"))
	req := other.knows("c", "3").joinRequest(9)
	WantCode(t, "G3 no common protocol", Ask[*kmsg.JoinGroupResponse](other.c, req).ErrorCode, protocol.CodeInconsistentGroupProtocol)
	req = other.knows("a", "1").joinRequest(9)
	req.ProtocolType = "another"
	WantCode(t, "G3 another type", Ask[*kmsg.JoinGroupResponse](other.c, req).ErrorCode, protocol.CodeInconsistentGroupProtocol)

	t.Run("G3 each member votes for its first common protocol", func(t *testing.T) {
		second := newMember(t, n("g")).knows("b", "4", "c", "5").ask()
		second.join()
		leader.awaitRebalance()
		leader.join()
		resp := leader.joined()
		second.joined()
		if resp.Protocol == nil || *resp.Protocol != "b" {
			t.Errorf("protocol %v, want the only one of both", resp.Protocol)
		}
		for _, m := range resp.Members {
			if want := map[bool]string{true: "2", false: "4"}[m.MemberID == leader.id]; string(m.ProtocolMetadata) != want {
				t.Errorf("metadata %q of %s, want that of the protocol, %q", m.ProtocolMetadata, m.MemberID, want)
			}
		}
	})
}

// TestG4G5: a rebalance ends when all known members have joined again; only the leader is told who they are.
func TestG4G5(t *testing.T) {
	_, n := begin(t)
	leader := alone(t, n("g"))
	leader.sync(map[string]string{leader.id: "one"})
	follower := newMember(t, n("g")).ask()
	WantCode(t, "G4 a member that was only told its id disturbs nobody", leader.beat(), protocol.CodeNone)
	follower.join()
	leader.awaitRebalance()
	leader.join()
	told, untold := leader.joined(), follower.joined()
	if told.Generation != 2 || untold.Generation != 2 {
		t.Errorf("G5 generations %d and %d, want 2", told.Generation, untold.Generation)
	}
	if told.LeaderID != leader.id || untold.LeaderID != leader.id || len(told.Members) != 2 || len(untold.Members) != 0 {
		t.Errorf("G5 leaders %q and %q, %d and %d members told", told.LeaderID, untold.LeaderID, len(told.Members), len(untold.Members))
	}
	settle(t, leader, follower)
	t.Run("G5 the last to leave raises the generation too", func(t *testing.T) {
		if codes := leader.leave(follower.id, leader.id); codes[0] != 0 || codes[1] != 0 {
			t.Errorf("leave: %v", codes)
		}
		again := newMember(t, n("g")).ask()
		again.join()
		if resp := again.joined(); resp.Generation < 4 || resp.LeaderID != again.id {
			t.Errorf("generation %d, leader %q", resp.Generation, resp.LeaderID)
		}
	})
}

// TestG7: while assignments are awaited, a join with the same metadata is a lost answer, another one a rebalance.
func TestG7(t *testing.T) {
	_, n := begin(t)
	m := alone(t, n("g"))
	m.join()
	if resp := m.joined(); resp.Generation != 1 || len(resp.Members) != 1 {
		t.Errorf("the same again: generation %d, %d members told", resp.Generation, len(resp.Members))
	}
	m.knows("p", "something else").join()
	if resp := m.joined(); resp.Generation != 2 || string(resp.Members[0].ProtocolMetadata) != "something else" {
		t.Errorf("other metadata: generation %d, metadata %q", resp.Generation, resp.Members[0].ProtocolMetadata)
	}
	t.Run("G7 who waits for an assignment joins again", func(t *testing.T) {
		leader := alone(t, n("waiting"))
		follower := newMember(t, n("waiting")).ask()
		follower.join()
		leader.awaitRebalance()
		leader.join()
		leader.joined()
		follower.joined()
		req := follower.syncRequest(nil)
		due := follower.c.Send(req)
		leader.knows("p", "changed").join()
		WantCode(t, "the sync that waited", Answer[*kmsg.SyncGroupResponse](follower.c, req, due).ErrorCode, protocol.CodeRebalanceInProgress)
		follower.join()
		leader.joined()
		follower.joined()
		settle(t, leader, follower)
	})
}

// TestG8: in a stable group the leader's join is a rebalance, a follower's only with other metadata.
func TestG8(t *testing.T) {
	_, n := begin(t)
	leader, follower := pair(t, n("g"))
	follower.join()
	if resp := follower.joined(); resp.Generation != 2 || len(resp.Members) != 0 {
		t.Errorf("the follower again: generation %d, %d members told", resp.Generation, len(resp.Members))
	}
	WantCode(t, "nobody is disturbed", leader.beat(), protocol.CodeNone)
	leader.join()
	follower.awaitRebalance()
	follower.join()
	leader.joined()
	if resp := follower.joined(); resp.Generation != 3 {
		t.Errorf("the leader again: generation %d", resp.Generation)
	}
	settle(t, leader, follower)
	follower.knows("p", "changed").join()
	leader.awaitRebalance()
	leader.join()
	follower.joined()
	if resp := leader.joined(); resp.Generation != 4 {
		t.Errorf("the follower changed: generation %d", resp.Generation)
	}
}

// TestG9G10: what Sync and Heartbeat answer in each state.
func TestG9G10(t *testing.T) {
	_, n := begin(t)
	m := alone(t, n("g"))
	WantCode(t, "G10 while assignments are awaited", m.beat(), protocol.CodeNone)
	null := m.syncRequest(map[string]string{m.id: "mine"})
	null.Protocol = nil
	WantCode(t, "G9 null protocol (3.13)", Ask[*kmsg.SyncGroupResponse](m.c, null).ErrorCode, protocol.CodeInconsistentGroupProtocol)
	wrong := m.syncRequest(map[string]string{m.id: "mine"})
	*wrong.Protocol = "q"
	WantCode(t, "G9 another protocol", Ask[*kmsg.SyncGroupResponse](m.c, wrong).ErrorCode, protocol.CodeInconsistentGroupProtocol)
	m.generation = 2
	WantCode(t, "G9 another generation", m.sync(map[string]string{m.id: "mine"}).ErrorCode, protocol.CodeIllegalGeneration)
	WantCode(t, "G10 another generation", m.beat(), protocol.CodeIllegalGeneration)
	m.generation = 1
	if resp := m.sync(map[string]string{m.id: "mine"}); resp.ErrorCode != 0 || string(resp.MemberAssignment) != "mine" || resp.Protocol == nil || *resp.Protocol != "p" {
		t.Errorf("G9 code %d, assignment %q", resp.ErrorCode, resp.MemberAssignment)
	}
	if resp := m.sync(map[string]string{m.id: "other"}); resp.ErrorCode != 0 || string(resp.MemberAssignment) != "mine" {
		t.Errorf("G9 a stable group: code %d, assignment %q, want the stored one", resp.ErrorCode, resp.MemberAssignment)
	}
	WantCode(t, "G10 a stable group", m.beat(), protocol.CodeNone)

	second := newMember(t, n("g")).ask()
	second.join()
	m.awaitRebalance()
	WantCode(t, "G9 while members join", m.sync(nil).ErrorCode, protocol.CodeRebalanceInProgress)
	m.join()
	m.joined()
	second.joined()
	t.Run("G9 who gets no assignment gets an empty one", func(t *testing.T) {
		WantCode(t, "the leader", m.sync(map[string]string{m.id: "mine"}).ErrorCode, protocol.CodeNone)
		if resp := second.sync(nil); resp.ErrorCode != 0 || len(resp.MemberAssignment) != 0 {
			t.Errorf("code %d, assignment %q", resp.ErrorCode, resp.MemberAssignment)
		}
	})
	m.leave(second.id, m.id)
	WantCode(t, "G10 an empty group", m.beat(), protocol.CodeUnknownMemberID)
}

// TestG13: members leave by id or instance, each with its own answer.
func TestG13(t *testing.T) {
	_, n := begin(t)
	m := alone(t, n("g"))
	static := newMember(t, n("static"))
	static.instance = "i1"
	static.joinStatic()
	codes := m.leave(m.id, "nobody", m.id)
	if codes[0] != 0 || codes[1] != int16(protocol.CodeUnknownMemberID) || codes[2] != int16(protocol.CodeUnknownMemberID) {
		t.Errorf("codes %v", codes)
	}
	req := kmsg.NewPtrLeaveGroupRequest()
	req.Version, req.Group = 5, n("static")
	for _, instance := range []string{"i1", "i2"} {
		one := kmsg.NewLeaveGroupRequestMember()
		one.InstanceID = &instance
		req.Members = append(req.Members, one)
	}
	resp := Ask[*kmsg.LeaveGroupResponse](static.c, req)
	WantCode(t, "by instance", resp.Members[0].ErrorCode, protocol.CodeNone)
	WantCode(t, "by an unknown instance", resp.Members[1].ErrorCode, protocol.CodeUnknownMemberID)
}

// joinStatic joins a group as the member's instance, once its coordinator is there.
func (m *member) joinStatic() *kmsg.JoinGroupResponse {
	m.c.T.Helper()
	WaitFor(m.c.T, "the coordinator of "+m.group, func() bool {
		Ask[*kmsg.FindCoordinatorResponse](m.c, FindRequest(m.group))
		return m.beat() == int16(protocol.CodeUnknownMemberID)
	})
	m.join()
	return m.joined()
}

// TestG14: a static member keeps its place; who it was before is fenced.
func TestG14(t *testing.T) {
	_, n := begin(t)
	static := func(instance string) *member {
		m := newMember(t, n("g"))
		m.instance = instance
		return m
	}
	leader := static("i1")
	if resp := leader.joinStatic(); !strings.HasPrefix(leader.id, "i1-") || resp.Members[0].InstanceID == nil || *resp.Members[0].InstanceID != "i1" {
		t.Errorf("member id %q, members %v", leader.id, resp.Members)
	}
	follower := static("i2")
	follower.join()
	leader.awaitRebalance()
	leader.join()
	leader.joined()
	follower.joined()
	settle(t, leader, follower)

	back := static("i2")
	back.join()
	if resp := back.joined(); resp.Generation != 2 || back.id == follower.id || len(resp.Members) != 0 {
		t.Errorf("the follower is back: generation %d, id %q before %q, %d members told", resp.Generation, back.id, follower.id, len(resp.Members))
	}
	if resp := back.sync(nil); resp.ErrorCode != 0 || string(resp.MemberAssignment) != "two" {
		t.Errorf("its assignment: code %d, %q", resp.ErrorCode, resp.MemberAssignment)
	}
	WantCode(t, "no rebalance", leader.beat(), protocol.CodeNone)
	WantCode(t, "heartbeat of who it was", follower.beat(), protocol.CodeFencedInstanceID)
	WantCode(t, "sync of who it was", follower.sync(nil).ErrorCode, protocol.CodeFencedInstanceID)
	WantCode(t, "join of who it was", Ask[*kmsg.JoinGroupResponse](follower.c, follower.joinRequest(9)).ErrorCode, protocol.CodeFencedInstanceID)

	first := static("i1")
	first.join()
	if resp := first.joined(); resp.Generation != 2 || !resp.SkipAssignment || resp.LeaderID != first.id || len(resp.Members) != 2 {
		t.Errorf("the leader is back: generation %d, skip assignment %v, leader %q of %q, %d members told",
			resp.Generation, resp.SkipAssignment, resp.LeaderID, first.id, len(resp.Members))
	}
	strange := static("i3")
	strange.id, strange.generation = "nobody", 2
	WantCode(t, "an unknown instance (3.13)", strange.beat(), protocol.CodeUnknownMemberID)
}

// TestG15Delete: groups that have members stay; those that are not there are said so.
func TestG15Delete(t *testing.T) {
	c, n := begin(t)
	c.CreateTopic(n("t"), 1)
	m := alone(t, n("g"))
	m.sync(map[string]string{m.id: "mine"})
	Committed(c, n("empty"), n("t"), 1)
	req := kmsg.NewPtrDeleteGroupsRequest()
	req.Version, req.Groups = 2, []string{n("g"), n("empty"), n("nobody")}
	want := map[string]protocol.ErrorCode{n("g"): protocol.CodeNonEmptyGroup, n("empty"): protocol.CodeNone, n("nobody"): protocol.CodeGroupIDNotFound}
	for _, g := range Ask[*kmsg.DeleteGroupsResponse](c, req).Groups {
		WantCode(t, "delete "+g.Group, g.ErrorCode, want[g.Group])
	}
	if got := CommittedOffset(c, n("empty"), n("t")); got != -1 {
		t.Errorf("the deleted group has offset %d", got)
	}
	describe := kmsg.NewPtrDescribeGroupsRequest()
	describe.Version, describe.Groups = 6, []string{n("g")}
	g := Ask[*kmsg.DescribeGroupsResponse](c, describe).Groups[0]
	if g.State != "Stable" || g.ProtocolType != "test" || g.Protocol != "p" || len(g.Members) != 1 || string(g.Members[0].MemberAssignment) != "mine" {
		t.Errorf("state %q, type %q, protocol %q, %d members", g.State, g.ProtocolType, g.Protocol, len(g.Members))
	}
	list := kmsg.NewPtrListGroupsRequest()
	list.Version, list.StatesFilter, list.TypesFilter = 5, []string{"sTABLE"}, []string{"Classic"}
	listed := ""
	for _, one := range Ask[*kmsg.ListGroupsResponse](c, list).Groups {
		if one.Group == n("g") {
			listed = one.GroupState + " " + one.GroupType + " " + one.ProtocolType
		}
	}
	if listed != "Stable classic test" {
		t.Errorf("listed as %q", listed)
	}
	m.leave(m.id)
}
