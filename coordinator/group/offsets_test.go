package group

import (
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/protocol"
)

func TestG11_CommitInEachState(t *testing.T) {
	b := newBench(t)
	wantCode(t, "simple, no group", b.commit("", -1, 1), protocol.CodeNone)
	wantCode(t, "generation 0, empty group", b.commit("x", 0, 1), protocol.CodeUnknownMemberID)
	leader, follower, generation := b.stable()
	wantCode(t, "stable", b.commit(leader, generation, 2), protocol.CodeNone)
	wantCode(t, "simple, members", b.commit("", -1, 9), protocol.CodeUnknownMemberID)
	wantCode(t, "known member, generation -1", b.commit(leader, -1, 9), protocol.CodeIllegalGeneration)
	wantCode(t, "wrong generation", b.commit(leader, generation-1, 9), protocol.CodeIllegalGeneration)
	b.join(joinSpec{client: "a", member: leader})
	wantCode(t, "preparing", b.commit(follower, generation, 3), protocol.CodeNone)
	b.join(joinSpec{client: "b", member: follower})
	wantCode(t, "completing", b.commit(follower, generation+1, 9), protocol.CodeRebalanceInProgress)
	if got := b.fetch("g", "t", 0); got != 3 {
		t.Errorf("offset %d, want 3", got)
	}
	b.leave(kmsg.LeaveGroupRequestMember{MemberID: leader}, kmsg.LeaveGroupRequestMember{MemberID: follower})
	wantCode(t, "empty", b.commit("", -1, 4), protocol.CodeNone)
}

func TestG11_GroupMissing(t *testing.T) {
	for version, want := range map[int16]protocol.ErrorCode{8: protocol.CodeIllegalGeneration, 9: protocol.CodeGroupIDNotFound} {
		b := newBench(t)
		req := commitOf("g", "m", 1, "t", 0, 1)
		req.Version = version
		wantCode(t, "commit", b.commitRequest(req).Topics[0].Partitions[0].ErrorCode, want)
	}
}

func TestG11_CommitRefreshesSession(t *testing.T) {
	b := newBench(t)
	leader, _, generation := b.stable()
	b.advance(9 * time.Second)
	b.commit(leader, generation, 1)
	b.advance(2 * time.Second)
	wantCode(t, "heartbeat", b.heartbeat(leader, generation, nil), protocol.CodeRebalanceInProgress)
}

func TestG11_PartitionErrors(t *testing.T) {
	b := newBench(t)
	req := commitOf("g", "", -1, "t", 0, 5)
	add := func(topic string, partition int32, metadata string) {
		more := commitOf("g", "", -1, topic, partition, 5).Topics[0]
		more.Partitions[0].Metadata = &metadata
		req.Topics = append(req.Topics, more)
	}
	add("t", 4, "")
	add("nope", 0, "")
	add("t", 1, strings.Repeat("x", 4097))
	add("t", 2, strings.Repeat("é", 4096)) // UTF-16 units count, not bytes
	add("t", 3, strings.Repeat("😀", 2049))
	add("t", 0, "last wins")
	want := []protocol.ErrorCode{0, 3, 3, 12, 0, 12, 0}
	for i, topic := range b.commitRequest(req).Topics {
		wantCode(t, "partition", topic.Partitions[0].ErrorCode, want[i])
	}
	if got := b.machine.groups["g"].offsets["t"][0].metadata; got != "last wins" {
		t.Errorf("metadata %q", got)
	}
}

func TestG11_UnknownPartitionsDoNotMakeAGroup(t *testing.T) {
	b := newBench(t)
	resp := b.commitRequest(commitOf("g", "m", 3, "nope", 0, 1))
	wantCode(t, "commit", resp.Topics[0].Partitions[0].ErrorCode, protocol.CodeUnknownTopicOrPartition)
	if len(b.machine.groups) != 0 {
		t.Error("there is a group")
	}
}

func TestG11_TopicIDs(t *testing.T) {
	b := newBench(t)
	req := commitOf("g", "", -1, "", 0, 5)
	req.Version = 10
	req.Topics[0].TopicID = [16]byte{9}
	wantCode(t, "unknown id", b.commitRequest(req).Topics[0].Partitions[0].ErrorCode, protocol.CodeUnknownTopicID)
	req.Topics[0].TopicID = [16]byte{1}
	wantCode(t, "known id", b.commitRequest(req).Topics[0].Partitions[0].ErrorCode, protocol.CodeNone)
	if got := b.fetch("g", "t", 0); got != 5 {
		t.Errorf("offset %d, want 5", got)
	}
}

func TestG11_TooManyOffsets(t *testing.T) {
	b := newBench(t)
	b.limits.OffsetMetadataMax = recordBytesMax
	req := commitOf("g", "", -1, "t", 0, 5)
	req.Topics[0].Partitions[0].Metadata = ptr(strings.Repeat("x", recordBytesMax))
	wantCode(t, "commit", b.commitRequest(req).Topics[0].Partitions[0].ErrorCode, protocol.CodeInvalidCommitOffsetSize)
	if len(b.machine.groups) != 0 {
		t.Error("something was stored")
	}
}

func TestG12_Fetch(t *testing.T) {
	b := newBench(t)
	if got := b.fetch("nope", "t", 0); got != -1 {
		t.Errorf("unknown group: %d, want -1", got)
	}
	req := commitOf("g", "", -1, "t", 0, 5)
	req.Topics[0].Partitions[0].LeaderEpoch = 3
	b.commitRequest(req)
	b.commitRequest(commitOf("g", "", -1, "u", 1, -2))
	var all kmsg.OffsetFetchResponseGroup
	b.step(func(m *machine) {
		all = m.fetchOffsets(&kmsg.OffsetFetchRequestGroup{Group: "g"}, false, toldOffsets{})
	})
	if len(all.Topics) != 2 || all.Topics[0].Partitions[0].LeaderEpoch != 3 || all.Topics[1].Partitions[0].Offset != -2 {
		t.Errorf("all offsets: %+v", all.Topics)
	}
	byID := &kmsg.OffsetFetchRequestGroup{Group: "g", Topics: []kmsg.OffsetFetchRequestGroupTopic{
		{TopicID: [16]byte{9}, Partitions: []int32{0}}, {TopicID: [16]byte{1}, Partitions: []int32{0, 1}},
	}}
	b.step(func(m *machine) { all = m.fetchOffsets(byID, true, toldOffsets{}) })
	wantCode(t, "unknown id", all.Topics[0].Partitions[0].ErrorCode, protocol.CodeUnknownTopicID)
	if got := all.Topics[1].Partitions; got[0].Offset != 5 || got[1].Offset != -1 || *got[1].Metadata != "" {
		t.Errorf("by id: %+v", got)
	}
}

func TestG12_RecreatedTopicHasNoOffset(t *testing.T) {
	b := newBench(t)
	b.commit("", -1, 5)
	b.topics.add("t", 7, 4)
	if got := b.fetch("g", "t", 0); got != -1 {
		t.Errorf("offset %d, want -1", got)
	}
}

func TestTopicDeletedRemovesOffsets(t *testing.T) {
	b := newBench(t)
	b.commitRequest(commitOf("g", "", -1, "t", 0, 5))
	b.commitRequest(commitOf("g", "", -1, "u", 0, 6))
	b.commitRequest(commitOf("h", "", -1, "t", 0, 7))
	b.step(func(m *machine) { m.deleteTopic("t", protocol.TopicID{1}) })
	if b.fetch("g", "t", 0) != -1 || b.fetch("g", "u", 0) != 6 || b.machine.groups["h"] != nil {
		t.Errorf("left: %v", dump(b.machine))
	}
	b.topics.add("t", 7, 4)
	b.commit("", -1, 8)
	b.step(func(m *machine) { m.deleteTopic("t", protocol.TopicID{1}) })
	if got := b.fetch("g", "t", 0); got != 8 {
		t.Errorf("offset of the new topic %d, want 8", got)
	}
}

func TestG15_DeleteGroups(t *testing.T) {
	b := newBench(t)
	leader, follower, generation := b.stable()
	b.commit(leader, generation, 5)
	b.commitRequest(commitOf("h", "", -1, "t", 0, 5))
	remove := func() (codes []protocol.ErrorCode) {
		b.step(func(m *machine) { codes = m.deleteGroups([]string{"g", "h", "nope"}) })
		return codes
	}
	got := remove()
	wantCode(t, "stable", got[0], protocol.CodeNonEmptyGroup)
	wantCode(t, "simple", got[1], protocol.CodeNone)
	wantCode(t, "absent", got[2], protocol.CodeGroupIDNotFound)
	b.leave(kmsg.LeaveGroupRequestMember{MemberID: leader}, kmsg.LeaveGroupRequestMember{MemberID: follower})
	wantCode(t, "empty", remove()[0], protocol.CodeNone)
	b.restart()
	if len(b.machine.groups) != 0 {
		t.Error("a deleted group came back")
	}
}

func TestG15_Describe(t *testing.T) {
	b := newBench(t)
	describe := func(version int16) (d kmsg.DescribeGroupsResponseGroup) {
		b.step(func(m *machine) { d = m.describe("g", version) })
		return d
	}
	if d := describe(5); d.State != "Dead" || d.ErrorCode != 0 {
		t.Errorf("v5 absent: %+v", d)
	}
	wantCode(t, "v6 absent", describe(6).ErrorCode, protocol.CodeGroupIDNotFound)
	leader, follower, _ := b.stable()
	d := describe(5)
	if d.State != "Stable" || d.Protocol != "range" || d.ProtocolType != "consumer" || len(d.Members) != 2 ||
		string(d.Members[0].MemberAssignment) != "A" || d.Members[1].ClientHost != "/127.0.0.1" {
		t.Errorf("stable: %+v", d)
	}
	b.join(joinSpec{client: "a", member: leader})
	if d = describe(5); d.State != "PreparingRebalance" || d.Protocol != "" || len(d.Members) != 2 || len(d.Members[0].MemberAssignment) != 0 {
		t.Errorf("preparing: %+v", d)
	}
	b.join(joinSpec{client: "b", member: follower})
	if d = describe(5); d.State != "CompletingRebalance" {
		t.Errorf("completing: %+v", d)
	}
}

func TestG15_List(t *testing.T) {
	b := newBench(t)
	b.stable()
	b.commitRequest(commitOf("h", "", -1, "t", 0, 5))
	tests := map[string]struct {
		states, types []string
		want          string
	}{
		"all":         {want: "g:consumer:Stable:classic h::Empty:classic"},
		"state":       {states: []string{"STABLE"}, want: "g:consumer:Stable:classic"},
		"no state":    {states: []string{"Dead"}},
		"type":        {types: []string{"Classic"}, want: "g:consumer:Stable:classic h::Empty:classic"},
		"other type":  {types: []string{"consumer"}},
		"state, type": {states: []string{"empty"}, types: []string{"classic", "share"}, want: "h::Empty:classic"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, g := range b.machine.list(lowerSet(tt.states), lowerSet(tt.types)) {
				got = append(got, strings.Join([]string{g.Group, g.ProtocolType, g.GroupState, g.GroupType}, ":"))
			}
			if s := strings.Join(got, " "); s != tt.want {
				t.Errorf("got %s, want %s", s, tt.want)
			}
		})
	}
}

// subscription is a consumer's metadata, version 0.
func subscription(topics ...string) string {
	m := kmsg.NewConsumerMemberMetadata()
	m.Topics = topics
	return string(m.AppendTo(nil))
}

func TestOffsetDelete(t *testing.T) {
	b := newBench(t)
	remove := func(topic string) *kmsg.OffsetDeleteResponse {
		resp := &kmsg.OffsetDeleteResponse{Topics: []kmsg.OffsetDeleteResponseTopic{{
			Topic: topic, Partitions: []kmsg.OffsetDeleteResponseTopicPartition{{Partition: 0}},
		}}}
		b.step(func(m *machine) { m.deleteOffsets("g", resp) })
		return resp
	}
	wantCode(t, "absent", remove("t").ErrorCode, protocol.CodeGroupIDNotFound)
	b.commit("", -1, 5)
	b.commitRequest(commitOf("g", "", -1, "u", 0, 6))
	id, j := b.joinDynamic(joinSpec{protocols: []string{"range=" + subscription("t")}})
	b.sync(id, j.get().Generation, nil)
	wantCode(t, "subscribed", remove("t").Topics[0].Partitions[0].ErrorCode, protocol.CodeGroupSubscribedToTopic)
	wantCode(t, "not subscribed", remove("u").Topics[0].Partitions[0].ErrorCode, protocol.CodeNone)
	if b.fetch("g", "t", 0) != 5 || b.fetch("g", "u", 0) != -1 {
		t.Errorf("left: %v", dump(b.machine))
	}
	b.leave(kmsg.LeaveGroupRequestMember{MemberID: id})
	wantCode(t, "empty", remove("t").Topics[0].Partitions[0].ErrorCode, protocol.CodeNone)
	id, j = b.joinDynamic(joinSpec{typ: "connect"})
	b.sync(id, j.get().Generation, nil)
	wantCode(t, "connect", remove("t").ErrorCode, protocol.CodeNonEmptyGroup)
}

func TestG16_Expiry(t *testing.T) {
	const day = 24 * time.Hour
	t.Run("simple", func(t *testing.T) {
		b := newBench(t)
		b.commit("", -1, 5)
		b.advance(7*day - time.Minute)
		if b.fetch("g", "t", 0) != 5 {
			t.Error("expired early")
		}
		b.advance(11 * time.Minute)
		if len(b.machine.groups) != 0 {
			t.Error("not expired")
		}
	})
	t.Run("since empty", func(t *testing.T) {
		b := newBench(t)
		id, j := b.joinDynamic(joinSpec{session: 30 * time.Minute, rebalance: 30 * time.Minute})
		b.sync(id, j.get().Generation, nil)
		b.commit(id, 1, 5)
		b.advance(20 * time.Minute)
		b.leave(kmsg.LeaveGroupRequestMember{MemberID: id})
		b.advance(7*day - time.Minute)
		b.restart()
		if b.fetch("g", "t", 0) != 5 {
			t.Error("expired early")
		}
		b.advance(21 * time.Minute)
		if len(b.machine.groups) != 0 {
			t.Error("not expired")
		}
	})
	t.Run("stable keeps what is subscribed", func(t *testing.T) {
		b := newBench(t)
		b.limits.OffsetsRetention = 15 * time.Minute
		b.commitRequest(commitOf("g", "", -1, "u", 0, 6))
		id, j := b.joinDynamic(joinSpec{session: 30 * time.Minute, protocols: []string{"range=" + subscription("t")}})
		b.sync(id, j.get().Generation, nil)
		b.commit(id, 1, 5)
		b.advance(25 * time.Minute)
		if b.fetch("g", "t", 0) != 5 || b.fetch("g", "u", 0) != -1 || b.state() != "Stable" {
			t.Errorf("left: %v", dump(b.machine))
		}
	})
	t.Run("explicit retention", func(t *testing.T) {
		b := newBench(t)
		req := commitOf("g", "", -1, "t", 0, 5)
		req.Version, req.RetentionTimeMillis = 4, 60_000
		b.commitRequest(req)
		live := b.machine.groups["g"].offsets["t"][0]
		b.restart()
		if got := b.machine.groups["g"].offsets["t"][0]; got != live {
			t.Errorf("offset after restart %+v, want %+v", got, live)
		}
		b.advance(11 * time.Minute)
		if len(b.machine.groups) != 0 {
			t.Error("not expired")
		}
	})
}

// A subscription that cannot be read may be to any topic.
func TestG16_UnknownSubscriptionProtects(t *testing.T) {
	b := newBench(t)
	b.limits.OffsetsRetention = time.Minute
	b.commit("", -1, 5)
	id, j := b.joinDynamic(joinSpec{session: 30 * time.Minute, protocols: []string{"range=\x00"}})
	b.sync(id, j.get().Generation, nil)
	b.advance(25 * time.Minute)
	if got := b.fetch("g", "t", 0); got != 5 {
		t.Errorf("offset %d, want 5", got)
	}
	resp := &kmsg.OffsetDeleteResponse{Topics: []kmsg.OffsetDeleteResponseTopic{{
		Topic: "t", Partitions: []kmsg.OffsetDeleteResponseTopicPartition{{Partition: 0}},
	}}}
	b.step(func(m *machine) { m.deleteOffsets("g", resp) })
	wantCode(t, "delete", resp.Topics[0].Partitions[0].ErrorCode, protocol.CodeGroupSubscribedToTopic)
}

func TestG0_EmptyGroupIDHasOffsets(t *testing.T) {
	b := newBench(t)
	b.commitRequest(commitOf("", "", -1, "t", 0, 5))
	if got := b.fetch("", "t", 0); got != 5 {
		t.Errorf("offset %d, want 5", got)
	}
}
