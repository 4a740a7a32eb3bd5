package group

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/protocol"
)

// stableStatic makes a group of the static member "i" that leads, and the dynamic member that is returned second.
func (b *bench) stableStatic() (static, dynamic string, generation int32) {
	b.t.Helper()
	j1 := b.join(joinSpec{instance: ptr("i"), client: "s"})
	static = j1.get().MemberID
	b.sync(static, 1, nil)
	dynamic, j2 := b.joinDynamic(joinSpec{client: "d"})
	j1 = b.join(joinSpec{instance: ptr("i"), client: "s", member: static})
	generation = j2.get().Generation
	b.sync(dynamic, generation, nil)
	b.sync(static, generation, map[string]string{static: "S", dynamic: "D"})
	if b.state() != "Stable" || j1.get().LeaderID != static {
		b.t.Fatalf("state %s, leader %s", b.state(), j1.get().LeaderID)
	}
	return static, dynamic, generation
}

func TestG14_RejoinWithoutRebalance(t *testing.T) {
	tests := map[string]struct {
		version int16
		skip    bool
		members int
	}{
		"v9": {version: 9, skip: true, members: 2},
		"v8": {version: 8},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			old, _, generation := b.stableStatic()
			got := b.join(joinSpec{instance: ptr("i"), client: "s", version: tt.version}).get()
			wantCode(t, "join", got.ErrorCode, protocol.CodeNone)
			if got.MemberID == old || got.Generation != generation || got.SkipAssignment != tt.skip || len(got.Members) != tt.members {
				t.Errorf("rejoin: %+v", got)
			}
			wantLeader := got.MemberID
			if !tt.skip {
				wantLeader = old
			}
			if got.LeaderID != wantLeader {
				t.Errorf("leader %s, want %s", got.LeaderID, wantLeader)
			}
			if b.state() != "Stable" {
				t.Errorf("state %s", b.state())
			}
			wantCode(t, "old id", b.heartbeat(old, generation, ptr("i")), protocol.CodeFencedInstanceID)
			wantCode(t, "new id", b.heartbeat(got.MemberID, generation, ptr("i")), protocol.CodeNone)
			if s := b.sync(got.MemberID, generation, nil).get(); string(s.MemberAssignment) != "S" {
				t.Errorf("assignment %q, want S", s.MemberAssignment)
			}
			b.restart()
			wantCode(t, "new id after restart", b.heartbeat(got.MemberID, generation, ptr("i")), protocol.CodeNone)
		})
	}
}

func TestG14_OtherProtocolIsRefused(t *testing.T) {
	b := newBench(t)
	b.stableStatic()
	got := b.join(joinSpec{instance: ptr("i"), protocols: []string{"sticky"}}).get()
	wantCode(t, "join", got.ErrorCode, protocol.CodeInconsistentGroupProtocol)
	if b.state() != "Stable" {
		t.Errorf("state %s", b.state())
	}
}

func TestG14_RejoinWhileCompletingRebalances(t *testing.T) {
	b := newBench(t)
	static, dynamic, _ := b.stableStatic()
	j := b.join(joinSpec{instance: ptr("i"), member: static})
	b.join(joinSpec{client: "d", member: dynamic})
	s := b.sync(static, j.get().Generation-1, nil)
	wantCode(t, "old generation", s.get().ErrorCode, protocol.CodeIllegalGeneration)
	s = b.sync(dynamic, j.get().Generation, nil)
	b.join(joinSpec{instance: ptr("i")})
	wantCode(t, "sync", s.get().ErrorCode, protocol.CodeRebalanceInProgress)
	if b.state() != "PreparingRebalance" {
		t.Errorf("state %s", b.state())
	}
}

func TestG14_ReplacedJoinIsFenced(t *testing.T) {
	b := newBench(t)
	static, _, _ := b.stableStatic()
	former := b.join(joinSpec{instance: ptr("i"), member: static})
	b.join(joinSpec{instance: ptr("i")})
	wantCode(t, "former join", former.get().ErrorCode, protocol.CodeFencedInstanceID)
}

func TestG14_StaticMemberOutlivesRebalance(t *testing.T) {
	b := newBench(t)
	static, dynamic, generation := b.stableStatic()
	b.machine.groups["g"].members[static].rebalance = 5 * time.Second
	b.join(joinSpec{client: "d", member: dynamic, protocols: []string{"range=x"}, rebalance: 5 * time.Second})
	b.advance(5 * time.Second)
	if got := b.machine.groups["g"]; got.generation != generation+1 || got.members[static] == nil || got.leader != dynamic {
		t.Errorf("generation %d, leader %s, members %d", got.generation, got.leader, len(got.members))
	}
}

func TestG14_ReplacedSyncIsFenced(t *testing.T) {
	b := newBench(t)
	b.join(joinSpec{instance: ptr("j"), client: "l"})
	first := b.join(joinSpec{instance: ptr("i")})
	leader := b.machine.groups["g"].leader
	j := b.join(joinSpec{instance: ptr("j"), client: "l", member: leader})
	s := b.sync(first.get().MemberID, j.get().Generation, nil)
	b.join(joinSpec{instance: ptr("i")})
	wantCode(t, "former sync", s.get().ErrorCode, protocol.CodeFencedInstanceID)
}

func TestG14_UnknownInstance(t *testing.T) {
	b := newBench(t)
	static, _, generation := b.stableStatic()
	wantCode(t, "heartbeat", b.heartbeat(static, generation, ptr("j")), protocol.CodeUnknownMemberID)
	wantCode(t, "join", b.join(joinSpec{instance: ptr("j"), member: static}).get().ErrorCode, protocol.CodeUnknownMemberID)
	req := commitOf("g", static, generation, "t", 0, 1)
	req.InstanceID = ptr("j")
	wantCode(t, "commit", b.commitRequest(req).Topics[0].Partitions[0].ErrorCode, protocol.CodeUnknownMemberID)
	sync := &kmsg.SyncGroupRequest{Version: 3, Group: "g", MemberID: static, Generation: generation, InstanceID: ptr("j")}
	wantCode(t, "sync", b.syncRequest(sync).get().ErrorCode, protocol.CodeUnknownMemberID)
}

func TestG17_MembersSurviveRestart(t *testing.T) {
	b := newBench(t)
	leader, follower, generation := b.stable()
	b.commit(leader, generation, 7)
	b.advance(9 * time.Second)
	b.restart()
	b.advance(9 * time.Second) // the session is fresh
	wantCode(t, "heartbeat", b.heartbeat(follower, generation, nil), protocol.CodeNone)
	if s := b.sync(follower, generation, nil).get(); string(s.MemberAssignment) != "B" {
		t.Errorf("assignment %q, want B", s.MemberAssignment)
	}
	if got := b.fetch("g", "t", 0); got != 7 {
		t.Errorf("offset %d, want 7", got)
	}
	b.advance(time.Second)
	wantCode(t, "silent member", b.heartbeat(leader, generation, nil), protocol.CodeUnknownMemberID)
}

func TestG17_RestartInTheMiddleOfARebalance(t *testing.T) {
	b := newBench(t)
	leader, follower, generation := b.stable()
	j := b.join(joinSpec{client: "a", member: leader})
	b.restart()
	wantCode(t, "join", j.get().ErrorCode, protocol.CodeNotCoordinator)
	if b.state() != "Stable" {
		t.Errorf("state %s", b.state())
	}
	wantCode(t, "heartbeat", b.heartbeat(follower, generation, nil), protocol.CodeNone)

	j = b.join(joinSpec{client: "a", member: leader})
	b.join(joinSpec{client: "b", member: follower})
	s := b.sync(follower, j.get().Generation, nil)
	b.restart() // the new generation was never assigned: it is as if it had not been
	wantCode(t, "sync", s.get().ErrorCode, protocol.CodeNotCoordinator)
	wantCode(t, "heartbeat", b.heartbeat(follower, generation, nil), protocol.CodeNone)
}

func TestG17_TooLargeAfterLoad(t *testing.T) {
	b := newBench(t)
	b.stable()
	b.limits.MaxGroupSize = 1
	b.restart()
	if b.state() != "PreparingRebalance" {
		t.Errorf("state %s", b.state())
	}
}

func TestGroupMaxSize(t *testing.T) {
	b := newBench(t)
	b.stable()
	b.limits.MaxGroupSize = 2
	wantCode(t, "dynamic", b.join(joinSpec{}).get().ErrorCode, protocol.CodeGroupMaxSizeReached)
	wantCode(t, "static", b.join(joinSpec{instance: ptr("i")}).get().ErrorCode, protocol.CodeGroupMaxSizeReached)
}
