package broker

import (
	"fmt"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/protocol"
)

// TestAdminSeesWhatWasAcknowledged: what one broker has acknowledged the next admin request meets, whichever broker gets it, though its
// image is some milliseconds behind.
func TestAdminSeesWhatWasAcknowledged(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 2)
	a, b := dial(t, c.brokers[0].kafka), dial(t, c.brokers[1].kafka)
	create := func(cl *rawClient, name string) kmsg.CreateTopicsResponseTopic {
		return ask[*kmsg.CreateTopicsResponse](cl, createRequest(7, createSpec(name, 2))).Topics[0]
	}
	remove := func(cl *rawClient, name string) kmsg.DeleteTopicsResponseTopic {
		return ask[*kmsg.DeleteTopicsResponse](cl, deleteRequest(4, name)).Topics[0]
	}
	for i := range 25 {
		name := fmt.Sprint("t.", i)
		wantCode(t, "create", create(a, name).ErrorCode, protocol.CodeNone)
		wantCode(t, "alter what was created", altered(b, kmsg.ConfigResourceTypeTopic, name, alterSet("retention.ms", "1000")), protocol.CodeNone)
		wantCode(t, "alter what was altered", altered(a, kmsg.ConfigResourceTypeTopic, name, alterSet("segment.ms", "1000")), protocol.CodeNone)
		wantCode(t, "delete", remove(a, name).ErrorCode, protocol.CodeNone)
		wantCode(t, "create what was deleted", create(b, name).ErrorCode, protocol.CodeNone)
		wantCode(t, "add partitions to what was created", addPartitions(a, name, 3), protocol.CodeNone)
		wantCode(t, "reassign what was added", reassigned(b, name, 2, 1), protocol.CodeNone)
		wantCode(t, "delete what was created", remove(a, name).ErrorCode, protocol.CodeNone)
		wantCode(t, "create what collides with what was deleted", create(b, fmt.Sprint("t_", i)).ErrorCode, protocol.CodeNone)
		wantCode(t, "delete what was created", remove(a, fmt.Sprint("t_", i)).ErrorCode, protocol.CodeNone)
		created := create(a, name)
		byID := deleteRequest(6)
		topic := kmsg.NewDeleteTopicsRequestTopic()
		topic.TopicID = created.TopicID
		byID.Topics = append(byID.Topics, topic)
		wantCode(t, "delete what was created by its id", ask[*kmsg.DeleteTopicsResponse](b, byID).Topics[0].ErrorCode, protocol.CodeNone)
	}
}

// TestAltersAtOnce: several change different settings of one topic at two brokers, and none is refused.
func TestAltersAtOnce(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 2)
	dial(t, c.brokers[0].kafka).createTopic("t", 1)
	var all sync.WaitGroup
	for k, key := range []string{"retention.ms", "segment.bytes", "retention.bytes", "max.message.bytes"} {
		cl := dial(t, c.brokers[k%2].kafka)
		all.Go(func() {
			for i := range 25 {
				wantCode(t, key, altered(cl, kmsg.ConfigResourceTypeTopic, "t", alterSet(key, fmt.Sprint(2_000_000+i))), protocol.CodeNone)
			}
		})
	}
	all.Wait()
}

// TestUnknownIsAskedForOnce: a request is one read of etcd, however many unknown topics it names, and none when it names only known ones.
func TestUnknownIsAskedForOnce(t *testing.T) {
	c := startCluster(t, 1)
	dial(t, c.brokers[0].kafka).createTopic("t", 1)
	v := c.brokers[0].broker.view()
	var d doubts
	d.known(v, "t")
	d.free(v, "other")
	d.known(v, "not a name")
	d.reaches(v, "t", 0)
	if len(d) != 0 {
		t.Errorf("doubted: %v", d)
	}
	for i := range 1000 {
		d.known(v, fmt.Sprint("absent", i%200))
	}
	if len(d) != 100 {
		t.Errorf("%d are asked for, want 100", len(d))
	}
	if v := c.brokers[0].broker.catchUp(t.Context(), d); len(v.img.Topics) != 1 {
		t.Errorf("topics: %v", v.topicNames())
	}
}

// addPartitions raises the number of a topic's partitions.
func addPartitions(cl *rawClient, name string, to int32) int16 {
	req := kmsg.NewPtrCreatePartitionsRequest()
	req.Version, req.TimeoutMillis = 3, 10_000
	topic := kmsg.NewCreatePartitionsRequestTopic()
	topic.Topic, topic.Count = name, to
	req.Topics = append(req.Topics, topic)
	return ask[*kmsg.CreatePartitionsResponse](cl, req).Topics[0].ErrorCode
}

// reassigned sends a partition to a broker.
func reassigned(cl *rawClient, name string, partition, to int32) int16 {
	req := kmsg.NewPtrAlterPartitionAssignmentsRequest()
	req.Version, req.TimeoutMillis = 0, 10_000
	topic := kmsg.NewAlterPartitionAssignmentsRequestTopic()
	topic.Topic = name
	p := kmsg.NewAlterPartitionAssignmentsRequestTopicPartition()
	p.Partition, p.Replicas = partition, []int32{to}
	topic.Partitions = append(topic.Partitions, p)
	req.Topics = append(req.Topics, topic)
	return ask[*kmsg.AlterPartitionAssignmentsResponse](cl, req).Topics[0].Partitions[0].ErrorCode
}
