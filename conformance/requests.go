package conformance

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/protocol"
)

// Positions that ListOffsets takes for a timestamp.
const (
	LatestOffset   = -1
	EarliestOffset = -2
)

// OffsetsTopic is where Kafka keeps groups.
const OffsetsTopic = "__consumer_offsets"

// TopicSpec is a topic to create, with one replica. configs are keys and values in turn.
func TopicSpec(name string, partitions int32, configs ...string) kmsg.CreateTopicsRequestTopic {
	t := kmsg.NewCreateTopicsRequestTopic()
	t.Topic, t.NumPartitions, t.ReplicationFactor = name, partitions, 1
	for i := 0; i < len(configs); i += 2 {
		cfg := kmsg.NewCreateTopicsRequestTopicConfig()
		cfg.Name, cfg.Value = configs[i], &configs[i+1]
		t.Configs = append(t.Configs, cfg)
	}
	return t
}

// CreateRequest creates topics.
func CreateRequest(version int16, topics ...kmsg.CreateTopicsRequestTopic) *kmsg.CreateTopicsRequest {
	req := kmsg.NewPtrCreateTopicsRequest()
	req.Version, req.TimeoutMillis, req.Topics = version, 30_000, topics
	return req
}

// CreateTopic makes a topic, waits until it takes requests (Kafka answers before that) and returns its id.
func (c *Client) CreateTopic(name string, partitions int32, configs ...string) protocol.TopicID {
	c.T.Helper()
	resp := Ask[*kmsg.CreateTopicsResponse](c, CreateRequest(7, TopicSpec(name, partitions, configs...)))
	if code := protocol.ErrorCode(resp.Topics[0].ErrorCode); code != protocol.CodeNone {
		c.T.Fatalf("create %s: %v", name, code)
	}
	id := protocol.TopicID(resp.Topics[0].TopicID)
	for p := range max(partitions, 1) { // of a name that was deleted just now the old topic may be there still
		WaitFor(c.T, "the new "+name, func() bool { return Fetched(c, FetchRequest(13, "", id, p, 0)).ErrorCode == 0 })
	}
	c.Settle(name, partitions)
	return id
}

// Settle waits until every partition of a topic has a leader.
func (c *Client) Settle(topic string, partitions int32) {
	c.T.Helper()
	for p := range max(partitions, 1) {
		WaitFor(c.T, "the leader of "+topic, func() bool { return Listed(c, ListRequest(topic, p, LatestOffset)).ErrorCode == 0 })
	}
}

// DeleteRequest deletes topics by name.
func DeleteRequest(version int16, names ...string) *kmsg.DeleteTopicsRequest {
	req := kmsg.NewPtrDeleteTopicsRequest()
	req.Version, req.TimeoutMillis, req.TopicNames = version, 30_000, names
	for _, name := range names {
		req.Topics = append(req.Topics, kmsg.DeleteTopicsRequestTopic{Topic: &name})
	}
	return req
}

// MetadataRequest asks for topics by name, for none of them without names.
func MetadataRequest(version int16, topics ...string) *kmsg.MetadataRequest {
	req := kmsg.NewPtrMetadataRequest()
	req.Version, req.Topics = version, []kmsg.MetadataRequestTopic{}
	for _, name := range topics {
		t := kmsg.NewMetadataRequestTopic()
		t.Topic = &name
		req.Topics = append(req.Topics, t)
	}
	return req
}

// ProduceRequest carries one partition's records.
func ProduceRequest(version int16, topic string, partition int32, records []byte) *kmsg.ProduceRequest {
	req := kmsg.NewPtrProduceRequest()
	req.Version, req.Acks, req.TimeoutMillis = version, -1, 30_000
	p := kmsg.NewProduceRequestTopicPartition()
	p.Partition, p.Records = partition, records
	t := kmsg.NewProduceRequestTopic()
	t.Topic, t.Partitions = topic, append(t.Partitions, p)
	req.Topics = append(req.Topics, t)
	return req
}

// Produce sends one batch and returns its partition's answer.
func (c *Client) Produce(topic string, partition int32, records []byte) kmsg.ProduceResponseTopicPartition {
	c.T.Helper()
	return Ask[*kmsg.ProduceResponse](c, ProduceRequest(11, topic, partition, records)).Topics[0].Partitions[0]
}

// FetchRequest reads one partition from an offset, without waiting. The id is for versions from 13 on.
func FetchRequest(version int16, topic string, id protocol.TopicID, partition int32, offset int64) *kmsg.FetchRequest {
	req := kmsg.NewPtrFetchRequest()
	req.Version, req.ReplicaID, req.MaxBytes, req.SessionEpoch = version, -1, 50<<20, -1
	p := kmsg.NewFetchRequestTopicPartition()
	p.Partition, p.FetchOffset, p.PartitionMaxBytes, p.CurrentLeaderEpoch = partition, offset, 1<<20, -1
	t := kmsg.NewFetchRequestTopic()
	t.Topic, t.TopicID, t.Partitions = topic, id, append(t.Partitions, p)
	req.Topics = append(req.Topics, t)
	return req
}

// Fetched asks for one partition.
func Fetched(c *Client, req *kmsg.FetchRequest) kmsg.FetchResponseTopicPartition {
	c.T.Helper()
	return Ask[*kmsg.FetchResponse](c, req).Topics[0].Partitions[0]
}

// ListRequest asks where a time, or one of the positions, is in a partition.
func ListRequest(topic string, partition int32, ts int64) *kmsg.ListOffsetsRequest {
	req := kmsg.NewPtrListOffsetsRequest()
	req.Version, req.ReplicaID = 11, -1
	p := kmsg.NewListOffsetsRequestTopicPartition()
	p.Partition, p.Timestamp, p.CurrentLeaderEpoch = partition, ts, -1
	t := kmsg.NewListOffsetsRequestTopic()
	t.Topic, t.Partitions = topic, append(t.Partitions, p)
	req.Topics = append(req.Topics, t)
	return req
}

// Listed asks for one partition.
func Listed(c *Client, req *kmsg.ListOffsetsRequest) kmsg.ListOffsetsResponseTopicPartition {
	c.T.Helper()
	return Ask[*kmsg.ListOffsetsResponse](c, req).Topics[0].Partitions[0]
}

// EpochRequest asks where a leader epoch ends; current is the epoch that the client believes in, -1 for none.
func EpochRequest(version int16, topic string, partition, epoch, current int32) *kmsg.OffsetForLeaderEpochRequest {
	req := kmsg.NewPtrOffsetForLeaderEpochRequest()
	req.Version, req.ReplicaID = version, -1
	p := kmsg.NewOffsetForLeaderEpochRequestTopicPartition()
	p.Partition, p.LeaderEpoch, p.CurrentLeaderEpoch = partition, epoch, current
	req.Topics = []kmsg.OffsetForLeaderEpochRequestTopic{{Topic: topic, Partitions: []kmsg.OffsetForLeaderEpochRequestTopicPartition{p}}}
	return req
}

// DeleteRecordsRequest moves the start of one partition's log.
func DeleteRecordsRequest(topic string, partition int32, offset int64) *kmsg.DeleteRecordsRequest {
	req := kmsg.NewPtrDeleteRecordsRequest()
	req.Version, req.TimeoutMillis = 2, 30_000
	req.Topics = []kmsg.DeleteRecordsRequestTopic{{
		Topic:      topic,
		Partitions: []kmsg.DeleteRecordsRequestTopicPartition{{Partition: partition, Offset: offset}},
	}}
	return req
}

// DeletedRecords moves the start of one partition's log.
func DeletedRecords(c *Client, topic string, partition int32, offset int64) kmsg.DeleteRecordsResponseTopicPartition {
	c.T.Helper()
	return Ask[*kmsg.DeleteRecordsResponse](c, DeleteRecordsRequest(topic, partition, offset)).Topics[0].Partitions[0]
}

// CommitRequest commits an offset of partition 0 for a group without members.
func CommitRequest(group, topic string, offset int64) *kmsg.OffsetCommitRequest {
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Version, req.Group, req.Generation = 8, group, -1
	p := kmsg.NewOffsetCommitRequestTopicPartition()
	p.Offset, p.LeaderEpoch = offset, -1
	req.Topics = []kmsg.OffsetCommitRequestTopic{{Topic: topic, Partitions: []kmsg.OffsetCommitRequestTopicPartition{p}}}
	return req
}

// FindRequest asks for the coordinators of groups.
func FindRequest(groups ...string) *kmsg.FindCoordinatorRequest {
	req := kmsg.NewPtrFindCoordinatorRequest()
	req.Version, req.CoordinatorKeys = 4, groups
	return req
}

// Committed commits an offset of partition 0 for a group without members, once the group's coordinator is there.
func Committed(c *Client, group, topic string, offset int64) int16 {
	c.T.Helper()
	var code int16
	WaitFor(c.T, "the coordinator of "+group, func() bool {
		Ask[*kmsg.FindCoordinatorResponse](c, FindRequest(group))
		code = Ask[*kmsg.OffsetCommitResponse](c, CommitRequest(group, topic, offset)).Topics[0].Partitions[0].ErrorCode
		return code < int16(protocol.CodeCoordinatorLoadInProgress) || code > int16(protocol.CodeNotCoordinator)
	})
	return code
}

// CommittedOffset is the offset of partition 0 that a group committed, -1 when it did not.
func CommittedOffset(c *Client, group, topic string) int64 {
	c.T.Helper()
	req := kmsg.NewPtrOffsetFetchRequest()
	req.Version, req.Group = 7, group
	req.Topics = []kmsg.OffsetFetchRequestTopic{{Topic: topic, Partitions: []int32{0}}}
	return Ask[*kmsg.OffsetFetchResponse](c, req).Topics[0].Partitions[0].Offset
}
