package rawdriver

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// CreateTopic creates a topic unless it is there, and waits until the broker leads its partitions.
func CreateTopic(ctx context.Context, addr, topic string, partitions int) error {
	return CreateTopicWith(ctx, addr, topic, partitions, nil)
}

// CreateTopicWith is CreateTopic with settings of the topic.
func CreateTopicWith(ctx context.Context, addr, topic string, partitions int, configs map[string]string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	nc, err := dial(ctx, addr)
	if err != nil {
		return err
	}
	defer nc.Close()
	req := kmsg.NewPtrCreateTopicsRequest()
	req.Version, req.TimeoutMillis = 5, 30_000
	t := kmsg.NewCreateTopicsRequestTopic()
	t.Topic, t.NumPartitions, t.ReplicationFactor = topic, int32(partitions), 1
	for name, value := range configs {
		c := kmsg.NewCreateTopicsRequestTopicConfig()
		c.Name, c.Value = name, &value
		t.Configs = append(t.Configs, c)
	}
	req.Topics = append(req.Topics, t)
	resp, err := roundTrip(nc, req)
	if err != nil {
		return fmt.Errorf("create topic %s: %w", topic, err)
	}
	const exists = 36
	if code := resp.(*kmsg.CreateTopicsResponse).Topics[0].ErrorCode; code != 0 && code != exists {
		return fmt.Errorf("create topic %s: error code %d", topic, code)
	}
	for {
		ready, err := led(nc, topic, partitions)
		if err == nil && ready {
			ready, err = leading(nc, topic, partitions)
		}
		if err != nil || ready {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("topic %s has no leader: %w", topic, ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func led(nc net.Conn, topic string, partitions int) (bool, error) {
	req := kmsg.NewPtrMetadataRequest()
	req.Version = 9
	t := kmsg.NewMetadataRequestTopic()
	t.Topic = &topic
	req.Topics = append(req.Topics, t)
	resp, err := roundTrip(nc, req)
	if err != nil {
		return false, err
	}
	got := resp.(*kmsg.MetadataResponse).Topics
	if len(got) != 1 || got[0].ErrorCode != 0 || len(got[0].Partitions) < partitions {
		return false, nil
	}
	for _, p := range got[0].Partitions {
		if p.ErrorCode != 0 || p.Leader < 0 {
			return false, nil
		}
	}
	return true, nil
}

// leading asks the partitions themselves: a broker may be told of its leadership after the others.
func leading(nc net.Conn, topic string, partitions int) (bool, error) {
	req := kmsg.NewPtrListOffsetsRequest()
	req.Version, req.ReplicaID = 6, -1
	t := kmsg.NewListOffsetsRequestTopic()
	t.Topic = topic
	for i := range partitions {
		p := kmsg.NewListOffsetsRequestTopicPartition()
		p.Partition, p.Timestamp, p.CurrentLeaderEpoch = int32(i), -1, -1
		t.Partitions = append(t.Partitions, p)
	}
	req.Topics = append(req.Topics, t)
	resp, err := roundTrip(nc, req)
	if err != nil {
		return false, fmt.Errorf("list offsets: %w", err)
	}
	for _, p := range resp.(*kmsg.ListOffsetsResponse).Topics[0].Partitions {
		if p.ErrorCode != 0 {
			return false, nil
		}
	}
	return true, nil
}

// AlterTopic changes one setting of a topic.
func AlterTopic(ctx context.Context, addr, topic, name, value string) error {
	nc, err := dial(ctx, addr)
	if err != nil {
		return err
	}
	defer nc.Close()
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	r := kmsg.NewIncrementalAlterConfigsRequestResource()
	r.ResourceType, r.ResourceName = kmsg.ConfigResourceTypeTopic, topic
	c := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
	c.Name, c.Op, c.Value = name, kmsg.IncrementalAlterConfigOpSet, &value
	r.Configs = append(r.Configs, c)
	req.Resources = append(req.Resources, r)
	resp, err := roundTrip(nc, req)
	if err != nil {
		return fmt.Errorf("alter topic %s: %w", topic, err)
	}
	if got := resp.(*kmsg.IncrementalAlterConfigsResponse).Resources[0]; got.ErrorCode != 0 {
		return fmt.Errorf("alter topic %s: %s=%s: error code %d", topic, name, value, got.ErrorCode)
	}
	return nil
}
