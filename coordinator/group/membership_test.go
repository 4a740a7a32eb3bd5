package group

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/protocol"
)

// stable makes a group with two dynamic members, the first of which leads, in generation 2 or later.
func (b *bench) stable() (leader, follower string, generation int32) {
	b.t.Helper()
	leader, j1 := b.joinDynamic(joinSpec{client: "a"})
	b.sync(leader, j1.get().Generation, nil).get()
	follower, j2 := b.joinDynamic(joinSpec{client: "b"})
	j1 = b.join(joinSpec{client: "a", member: leader})
	generation = j1.get().Generation
	wantCode(b.t, "follower's join", j2.get().ErrorCode, protocol.CodeNone)
	s2 := b.sync(follower, generation, nil)
	s1 := b.sync(leader, generation, map[string]string{leader: "A", follower: "B"})
	if string(s1.get().MemberAssignment) != "A" || string(s2.get().MemberAssignment) != "B" {
		b.t.Fatalf("assignments %q, %q; want A, B", s1.get().MemberAssignment, s2.get().MemberAssignment)
	}
	return leader, follower, generation
}

func TestG0_SessionTimeoutOutOfBounds(t *testing.T) {
	for name, d := range map[string]time.Duration{"short": 5999 * time.Millisecond, "long": 30*time.Minute + time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			wantCode(t, "join", b.join(joinSpec{session: d}).get().ErrorCode, protocol.CodeInvalidSessionTimeout)
			if len(b.machine.groups) != 0 {
				t.Error("a refused join made a group")
			}
		})
	}
}

func TestG1_MemberIDRequired(t *testing.T) {
	b := newBench(t)
	first := b.join(joinSpec{client: "app"}).get()
	wantCode(t, "first join", first.ErrorCode, protocol.CodeMemberIDRequired)
	if first.MemberID != "app-1" {
		t.Errorf("member id %q, want app-1", first.MemberID)
	}
	wantCode(t, "heartbeat of a pending member", b.heartbeat("app-1", -1, nil), protocol.CodeUnknownMemberID)
	wantCode(t, "sync of a pending member", b.sync("app-1", -1, nil).get().ErrorCode, protocol.CodeUnknownMemberID)
	second := b.join(joinSpec{client: "app", member: "app-1"}).get()
	wantCode(t, "second join", second.ErrorCode, protocol.CodeNone)
	if second.Generation != 1 || second.LeaderID != "app-1" || len(second.Members) != 1 {
		t.Errorf("second join: %+v", second)
	}
}

func TestG1_OldVersionsAreAddedDirectly(t *testing.T) {
	b := newBench(t)
	wantCode(t, "join v3", b.join(joinSpec{version: 3}).get().ErrorCode, protocol.CodeNone)
}

func TestG1_PendingMemberExpires(t *testing.T) {
	b := newBench(t)
	b.join(joinSpec{})
	b.advance(10 * time.Second)
	wantCode(t, "join", b.join(joinSpec{member: "c-1"}).get().ErrorCode, protocol.CodeUnknownMemberID)
	if len(b.machine.groups) != 0 {
		t.Error("an empty group stays")
	}
}

func TestG1_LeaveRemovesPendingMember(t *testing.T) {
	b := newBench(t)
	b.join(joinSpec{})
	got := b.leave(kmsg.LeaveGroupRequestMember{MemberID: "c-1"})
	wantCode(t, "leave", got[0].ErrorCode, protocol.CodeNone)
	if len(b.machine.groups) != 0 || b.machine.timers.Len() != 1 /* the expiry of offsets */ {
		t.Error("something stays of a pending member that left")
	}
}

func TestG2_UnknownMember(t *testing.T) {
	b := newBench(t)
	wantCode(t, "no group", b.join(joinSpec{member: "x"}).get().ErrorCode, protocol.CodeUnknownMemberID)
	b.stable()
	wantCode(t, "no member", b.join(joinSpec{member: "x"}).get().ErrorCode, protocol.CodeUnknownMemberID)
}

func TestG3_InconsistentProtocols(t *testing.T) {
	tests := map[string]joinSpec{
		"other type":        {typ: "connect"},
		"no common":         {protocols: []string{"sticky"}},
		"twice":             {protocols: []string{"range", "range"}},
		"none":              {protocols: []string{}},
		"none, first group": {group: "h", protocols: []string{}},
		"twice, first":      {group: "h", protocols: []string{"range", "range"}},
	}
	for name, spec := range tests {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.stable()
			wantCode(t, "join", b.join(spec).get().ErrorCode, protocol.CodeInconsistentGroupProtocol)
			if b.state() != "Stable" || b.machine.groups["h"] != nil {
				t.Error("a refused join changed the group")
			}
		})
	}
}

func TestG3_Vote(t *testing.T) {
	tests := map[string]struct {
		offers [][]string
		want   string
	}{
		"majority":       {[][]string{{"a", "b"}, {"b", "a"}, {"b", "a"}}, "b"},
		"tie: the first": {[][]string{{"a", "b"}, {"b", "a"}}, "a"},
		"only common":    {[][]string{{"x", "b"}, {"b", "y"}}, "b"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.limits.InitialRebalanceDelay = time.Second
			var last *pending[kmsg.JoinGroupResponse]
			for _, protocols := range tt.offers {
				_, last = b.joinDynamic(joinSpec{protocols: protocols, rebalance: time.Second})
			}
			b.advance(time.Second)
			if got := *last.get().Protocol; got != tt.want {
				t.Errorf("protocol %s, want %s", got, tt.want)
			}
		})
	}
}

func TestG3_UnparsableMetadataIsAnswered(t *testing.T) {
	b := newBench(t)
	_, j := b.joinDynamic(joinSpec{protocols: []string{"range=\x00\x00\x7f\xff\xff\xff"}})
	wantCode(t, "join", j.get().ErrorCode, protocol.CodeNone)
}

// Strings of a record have 15 bits for their length: a longer one would make a record that no replay can read.
func TestNamesThatNoRecordHolds(t *testing.T) {
	long := strings.Repeat("x", 1<<15)
	tests := map[string]joinSpec{
		"client":   {client: long},
		"type":     {typ: long},
		"instance": {instance: &long},
		"protocol": {protocols: []string{"range", long}},
	}
	for name, spec := range tests {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			wantCode(t, "join", b.join(spec).get().ErrorCode, protocol.CodeInvalidRequest)
		})
	}
}

func TestG4_NoSpinOnTimeoutsOfZero(t *testing.T) {
	b := newBench(t)
	b.limits.OffsetsCheckInterval = 0
	one := b.join(joinSpec{instance: ptr("i"), rebalance: time.Nanosecond}).get()
	b.sync(one.MemberID, one.Generation, nil)
	two := b.join(joinSpec{instance: ptr("j"), rebalance: time.Nanosecond})
	b.advance(time.Second)
	b.leave(kmsg.LeaveGroupRequestMember{MemberID: two.get().MemberID})
	ticks := 0
	for end := b.now.Add(5 * time.Second); ; ticks++ {
		at, _ := b.machine.NextTick()
		if at.After(end) {
			break
		}
		b.advance(max(at.Sub(b.now), 0))
	}
	if ticks > 20 {
		t.Errorf("%d ticks in 5 s", ticks)
	}
}

func TestG3_RepeatedJoinAnswersTheFormer(t *testing.T) {
	b := newBench(t)
	leader, _, generation := b.stable()
	former := b.join(joinSpec{client: "a", member: leader})
	again := b.join(joinSpec{client: "a", member: leader})
	wantCode(t, "former join", former.get().ErrorCode, protocol.CodeRebalanceInProgress)
	b.advance(60 * time.Second)
	if got := again.get().Generation; got != generation+1 {
		t.Errorf("generation %d, want %d", got, generation+1)
	}
}

func TestG4_PendingMemberBlocksCompletion(t *testing.T) {
	b := newBench(t)
	leader, follower, generation := b.stable()
	pendingID := b.join(joinSpec{}).get().MemberID
	j1 := b.join(joinSpec{client: "a", member: leader})
	j2 := b.join(joinSpec{client: "b", member: follower})
	if j1.resp != nil || j2.resp != nil {
		t.Fatal("rebalance completed without the pending member")
	}
	j3 := b.join(joinSpec{member: pendingID})
	for _, j := range []*pending[kmsg.JoinGroupResponse]{j1, j2, j3} {
		if got := j.get().Generation; got != generation+1 {
			t.Errorf("generation %d, want %d", got, generation+1)
		}
	}
}

func TestG4_RebalanceTimeoutRemovesDynamicMembers(t *testing.T) {
	b := newBench(t)
	leader, follower, generation := b.stable()
	j := b.join(joinSpec{client: "a", member: leader})
	for range 7 {
		b.advance(8 * time.Second)
		wantCode(t, "heartbeat", b.heartbeat(follower, generation, nil), protocol.CodeRebalanceInProgress)
	}
	b.advance(4 * time.Second)
	if got := j.get(); len(got.Members) != 1 || got.Generation != generation+1 {
		t.Errorf("join: %+v", got)
	}
	wantCode(t, "heartbeat", b.heartbeat(follower, generation, nil), protocol.CodeUnknownMemberID)
}

func TestG4_InitialDelayExtends(t *testing.T) {
	b := newBench(t)
	b.limits.InitialRebalanceDelay = 3 * time.Second
	_, j1 := b.joinDynamic(joinSpec{rebalance: 8 * time.Second})
	b.advance(2 * time.Second)
	_, j2 := b.joinDynamic(joinSpec{rebalance: 8 * time.Second})
	b.advance(2 * time.Second) // 4 s: extended to 6 s
	if j1.resp != nil {
		t.Fatal("completed though a member had arrived")
	}
	_, j3 := b.joinDynamic(joinSpec{rebalance: 8 * time.Second})
	b.advance(3 * time.Second) // 7 s: extended to 8 s
	if j1.resp != nil {
		t.Fatal("completed though a member had arrived again")
	}
	_, j4 := b.joinDynamic(joinSpec{rebalance: 8 * time.Second})
	b.advance(time.Second) // 8 s: the longest rebalance timeout
	for i, j := range []*pending[kmsg.JoinGroupResponse]{j1, j2, j3, j4} {
		if got := j.get().Generation; got != 1 {
			t.Errorf("member %d: generation %d, want 1", i, got)
		}
	}
}

func TestG5_LastLeaveBumpsGeneration(t *testing.T) {
	b := newBench(t)
	id, j := b.joinDynamic(joinSpec{})
	b.sync(id, j.get().Generation, nil)
	b.leave(kmsg.LeaveGroupRequestMember{MemberID: id})
	_, j = b.joinDynamic(joinSpec{})
	if got := j.get().Generation; got != 3 {
		t.Errorf("generation %d, want 3", got)
	}
}

func TestG5_PendingSyncExpires(t *testing.T) {
	b := newBench(t)
	leader, follower, _ := b.stable()
	j := b.join(joinSpec{client: "a", member: leader})
	b.join(joinSpec{client: "b", member: follower})
	generation := j.get().Generation
	s := b.sync(leader, generation, nil)
	wantCode(t, "leader's sync", s.get().ErrorCode, protocol.CodeNone)
	for range 8 {
		b.advance(8 * time.Second)
		b.heartbeat(leader, generation, nil)
		b.heartbeat(follower, generation, nil)
	}
	wantCode(t, "follower's heartbeat", b.heartbeat(follower, generation, nil), protocol.CodeUnknownMemberID)
	wantCode(t, "leader's heartbeat", b.heartbeat(leader, generation, nil), protocol.CodeRebalanceInProgress)
}

func TestG6_FirstJoinDoesNotWaitForEver(t *testing.T) {
	b := newBench(t)
	// The members of a group with a rebalance timeout of hours; one joins and the other does not come back.
	leader, j := b.joinDynamic(joinSpec{client: "a", rebalance: time.Hour, session: 20 * time.Minute})
	b.sync(leader, j.get().Generation, nil)
	_, late := b.joinDynamic(joinSpec{client: "b"})
	b.advance(5*time.Minute - time.Second)
	if late.resp != nil {
		t.Fatal("answered early")
	}
	b.advance(time.Second)
	wantCode(t, "join", late.get().ErrorCode, protocol.CodeUnknownMemberID)
}

func TestG7_RejoinWhileCompleting(t *testing.T) {
	b := newBench(t)
	leader, follower, _ := b.stable()
	j1 := b.join(joinSpec{client: "a", member: leader})
	b.join(joinSpec{client: "b", member: follower})
	s := b.sync(follower, j1.get().Generation, nil)
	again := b.join(joinSpec{client: "a", member: leader}).get()
	if diff := cmp.Diff(j1.get().AppendTo(nil), again.AppendTo(nil)); diff != "" {
		t.Errorf("same join, other answer (-first +second):\n%s", diff)
	}
	changed := b.join(joinSpec{client: "a", member: leader, protocols: []string{"range=x"}})
	if changed.resp != nil {
		t.Error("changed metadata: answered without a rebalance")
	}
	wantCode(t, "waiting sync", s.get().ErrorCode, protocol.CodeRebalanceInProgress)
}

func TestG8_RejoinWhileStable(t *testing.T) {
	b := newBench(t)
	leader, follower, generation := b.stable()
	same := b.join(joinSpec{client: "b", member: follower}).get()
	if same.Generation != generation || len(same.Members) != 0 || b.state() != "Stable" {
		t.Errorf("follower's rejoin: %+v in %s", same, b.state())
	}
	if b.join(joinSpec{client: "a", member: leader}).resp != nil || b.state() != "PreparingRebalance" {
		t.Error("the leader's rejoin did not start a rebalance")
	}
}

func TestG8_ChangedFollowerRebalances(t *testing.T) {
	b := newBench(t)
	_, follower, _ := b.stable()
	b.join(joinSpec{client: "b", member: follower, protocols: []string{"range=x"}})
	if got := b.state(); got != "PreparingRebalance" {
		t.Errorf("state %s", got)
	}
}

func TestG9_Sync(t *testing.T) {
	b := newBench(t)
	leader, follower, generation := b.stable()
	wantCode(t, "wrong generation", b.sync(leader, generation+1, nil).get().ErrorCode, protocol.CodeIllegalGeneration)
	wantCode(t, "unknown member", b.sync("x", generation, nil).get().ErrorCode, protocol.CodeUnknownMemberID)
	if got := b.sync(follower, generation, nil).get(); string(got.MemberAssignment) != "B" {
		t.Errorf("assignment %q, want B", got.MemberAssignment)
	}
	req := &kmsg.SyncGroupRequest{Version: 5, Group: "g", MemberID: leader, Generation: generation, ProtocolType: ptr("consumer"), Protocol: ptr("sticky")}
	wantCode(t, "other protocol", b.syncRequest(req).get().ErrorCode, protocol.CodeInconsistentGroupProtocol)
	b.join(joinSpec{client: "a", member: leader})
	wantCode(t, "preparing", b.sync(follower, generation, nil).get().ErrorCode, protocol.CodeRebalanceInProgress)
}

func TestG9_OversizedAssignmentIsRefused(t *testing.T) {
	b := newBench(t)
	id, j := b.joinDynamic(joinSpec{})
	big := string(make([]byte, recordBytesMax))
	s := b.sync(id, j.get().Generation, map[string]string{id: big})
	wantCode(t, "sync", s.get().ErrorCode, protocol.CodeUnknownServerError)
	if got := b.state(); got != "PreparingRebalance" {
		t.Errorf("state %s", got)
	}
}

func TestG10_Heartbeat(t *testing.T) {
	b := newBench(t)
	leader, follower, generation := b.stable()
	wantCode(t, "stable", b.heartbeat(follower, generation, nil), protocol.CodeNone)
	wantCode(t, "wrong generation", b.heartbeat(follower, generation-1, nil), protocol.CodeIllegalGeneration)
	b.join(joinSpec{client: "a", member: leader})
	wantCode(t, "preparing", b.heartbeat(follower, generation, nil), protocol.CodeRebalanceInProgress)
	b.join(joinSpec{client: "b", member: follower})
	wantCode(t, "completing", b.heartbeat(follower, generation+1, nil), protocol.CodeNone)
	b.leave(kmsg.LeaveGroupRequestMember{MemberID: leader}, kmsg.LeaveGroupRequestMember{MemberID: follower})
	wantCode(t, "empty", b.heartbeat(follower, generation+1, nil), protocol.CodeUnknownMemberID)
}

func TestG10_SessionExpiryRemoves(t *testing.T) {
	b := newBench(t)
	leader, _, generation := b.stable()
	b.advance(9 * time.Second)
	b.heartbeat(leader, generation, nil)
	b.advance(time.Second)
	wantCode(t, "leader", b.heartbeat(leader, generation, nil), protocol.CodeRebalanceInProgress)
}

func TestG13_Leave(t *testing.T) {
	b := newBench(t)
	s := b.join(joinSpec{instance: ptr("i")})
	id := s.get().MemberID
	got := b.leave(
		kmsg.LeaveGroupRequestMember{MemberID: "x"},
		kmsg.LeaveGroupRequestMember{MemberID: "x", InstanceID: ptr("i")},
		kmsg.LeaveGroupRequestMember{MemberID: "", InstanceID: ptr("j")},
		kmsg.LeaveGroupRequestMember{MemberID: "", InstanceID: ptr("i")},
		kmsg.LeaveGroupRequestMember{MemberID: id},
	)
	want := []protocol.ErrorCode{
		protocol.CodeUnknownMemberID, protocol.CodeFencedInstanceID, protocol.CodeUnknownMemberID, protocol.CodeNone, protocol.CodeUnknownMemberID,
	}
	for i := range want {
		wantCode(t, "leave", got[i].ErrorCode, want[i])
	}
	if b.state() != "Empty" {
		t.Errorf("state %s", b.state())
	}
}

func TestG13_LeaveAnswersWhatWaits(t *testing.T) {
	b := newBench(t)
	leader, follower, _ := b.stable()
	j := b.join(joinSpec{client: "a", member: leader})
	b.leave(kmsg.LeaveGroupRequestMember{MemberID: leader})
	wantCode(t, "join", j.get().ErrorCode, protocol.CodeUnknownMemberID)
	b.join(joinSpec{client: "b", member: follower})
	other, j3 := b.joinDynamic(joinSpec{})
	j2 := b.join(joinSpec{client: "b", member: follower})
	s := b.sync(other, j3.get().Generation, nil)
	wantCode(t, "j2", j2.get().ErrorCode, protocol.CodeNone)
	b.leave(kmsg.LeaveGroupRequestMember{MemberID: other})
	wantCode(t, "sync", s.get().ErrorCode, protocol.CodeUnknownMemberID)
}
