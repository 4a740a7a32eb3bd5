package broker

import (
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/protocol"
)

// TestOffsetsTopicOfAnySize: groups are found when __consumer_offsets has another number of partitions than Kafka's 50,
// and it cannot grow under them.
func TestOffsetsTopicOfAnySize(t *testing.T) {
	b := startBroker(t, "--kafka", "offsets.topic.num.partitions=3", "--kafka", "group.initial.rebalance.delay.ms=0")
	c := dial(t, b.kafka)
	c.createTopic("t", 1)
	for i := range 8 {
		name := fmt.Sprintf("group-%d", i)
		find := kmsg.NewPtrFindCoordinatorRequest()
		find.Version, find.CoordinatorKeys = 4, []string{name}
		wantCode(t, "find "+name, ask[*kmsg.FindCoordinatorResponse](c, find).Coordinators[0].ErrorCode, protocol.CodeNone)
		commit := kmsg.NewPtrOffsetCommitRequest()
		commit.Version, commit.Group, commit.Generation = 8, name, -1
		topic, p := kmsg.NewOffsetCommitRequestTopic(), kmsg.NewOffsetCommitRequestTopicPartition()
		topic.Topic, p.Offset, p.LeaderEpoch = "t", int64(i), -1
		topic.Partitions = append(topic.Partitions, p)
		commit.Topics = append(commit.Topics, topic)
		waitFor(t, "the shard of "+name, func() bool {
			code := ask[*kmsg.OffsetCommitResponse](c, commit).Topics[0].Partitions[0].ErrorCode
			if code != 0 && protocol.ErrorCode(code) != protocol.CodeCoordinatorLoadInProgress {
				t.Fatalf("commit of %s: %v", name, protocol.ErrorCode(code))
			}
			return code == 0
		})
	}
	grow := kmsg.NewPtrCreatePartitionsRequest()
	grow.Version, grow.TimeoutMillis = 3, 10_000
	more := kmsg.NewCreatePartitionsRequestTopic()
	more.Topic, more.Count = offsetsTopic, 10
	grow.Topics = append(grow.Topics, more)
	wantCode(t, "grow", ask[*kmsg.CreatePartitionsResponse](c, grow).Topics[0].ErrorCode, protocol.CodePolicyViolation)
}
