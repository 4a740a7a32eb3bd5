package group

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/coordinator"
	"github.com/tidemill/tidemill/protocol"
)

// journal commits at once, unless err is set.
type journal struct {
	shards map[int32][]coordinator.Record
	err    error
	block  chan struct{}
	// held: appends are committed once held is called.
	hold bool
	held []func()
}

func (j *journal) Append(shard int32, records []coordinator.Record, _ time.Time, done func(int64, error)) {
	base := int64(len(j.shards[shard]))
	if j.err == nil {
		j.shards[shard] = append(j.shards[shard], records...)
	}
	if j.hold {
		j.held = append(j.held, func() { done(base, nil) })
		return
	}
	done(base, j.err)
}

func (j *journal) Replay(ctx context.Context, shard int32, from int64, fn func(int64, coordinator.Record) error) (int64, error) {
	if j.block != nil {
		select {
		case <-j.block:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	records := j.shards[shard]
	for i := from; i < int64(len(records)); i++ {
		if err := fn(i, records[i]); err != nil {
			return 0, err
		}
	}
	return int64(len(records)), nil
}

const testShards = 4

// inCoordinator runs fn with a coordinator that has one worker and serves all shards but the last.
func inCoordinator(t *testing.T, fn func(t *testing.T, c *Coordinator, j *journal)) {
	synctest.Test(t, func(t *testing.T) {
		known := topics{}
		known.add("t", 1, 4)
		limits := DefaultLimits()
		limits.InitialRebalanceDelay = 0
		j := &journal{shards: map[int32][]coordinator.Record{}}
		n := 0
		c := New(j, Options{
			Shards: func() int32 { return testShards }, Topics: func() TopicResolver { return known }, Limits: func() Limits { return limits },
			Runtime: coordinator.Options{Workers: 1, WaitingMax: 1},
			NewID:   func() string { n++; return fmt.Sprint(n) },
		})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- c.Run(ctx) }()
		for shard := range int32(testShards - 1) {
			c.Load(shard, coordinator.Snapshot{})
		}
		synctest.Wait()
		fn(t, c, j)
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

// groupIn returns the n-th group id whose shard is the given one.
func groupIn(shard int32, n int) string {
	for i := 0; ; i++ {
		if id := fmt.Sprint("group", i); ShardOf(id, testShards) == shard {
			if n--; n < 0 {
				return id
			}
		}
	}
}

// call waits for the answer to one request.
func call[Req, Resp any](t *testing.T, fn func(*Req, func(*Resp)), req *Req) *Resp {
	t.Helper()
	got := make(chan *Resp, 2)
	fn(req, func(resp *Resp) { got <- resp })
	synctest.Wait()
	if len(got) != 1 {
		t.Fatalf("%T: %d answers, want 1", req, len(got))
	}
	return <-got
}

func (c *Coordinator) join(t *testing.T, s joinSpec) *kmsg.JoinGroupResponse {
	t.Helper()
	return call(t, func(req *kmsg.JoinGroupRequest, reply func(*kmsg.JoinGroupResponse)) {
		c.JoinGroup(req, Client{ID: "c", Host: "/127.0.0.1"}, reply)
	}, s.withDefaults().request())
}

func (c *Coordinator) sync(req *kmsg.SyncGroupRequest, reply func(*kmsg.SyncGroupResponse)) {
	c.SyncGroup(req, func() {}, reply)
}

// TestStalledJournal: while as much waits to be committed as may, what a client can have written again and again is refused; what needs no
// record is answered.
func TestStalledJournal(t *testing.T) {
	inCoordinator(t, func(t *testing.T, c *Coordinator, j *journal) {
		id := groupIn(1, 0)
		joined := c.join(t, joinSpec{group: id, version: 3})
		sync := &kmsg.SyncGroupRequest{Version: 3, Group: id, MemberID: joined.MemberID, Generation: 1}
		sync.GroupAssignment = []kmsg.SyncGroupRequestGroupAssignment{{MemberID: joined.MemberID, MemberAssignment: []byte{1}}}
		commit := commitOf(id, joined.MemberID, 1, "t", 0, 5)
		static := joinSpec{group: groupIn(1, 1), version: 5, instance: ptr("static")}
		code := func() []int16 {
			return []int16{
				call(t, c.sync, sync).ErrorCode, call(t, c.OffsetCommit, commit).Topics[0].Partitions[0].ErrorCode, c.join(t, static).ErrorCode,
			}
		}
		j.hold = true
		other := commitOf(groupIn(2, 0), "", -1, "t", 0, 5)
		waiting := make(chan *kmsg.OffsetCommitResponse, 1)
		c.OffsetCommit(other, func(resp *kmsg.OffsetCommitResponse) { waiting <- resp })
		synctest.Wait()
		refused := int16(protocol.CodeCoordinatorNotAvailable)
		if got := code(); !slices.Equal(got, []int16{refused, refused, refused}) || len(j.shards[1]) != 0 {
			t.Errorf("sync, commit and static join: codes %v with %d records, want %d and none", got, len(j.shards[1]), refused)
		}
		beat := &kmsg.HeartbeatRequest{Group: id, MemberID: joined.MemberID, Generation: 1}
		wantCode(t, "heartbeat", call(t, c.Heartbeat, beat).ErrorCode, protocol.CodeNone)
		wantCode(t, "another's join", c.join(t, joinSpec{group: groupIn(1, 2), version: 3}).ErrorCode, protocol.CodeNone)
		j.hold = false
		j.held[0]()
		synctest.Wait()
		wantCode(t, "what waited", (<-waiting).Topics[0].Partitions[0].ErrorCode, protocol.CodeNone)
		if got := code(); !slices.Equal(got, []int16{0, 0, 0}) || len(j.shards[1]) != 2 {
			t.Errorf("sync, commit and static join: codes %v with %d records, want 0 and 2", got, len(j.shards[1]))
		}
	})
}

func TestCoordinatorServesAGroup(t *testing.T) {
	inCoordinator(t, func(t *testing.T, c *Coordinator, j *journal) {
		id := groupIn(1, 0)
		joined := c.join(t, joinSpec{group: id, version: 3})
		wantCode(t, "join", joined.ErrorCode, protocol.CodeNone)
		sync := &kmsg.SyncGroupRequest{Version: 5, Group: id, MemberID: joined.MemberID, Generation: 1}
		wantCode(t, "sync without protocol", call(t, c.sync, sync).ErrorCode, protocol.CodeInconsistentGroupProtocol)
		sync.ProtocolType, sync.Protocol = ptr("consumer"), ptr("range")
		wantCode(t, "sync", call(t, c.sync, sync).ErrorCode, protocol.CodeNone)
		beat := &kmsg.HeartbeatRequest{Group: id, MemberID: joined.MemberID, Generation: 1}
		wantCode(t, "heartbeat", call(t, c.Heartbeat, beat).ErrorCode, protocol.CodeNone)
		<-time.After(9 * time.Second)

		snapshot, err := c.Snapshot(t.Context(), 1)
		if err != nil || snapshot.Offset != 1 {
			t.Fatalf("Snapshot: %+v, %v", snapshot, err)
		}
		c.Unload(1)
		wantCode(t, "heartbeat, moved", call(t, c.Heartbeat, beat).ErrorCode, protocol.CodeNotCoordinator)
		j.block = make(chan struct{})
		c.Load(1, snapshot)
		wantCode(t, "heartbeat, loading", call(t, c.Heartbeat, beat).ErrorCode, protocol.CodeNone)
		wantCode(t, "sync, loading", call(t, c.sync, sync).ErrorCode, protocol.CodeRebalanceInProgress)
		wantCode(t, "join, loading", c.join(t, joinSpec{group: id}).ErrorCode, protocol.CodeCoordinatorLoadInProgress)
		close(j.block)
		synctest.Wait()
		wantCode(t, "heartbeat, loaded", call(t, c.Heartbeat, beat).ErrorCode, protocol.CodeNone)
		<-time.After(11 * time.Second)
		wantCode(t, "heartbeat, expired", call(t, c.Heartbeat, beat).ErrorCode, protocol.CodeUnknownMemberID)
		leave := &kmsg.LeaveGroupRequest{Group: id, MemberID: "x"}
		wantCode(t, "leave v0", call(t, c.LeaveGroup, leave).ErrorCode, protocol.CodeUnknownMemberID)
	})
}

func TestCoordinatorAfterAFailedAppend(t *testing.T) {
	inCoordinator(t, func(t *testing.T, c *Coordinator, j *journal) {
		id := groupIn(1, 0)
		j.err = coordinator.ErrFenced
		resp := call(t, c.OffsetCommit, commitOf(id, "", -1, "t", 0, 5))
		wantCode(t, "commit", resp.Topics[0].Partitions[0].ErrorCode, protocol.CodeNotCoordinator)
		wantCode(t, "join", c.join(t, joinSpec{group: id}).ErrorCode, protocol.CodeNotCoordinator)
	})
}

func TestEmptyGroupIDs(t *testing.T) {
	inCoordinator(t, func(t *testing.T, c *Coordinator, _ *journal) {
		want := protocol.CodeInvalidGroupID
		s := joinSpec{}.withDefaults()
		s.group = ""
		join := call(t, func(req *kmsg.JoinGroupRequest, reply func(*kmsg.JoinGroupResponse)) {
			c.JoinGroup(req, Client{}, reply)
		}, s.request())
		wantCode(t, "join", join.ErrorCode, want)
		wantCode(t, "sync", call(t, c.sync, &kmsg.SyncGroupRequest{}).ErrorCode, want)
		wantCode(t, "heartbeat", call(t, c.Heartbeat, &kmsg.HeartbeatRequest{}).ErrorCode, want)
		wantCode(t, "leave", call(t, c.LeaveGroup, &kmsg.LeaveGroupRequest{}).ErrorCode, want)
		remove := &kmsg.OffsetDeleteRequest{Topics: []kmsg.OffsetDeleteRequestTopic{
			{Topic: "t", Partitions: []kmsg.OffsetDeleteRequestTopicPartition{{Partition: 0}}},
		}}
		wantCode(t, "offset delete", call(t, c.OffsetDelete, remove).ErrorCode, want)
		resp := call(t, c.OffsetCommit, commitOf("", "", -1, "t", 0, 5))
		wantCode(t, "commit", resp.Topics[0].Partitions[0].ErrorCode, protocol.CodeNone)
		fetch := call(t, c.OffsetFetch, &kmsg.OffsetFetchRequest{Version: 7})
		if len(fetch.Topics) != 1 || fetch.Topics[0].Partitions[0].Offset != 5 {
			t.Errorf("fetch: %+v", fetch.Topics)
		}
	})
}

func TestGroupIDThatNoRecordHolds(t *testing.T) {
	inCoordinator(t, func(t *testing.T, c *Coordinator, _ *journal) {
		long := strings.Repeat("g", 1<<15)
		wantCode(t, "join", c.join(t, joinSpec{group: long}).ErrorCode, protocol.CodeInvalidGroupID)
		resp := call(t, c.OffsetCommit, commitOf(long, "", -1, "t", 0, 5))
		wantCode(t, "commit", resp.Topics[0].Partitions[0].ErrorCode, protocol.CodeInvalidGroupID)
	})
}

func TestRequestsOverManyShards(t *testing.T) {
	inCoordinator(t, func(t *testing.T, c *Coordinator, _ *journal) {
		a, b, away := groupIn(0, 0), groupIn(2, 0), groupIn(testShards-1, 0)
		for i, id := range []string{a, b} {
			call(t, c.OffsetCommit, commitOf(id, "", -1, "t", 0, int64(i)))
		}
		ids := []string{b, a, away, a, "nope" + a}

		fetch := &kmsg.OffsetFetchRequest{Version: 8}
		for _, id := range ids {
			fetch.Groups = append(fetch.Groups, kmsg.OffsetFetchRequestGroup{Group: id})
		}
		var got []string
		for _, g := range call(t, c.OffsetFetch, fetch).Groups {
			got = append(got, fmt.Sprint(g.Group, ":", g.ErrorCode, ":", len(g.Topics)))
		}
		var described []string
		for _, g := range call(t, c.DescribeGroups, &kmsg.DescribeGroupsRequest{Groups: ids}).Groups {
			described = append(described, fmt.Sprint(g.Group, ":", g.ErrorCode, ":", g.State))
		}
		var listed []string
		for _, g := range call(t, c.ListGroups, &kmsg.ListGroupsRequest{Version: 5}).Groups {
			listed = append(listed, g.Group)
		}
		var deleted []string
		for _, g := range call(t, c.DeleteGroups, &kmsg.DeleteGroupsRequest{Groups: ids}).Groups {
			deleted = append(deleted, fmt.Sprint(g.Group, ":", g.ErrorCode))
		}
		nope := "nope" + a
		nopeCode := 0
		if ShardOf(nope, testShards) == testShards-1 {
			nopeCode = 16
		}
		want := map[string][2]string{
			"fetch":    {strings.Join(got, " "), fmt.Sprintf("%s:0:1 %s:0:1 %s:16:0 %s:%d:0", b, a, away, nope, nopeCode)},
			"describe": {strings.Join(described, " "), fmt.Sprintf("%s:0:Empty %s:0:Empty %s:16: %s:0:Dead", b, a, away, nope)},
			"list":     {strings.Join(listed, " "), a + " " + b},
			"delete":   {strings.Join(deleted, " "), fmt.Sprintf("%s:0 %s:0 %s:16 %s:69", b, a, away, nope)},
		}
		for name, w := range want {
			if w[0] != w[1] {
				t.Errorf("%s: got %s, want %s", name, w[0], w[1])
			}
		}
	})
}

func TestListWhileLoading(t *testing.T) {
	inCoordinator(t, func(t *testing.T, c *Coordinator, j *journal) {
		j.block = make(chan struct{})
		c.Load(testShards-1, coordinator.Snapshot{})
		wantCode(t, "list", call(t, c.ListGroups, &kmsg.ListGroupsRequest{}).ErrorCode, protocol.CodeCoordinatorLoadInProgress)
		close(j.block)
		synctest.Wait()
		wantCode(t, "list", call(t, c.ListGroups, &kmsg.ListGroupsRequest{}).ErrorCode, protocol.CodeNone)
	})
}

func TestOnTopicDeleted(t *testing.T) {
	inCoordinator(t, func(t *testing.T, c *Coordinator, _ *journal) {
		for shard := range int32(testShards - 1) {
			call(t, c.OffsetCommit, commitOf(groupIn(shard, 0), "", -1, "t", 0, 5))
		}
		c.OnTopicDeleted("t", protocol.TopicID{1})
		synctest.Wait()
		if got := call(t, c.ListGroups, &kmsg.ListGroupsRequest{}).Groups; len(got) != 0 {
			t.Errorf("left: %+v", got)
		}
	})
}

// Requests that name one thing a million times cost no more than their size.
func TestRepetitionsStayLinear(t *testing.T) {
	inCoordinator(t, func(t *testing.T, c *Coordinator, _ *journal) {
		const n = 200_000
		id := groupIn(0, 0)
		call(t, c.OffsetCommit, commitOf(id, "", -1, "t", 0, 5))
		ids := make([]string, n)
		fetch := &kmsg.OffsetFetchRequest{Version: 8, Groups: make([]kmsg.OffsetFetchRequestGroup, n)}
		leave := &kmsg.LeaveGroupRequest{Version: 3, Group: id, Members: make([]kmsg.LeaveGroupRequestMember, n)}
		for i := range n {
			ids[i] = id
			fetch.Groups[i].Group = id
			leave.Members[i].MemberID = "m"
		}
		if got := len(call(t, c.DescribeGroups, &kmsg.DescribeGroupsRequest{Groups: ids}).Groups); got != 1 {
			t.Errorf("described %d times", got)
		}
		if got := len(call(t, c.OffsetFetch, fetch).Groups); got != 1 {
			t.Errorf("fetched %d times", got)
		}
		if got := len(call(t, c.LeaveGroup, leave).Members); got != n {
			t.Errorf("%d members left, want %d", got, n)
		}
	})
}
