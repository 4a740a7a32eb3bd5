package group

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidemill/tidemill/protocol"
)

// A client that only ever asks for a member id fills nothing: the oldest gives way, and what is left of its group (D11).
func TestPendingMembersAreBounded(t *testing.T) {
	b := newBench(t)
	long := 30 * time.Minute
	first := b.join(joinSpec{group: "first", session: long}).get().MemberID
	second := b.join(joinSpec{group: "second", session: long}).get().MemberID
	for i := range pendingMax - 1 {
		b.join(joinSpec{group: fmt.Sprint("g", i%7), session: long})
	}
	wantCode(t, "the oldest", b.join(joinSpec{group: "first", member: first}).get().ErrorCode, protocol.CodeUnknownMemberID)
	wantCode(t, "the next", b.join(joinSpec{group: "second", member: second}).get().ErrorCode, protocol.CodeNone)
	n := 0
	for _, g := range b.machine.groups {
		n += len(g.pending)
	}
	if n >= pendingMax || b.machine.groups["first"] != nil {
		t.Errorf("%d ids wait, and the group of the oldest is %v", n, b.machine.groups["first"])
	}
	if timers := b.machine.timers.Len(); timers > pendingMax+5 {
		t.Errorf("%d timers run", timers)
	}
}

// The oldest pending member may be what its group waits for.
func TestPendingMemberGivesWay(t *testing.T) {
	b := newBench(t)
	leader, follower, _ := b.stable()
	b.join(joinSpec{session: 30 * time.Minute}) // holds the next rebalance up
	rejoined := b.join(joinSpec{client: "a", member: leader})
	b.join(joinSpec{client: "b", member: follower})
	if rejoined.resp != nil {
		t.Fatal("the rebalance did not wait")
	}
	for range pendingMax {
		b.join(joinSpec{group: "other", session: 30 * time.Minute})
	}
	if rejoined.resp == nil {
		t.Error("the rebalance waits for a member that was forgotten")
	}
}

// What members offer is bounded over all groups; a member may still replace what it offers by as much (D11).
func TestMemberBytesAreBounded(t *testing.T) {
	b := newBench(t)
	all := new(atomic.Int64)
	b.machine.tally.end()
	b.machine.tally.all, b.machine.tally.max = all, 400
	b.machine.tally.begin()
	v3 := func(group, member string) joinSpec {
		return joinSpec{group: group, member: member, version: 3, protocols: []string{fmt.Sprintf("%0100d", 1)}}
	}
	one := b.join(v3("one", "")).get()
	wantCode(t, "one", one.ErrorCode, protocol.CodeNone)
	wantCode(t, "two", b.join(v3("two", "")).get().ErrorCode, protocol.CodeNone)
	wantCode(t, "three", b.join(v3("three", "")).get().ErrorCode, protocol.CodeGroupMaxSizeReached)
	if b.machine.groups["three"] != nil {
		t.Error("a refused join left a group")
	}
	wantCode(t, "one again", b.join(v3("one", one.MemberID)).get().ErrorCode, protocol.CodeNone)
	held := all.Load()
	b.restart()
	if all.Load() != 0 || held == 0 {
		t.Errorf("%d bytes were held, %d after the shard was dropped", held, all.Load())
	}
}
