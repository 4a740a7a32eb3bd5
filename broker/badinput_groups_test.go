package broker

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/conformance"
	"github.com/tidemill/tidemill/protocol"
)

func joinRequest(group, member string) *kmsg.JoinGroupRequest {
	req := kmsg.NewPtrJoinGroupRequest()
	req.Version, req.Group, req.MemberID, req.ProtocolType = 3, group, member, "consumer"
	req.SessionTimeoutMillis, req.RebalanceTimeoutMillis = 60_000, 60_000
	req.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "range", Metadata: make([]byte, 100)}}
	return req
}

func leaveRequest(group string, members ...string) *kmsg.LeaveGroupRequest {
	req := kmsg.NewPtrLeaveGroupRequest()
	req.Version, req.Group = 4, group
	for _, m := range members {
		req.Members = append(req.Members, kmsg.LeaveGroupRequestMember{MemberID: m})
	}
	return req
}

// TestBadInputGroupLimits: group ids, instance ids, protocols and metadata at their limits and one above.
func TestBadInputGroupLimits(t *testing.T) {
	a := besiege(t)
	c := a.dial(t).warm()
	const longest = 1<<15 - 1 - 64 // a name that still fits into a record with a UUID
	commit := func(group string, metadata int) int16 {
		req := conformance.CommitRequest(group, keptTopic, 1)
		text := strings.Repeat("m", metadata)
		req.Topics[0].Partitions[0].Metadata = &text
		return ask[*kmsg.OffsetCommitResponse](c, req).Topics[0].Partitions[0].ErrorCode
	}
	waitFor(t, "the long group's shard", func() bool { return commit(strings.Repeat("g", longest), 0) == 0 })
	wantCode(t, "commit to a group id too long", commit(strings.Repeat("g", longest+1), 0), protocol.CodeInvalidGroupID)
	wantCode(t, "metadata of 4096 bytes", commit("kept-group", 4096), protocol.CodeNone)
	wantCode(t, "metadata of 4097 bytes", commit("kept-group", 4097), protocol.CodeOffsetMetadataTooLarge)
	wantCode(t, "metadata of 32,000 bytes", commit("kept-group", 32_000), protocol.CodeOffsetMetadataTooLarge)
	if got := conformance.CommittedOffset(c.Client, "kept-group", keptTopic); got != 1 {
		t.Errorf("the group's offset is %d, want 1", got)
	}
	join := func(group string, change func(*kmsg.JoinGroupRequest)) protocol.ErrorCode {
		req := joinRequest(group, "")
		change(req)
		resp := ask[*kmsg.JoinGroupResponse](c, req)
		if resp.ErrorCode == 0 {
			ask[*kmsg.LeaveGroupResponse](c, leaveRequest(group, resp.MemberID))
		}
		return protocol.ErrorCode(resp.ErrorCode)
	}
	instance := func(n int) func(*kmsg.JoinGroupRequest) {
		return func(req *kmsg.JoinGroupRequest) {
			req.Version, req.InstanceID = 5, kmsg.StringPtr(strings.Repeat("i", n))
		}
	}
	for _, tt := range []struct {
		name   string
		group  string
		change func(*kmsg.JoinGroupRequest)
		want   protocol.ErrorCode
	}{
		{"the longest group id", strings.Repeat("g", longest), func(*kmsg.JoinGroupRequest) {}, protocol.CodeNone},
		{"one longer", strings.Repeat("g", longest+1), func(*kmsg.JoinGroupRequest) {}, protocol.CodeInvalidGroupID},
		{"no group id", "", func(*kmsg.JoinGroupRequest) {}, protocol.CodeInvalidGroupID},
		{"the longest instance id", "kept-group", instance(longest), protocol.CodeNone},
		{"one longer instance", "kept-group", instance(longest + 1), protocol.CodeInvalidRequest},
		{"no protocols", "kept-group", func(r *kmsg.JoinGroupRequest) { r.Protocols = nil }, protocol.CodeInconsistentGroupProtocol},
		{"no protocol type", "kept-group", func(r *kmsg.JoinGroupRequest) { r.ProtocolType = "" }, protocol.CodeInconsistentGroupProtocol},
		{"session of 5999 ms", "kept-group", func(r *kmsg.JoinGroupRequest) { r.SessionTimeoutMillis = 5999 }, protocol.CodeInvalidSessionTimeout},
		{"session above 30 min", "kept-group", func(r *kmsg.JoinGroupRequest) { r.SessionTimeoutMillis = 1_800_001 }, protocol.CodeInvalidSessionTimeout},
		{"negative session", "kept-group", func(r *kmsg.JoinGroupRequest) { r.SessionTimeoutMillis = -1 }, protocol.CodeInvalidSessionTimeout},
		{"metadata of 1 MiB", "kept-group", func(r *kmsg.JoinGroupRequest) { r.Protocols[0].Metadata = make([]byte, 1<<20) }, protocol.CodeNone},
		{"metadata above 4 MiB", "kept-group", func(r *kmsg.JoinGroupRequest) { r.Protocols[0].Metadata = make([]byte, 4<<20+1) }, protocol.CodeInvalidRequest},
		{"a member id that was never given", "kept-group", func(r *kmsg.JoinGroupRequest) { r.MemberID = strings.Repeat("m", 32_000) }, protocol.CodeUnknownMemberID},
	} {
		t.Run(tt.name, func(t *testing.T) {
			wantCode(t, "join", int16(join(tt.group, tt.change)), tt.want)
		})
	}
	a.checkUnharmed(t)
}

// TestBadInputManyMembers: a sync that assigns a million times to one member, and a million that leave who never came.
func TestBadInputManyMembers(t *testing.T) {
	a := besiege(t)
	c := a.dial(t).warm()
	var joined *kmsg.JoinGroupResponse
	waitFor(t, "the group's shard", func() bool {
		joined = ask[*kmsg.JoinGroupResponse](c, joinRequest("crowd", ""))
		return joined.ErrorCode == 0
	})
	sync := kmsg.NewPtrSyncGroupRequest()
	sync.Version, sync.Group, sync.MemberID, sync.Generation = 4, "crowd", joined.MemberID, joined.Generation
	sync.GroupAssignment = make([]kmsg.SyncGroupRequestGroupAssignment, 1_000_000)
	for i := range sync.GroupAssignment {
		sync.GroupAssignment[i].MemberID = "x"
	}
	sync.GroupAssignment[999_999] = kmsg.SyncGroupRequestGroupAssignment{MemberID: joined.MemberID, MemberAssignment: []byte("yours")}
	resp := ask[*kmsg.SyncGroupResponse](c, sync)
	wantCode(t, "sync", resp.ErrorCode, protocol.CodeNone)
	if string(resp.MemberAssignment) != "yours" {
		t.Errorf("assigned %q", resp.MemberAssignment)
	}
	strangers := make([]string, 1_000_000)
	for i := range strangers {
		strangers[i] = "nobody"
	}
	gone := leaveRequest("crowd", strangers...)
	left := ask[*kmsg.LeaveGroupResponse](c, gone)
	if len(left.Members) != 1_000_000 || protocol.ErrorCode(left.Members[7].ErrorCode) != protocol.CodeUnknownMemberID {
		t.Errorf("%d answers to a million that leave", len(left.Members))
	}
	ask[*kmsg.LeaveGroupResponse](c, leaveRequest("crowd", joined.MemberID))
	a.checkUnharmed(t)
}

// TestBadInputThousandMembers: a group of 1,000 comes together, and falls apart, one by one.
func TestBadInputThousandMembers(t *testing.T) {
	a := besiege(t)
	const members = 1000
	conns := make([]*rawClient, members)
	for i := range conns {
		conns[i] = a.dial(t).warm()
	}
	ids := make([]string, members)
	first, generations := int32(0), map[int32]int{} // first: of member 0 alone
	round := func(member func(i int) string) {
		var wg sync.WaitGroup
		var mu sync.Mutex
		for i, c := range conns {
			wg.Go(func() {
				resp := kmsg.NewPtrJoinGroupResponse()
				for {
					if !a.try(c, joinRequest("thousand", member(i)), resp) {
						return
					}
					inFirst := resp.ErrorCode == 0 && resp.Generation == first // member 0 asked before any other: the next begins without it
					if !inFirst && protocol.ErrorCode(resp.ErrorCode) != protocol.CodeRebalanceInProgress {
						break
					}
				}
				mu.Lock()
				defer mu.Unlock()
				ids[i] = resp.MemberID
				generations[resp.Generation]++
				if resp.ErrorCode != 0 {
					t.Errorf("member %d: %v", i, protocol.ErrorCode(resp.ErrorCode))
				}
			})
		}
		wg.Wait()
	}
	for i, c := range conns { // one after the other, as the first generation would else begin at once
		if i == 0 {
			waitFor(t, "the first member", func() bool {
				resp := ask[*kmsg.JoinGroupResponse](c, joinRequest("thousand", ""))
				ids[0], first = resp.MemberID, resp.Generation
				return resp.ErrorCode == 0
			})
			continue
		}
		req := joinRequest("thousand", "")
		req.Version = 4 // is told its id
		ids[i] = ask[*kmsg.JoinGroupResponse](c, req).MemberID
	}
	round(func(i int) string { return ids[i] })
	last := int32(0)
	for g := range generations {
		last = max(last, g)
	}
	if generations[last] != members {
		t.Fatalf("%d of %d members are in generation %d: %v", generations[last], members, last, generations)
	}
	describe := kmsg.NewPtrDescribeGroupsRequest()
	describe.Version, describe.Groups = 5, []string{"thousand"}
	if n := len(ask[*kmsg.DescribeGroupsResponse](conns[0], describe).Groups[0].Members); n != members {
		t.Errorf("the group has %d members, want %d", n, members)
	}
	for i, c := range conns {
		left := ask[*kmsg.LeaveGroupResponse](c, leaveRequest("thousand", ids[i]))
		wantCode(t, fmt.Sprint("leave ", i), left.Members[0].ErrorCode, protocol.CodeNone)
	}
	if state := ask[*kmsg.DescribeGroupsResponse](conns[0], describe).Groups[0].State; state != "Empty" {
		t.Errorf("the group is %s, want Empty", state)
	}
	a.checkUnharmed(t)
}
