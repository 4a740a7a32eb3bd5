package conformance

import (
	"fmt"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/protocol"
)

// TestG11: who may commit, in each state of a group.
func TestG11(t *testing.T) {
	c, n := begin(t)
	c.CreateTopic(n("t"), 1)
	m := alone(t, n("g"))
	WantCode(t, "while assignments are awaited", m.commit(8, n("t")), protocol.CodeRebalanceInProgress)
	m.sync(map[string]string{m.id: "mine"})
	WantCode(t, "a member", m.commit(8, n("t")), protocol.CodeNone)
	m.generation = 9
	WantCode(t, "another generation", m.commit(8, n("t")), protocol.CodeIllegalGeneration)
	m.generation = -1
	WantCode(t, "a member without generation (3.13)", m.commit(8, n("t")), protocol.CodeIllegalGeneration)
	m.generation = 1
	WantCode(t, "nobody, beside members", Committed(c, n("g"), n("t"), 1), protocol.CodeUnknownMemberID)

	second := newMember(t, n("g")).ask()
	second.join()
	m.awaitRebalance()
	WantCode(t, "while members join", m.commit(8, n("t")), protocol.CodeNone)
	m.join()
	m.joined()
	second.joined()
	m.leave(second.id, m.id)
	WantCode(t, "nobody, in an empty group", Committed(c, n("g"), n("t"), 2), protocol.CodeNone)

	absent := newMember(t, n("absent"))
	absent.id, absent.generation = "nobody", 1
	WantCode(t, "a group that is not there, v9", absent.commit(9, n("t")), protocol.CodeGroupIDNotFound)
	WantCode(t, "a group that is not there, v8", absent.commit(8, n("t")), protocol.CodeIllegalGeneration)
}

// TestG11Partitions: each partition of a commit has its own answer.
func TestG11Partitions(t *testing.T) {
	c, n := begin(t)
	c.CreateTopic(n("t"), 2)
	WantCode(t, "commit", Committed(c, n("g"), n("t"), 5), protocol.CodeNone)
	req := CommitRequest(n("g"), n("t"), 6)
	long := strings.Repeat("m", 4097)
	tooLong := kmsg.NewOffsetCommitRequestTopicPartition()
	tooLong.Partition, tooLong.Offset, tooLong.Metadata = 1, 6, &long
	beyond := kmsg.NewOffsetCommitRequestTopicPartition()
	beyond.Partition, beyond.Offset = 9, 6
	req.Topics[0].Partitions = append(req.Topics[0].Partitions, tooLong, beyond)
	req.Topics = append(req.Topics, CommitRequest(n("g"), n("nope"), 6).Topics...)
	want := map[string]protocol.ErrorCode{
		n("t-0"): protocol.CodeNone, n("t-1"): protocol.CodeOffsetMetadataTooLarge,
		n("t-9"): protocol.CodeUnknownTopicOrPartition, n("nope-0"): protocol.CodeUnknownTopicOrPartition,
	}
	for _, topic := range Ask[*kmsg.OffsetCommitResponse](c, req).Topics {
		for _, p := range topic.Partitions {
			name := fmt.Sprintf("%s-%d", topic.Topic, p.Partition)
			WantCode(t, name, p.ErrorCode, want[name])
		}
	}
	if got := CommittedOffset(c, n("g"), n("t")); got != 6 {
		t.Errorf("offset %d beside refused ones, want 6", got)
	}
	t.Run("3.13 a commit of unknown partitions alone makes no group", func(t *testing.T) {
		WantCode(t, "commit", Committed(c, n("none"), n("nope"), 1), protocol.CodeUnknownTopicOrPartition)
		req := kmsg.NewPtrDescribeGroupsRequest()
		req.Version, req.Groups = 6, []string{n("none")}
		WantCode(t, "describe", Ask[*kmsg.DescribeGroupsResponse](c, req).Groups[0].ErrorCode, protocol.CodeGroupIDNotFound)
	})
}

// TestG12: what was not committed is -1 and no error, for a group that is not there too.
func TestG12(t *testing.T) {
	c, n := begin(t)
	id := c.CreateTopic(n("t"), 2)
	commit := CommitRequest(n("g"), n("t"), 5)
	commit.Topics[0].Partitions[0].LeaderEpoch, commit.Topics[0].Partitions[0].Metadata = 3, kmsg.StringPtr("note")
	WantCode(t, "commit", Committed(c, n("g"), n("t"), 5), protocol.CodeNone)
	WantCode(t, "commit", Ask[*kmsg.OffsetCommitResponse](c, commit).Topics[0].Partitions[0].ErrorCode, protocol.CodeNone)
	for version := int16(1); version <= 7; version++ {
		for _, group := range []string{n("g"), n("nobody")} {
			req := kmsg.NewPtrOffsetFetchRequest()
			req.Version, req.Group, req.RequireStable = version, group, version >= 7
			req.Topics = []kmsg.OffsetFetchRequestTopic{{Topic: n("t"), Partitions: []int32{0, 1}}, {Topic: n("nope"), Partitions: []int32{0}}}
			resp := Ask[*kmsg.OffsetFetchResponse](c, req)
			WantCode(t, "top level", resp.ErrorCode, protocol.CodeNone)
			got := ""
			for _, topic := range resp.Topics {
				for _, p := range topic.Partitions {
					got += fmt.Sprintf("%d/%d/%s/%d ", p.Offset, p.LeaderEpoch, *p.Metadata, p.ErrorCode)
				}
			}
			want := "-1/-1//0 -1/-1//0 -1/-1//0 "
			if group == n("g") {
				epoch := 3
				if version < 5 {
					epoch = -1
				}
				want = fmt.Sprintf("5/%d/note/0 -1/-1//0 -1/-1//0 ", epoch)
			}
			if got != want {
				t.Errorf("v%d of %s: %s, want %s", version, group, got, want)
			}
		}
	}
	t.Run("G12 several groups, and all of a group's topics", func(t *testing.T) {
		for version := int16(8); version <= 10; version++ {
			req := kmsg.NewPtrOffsetFetchRequest()
			req.Version = version
			for _, group := range []string{n("g"), n("nobody")} {
				one := kmsg.NewOffsetFetchRequestGroup()
				one.Group = group
				req.Groups = append(req.Groups, one)
			}
			resp := Ask[*kmsg.OffsetFetchResponse](c, req)
			if len(resp.Groups) != 2 || resp.Groups[0].ErrorCode != 0 || resp.Groups[1].ErrorCode != 0 ||
				len(resp.Groups[0].Topics) != 1 || len(resp.Groups[1].Topics) != 0 {
				t.Fatalf("v%d: %+v", version, resp.Groups)
			}
			topic := resp.Groups[0].Topics[0]
			if len(topic.Partitions) != 1 || topic.Partitions[0].Offset != 5 || version < 10 && topic.Topic != n("t") || version == 10 && topic.TopicID != id {
				t.Errorf("v%d: %+v", version, topic)
			}
		}
	})
	t.Run("3.13 an unknown topic id", func(t *testing.T) {
		req := kmsg.NewPtrOffsetFetchRequest()
		req.Version = 10
		one := kmsg.NewOffsetFetchRequestGroup()
		one.Group, one.Topics = n("g"), []kmsg.OffsetFetchRequestGroupTopic{{TopicID: [16]byte{9}, Partitions: []int32{0}}}
		req.Groups = append(req.Groups, one)
		WantCode(t, "fetch", Ask[*kmsg.OffsetFetchResponse](c, req).Groups[0].Topics[0].Partitions[0].ErrorCode, protocol.CodeUnknownTopicID)
	})
	t.Run("3.13 the empty group id", func(t *testing.T) {
		WantCode(t, "commit", Committed(c, "", n("t"), 4), protocol.CodeNone)
		if got := CommittedOffset(c, "", n("t")); got != 4 {
			t.Errorf("offset %d", got)
		}
	})
}
