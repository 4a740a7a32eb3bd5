package group

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

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

// What members are and offer, and what is waited for, is bounded over all groups (D11).
func TestMemberBytesAreBounded(t *testing.T) {
	long := strings.Repeat("x", 5000)
	for name, spec := range map[string]func(i int) joinSpec{
		"what a member offers": func(i int) joinSpec {
			return joinSpec{group: fmt.Sprint(i), version: 3, protocols: []string{long}}
		},
		"its client's id":      func(i int) joinSpec { return joinSpec{group: fmt.Sprint(i), version: 3, client: long} },
		"its instance's id":    func(i int) joinSpec { return joinSpec{group: fmt.Sprint(i), instance: &long} },
		"its group's name":     func(i int) joinSpec { return joinSpec{group: long + fmt.Sprint(i), version: 3} },
		"its group's type":     func(i int) joinSpec { return joinSpec{group: fmt.Sprint(i), version: 3, typ: long} },
		"an id handed out":     func(i int) joinSpec { return joinSpec{group: "g", client: long} },
		"a group waited for":   func(i int) joinSpec { return joinSpec{group: long + fmt.Sprint(i)} },
		"members of one group": func(i int) joinSpec { return joinSpec{group: "g", version: 3, client: long} },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			all := new(atomic.Int64)
			b.machine.tally.end()
			b.machine.tally.all, b.machine.tally.max = all, 30_000
			b.machine.tally.begin()
			joined, full := 0, protocol.CodeNone
			for i := 0; i < 100 && full == protocol.CodeNone; i++ {
				if j := b.join(spec(i)); j.resp == nil || j.resp.ErrorCode != int16(protocol.CodeGroupMaxSizeReached) {
					joined++
				} else {
					full = protocol.CodeGroupMaxSizeReached
				}
			}
			if full != protocol.CodeGroupMaxSizeReached || joined < 2 || joined > 5 || all.Load() > 30_000 {
				t.Errorf("after %d joins code %d; %d bytes are held", joined, full, all.Load())
			}
			for _, g := range b.machine.groups {
				if len(g.members)+len(g.pending) == 0 {
					t.Error("a refused join left a group")
				}
			}
			b.advance(time.Hour)
			if left := all.Load(); left != 0 {
				t.Errorf("%d bytes are counted when all are gone", left)
			}
		})
	}
}

// A member may replace what it offers by as much, and a restarted static member take its place, when there is no room (D11).
func TestMembersReplaceWithoutRoom(t *testing.T) {
	b := newBench(t)
	all := new(atomic.Int64)
	b.machine.tally.end()
	b.machine.tally.all = all
	b.machine.tally.begin()
	instance := "instance"
	one := joinSpec{group: "one", version: 3, protocols: []string{fmt.Sprintf("%0100d", 1)}}
	b.join(one)
	b.join(joinSpec{group: "two", instance: &instance})
	b.advance(3 * time.Second)
	b.machine.tally.max = all.Load()
	one.member = b.machine.groups["one"].leader
	wantNoRefusal := func(what string, j *pending[kmsg.JoinGroupResponse]) {
		if j.resp != nil && j.resp.ErrorCode != int16(protocol.CodeNone) {
			t.Errorf("%s: code %d", what, j.resp.ErrorCode)
		}
	}
	wantNoRefusal("as much", b.join(one))
	wantNoRefusal("restarted", b.join(joinSpec{group: "two", instance: &instance}))
	wantCode(t, "another", b.join(joinSpec{group: "three"}).get().ErrorCode, protocol.CodeGroupMaxSizeReached)

	b.machine.tally.max = 0
	client := strings.Repeat("x", 1000)
	id := b.join(joinSpec{group: "four", client: client}).get().MemberID
	b.machine.tally.max = all.Load() + 1500 // its id is there already, its client's is not
	wantNoRefusal("that is waited for", b.join(joinSpec{group: "four", client: client, member: id}))
	if want := b.machine.tally.max - 500; all.Load() < want {
		t.Errorf("%d bytes are counted, want %d at least", all.Load(), want)
	}
	held := all.Load()
	b.restart()
	if all.Load() != 0 || held == 0 {
		t.Errorf("%d bytes were held, %d after the shard was dropped", held, all.Load())
	}
}

// Ids whose clients came back do not push out those that are waited for.
func TestPendingMembersThatCame(t *testing.T) {
	b := newBench(t)
	long := 30 * time.Minute
	first := b.join(joinSpec{group: "first", session: long}).get().MemberID
	for range pendingMax {
		id := b.join(joinSpec{group: "other", session: long}).get().MemberID
		b.step(func(m *machine) { m.leaveGroup("other", []kmsg.LeaveGroupRequestMember{{MemberID: id}}) })
	}
	if j := b.join(joinSpec{group: "first", member: first}); j.resp != nil && j.resp.ErrorCode != int16(protocol.CodeNone) {
		t.Errorf("code %d for the first", j.resp.ErrorCode)
	}
}
