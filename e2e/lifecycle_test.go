package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/e2e/harness"
)

const (
	// cleanLimit is for the cleaner, or retention, to have done what it will do.
	cleanLimit = 2 * time.Minute
	// lookLimit is for one look at the broker.
	lookLimit = 30 * time.Second
)

// eager are settings with which the broker cleans as soon as it may. Topics say what is to be cleaned; Kafka waits 30 seconds
// before it looks for the first time.
func eager(more harness.Settings) harness.Settings {
	s := harness.Settings{
		"group.initial.rebalance.delay.ms":              "0",
		"log.initial.task.delay.ms":                     "100",
		"log.retention.check.interval.ms":               "200",
		"log.cleaner.backoff.ms":                        "200",
		"log.cleaner.min.cleanable.ratio":               "0.01",
		"log.flush.start.offset.checkpoint.interval.ms": "500",
	}
	for name, value := range more {
		s[name] = value
	}
	return s
}

// A stored is what is in a partition from its start to its end.
type stored struct {
	start, end int64
	records    []*kgo.Record
	// last is the last record of each key.
	last map[string]*kgo.Record
	// batches are the sizes of the batches as they are kept.
	batches []int32
}

// removed says how many of the records after the log start are no longer there.
func (s *stored) removed() int64 { return s.end - s.start - int64(len(s.records)) }

// readStored reads a partition as Connect and Streams do: until the position, which only batches move, is the end offset. A
// partition whose last batch is gone would let them wait for ever. Batches must ascend and must not overlap.
func readStored(ctx context.Context, client *kgo.Client, topic string, partition int32) (*stored, error) {
	admin := kadm.NewClient(client)
	start, err := offsetOf(admin.ListStartOffsets(ctx, topic))(topic, partition)
	if err != nil {
		return nil, err
	}
	end, err := offsetOf(admin.ListEndOffsets(ctx, topic))(topic, partition)
	if err != nil {
		return nil, err
	}
	topics, err := admin.ListTopicsWithInternal(ctx, topic)
	if err != nil {
		return nil, err
	}
	s := &stored{start: start, end: end, last: map[string]*kgo.Record{}}
	for at := start; at < end; {
		next, err := s.fetch(ctx, client, topics[topic].ID, topic, partition, at)
		if err != nil {
			return nil, err
		}
		if next <= at {
			return nil, fmt.Errorf("%s/%d: nothing moves a reader from offset %d to the end at %d", topic, partition, at, end)
		}
		at = next
	}
	return s, nil
}

// offsetOf looks up one offset of an answer.
func offsetOf(listed kadm.ListedOffsets, err error) func(topic string, partition int32) (int64, error) {
	return func(topic string, partition int32) (int64, error) {
		if err != nil {
			return 0, err
		}
		o, ok := listed.Lookup(topic, partition)
		if !ok {
			return 0, fmt.Errorf("%s/%d: no offset in the answer", topic, partition)
		}
		return o.Offset, o.Err
	}
}

// fetch reads on at an offset and returns the next.
func (s *stored) fetch(ctx context.Context, client *kgo.Client, id kadm.TopicID, topic string, partition int32, at int64) (int64, error) {
	const enough = 8 << 20
	p := kmsg.NewFetchRequestTopicPartition()
	p.Partition, p.FetchOffset, p.PartitionMaxBytes = partition, at, enough
	top := kmsg.NewFetchRequestTopic()
	top.Topic, top.TopicID, top.Partitions = topic, id, []kmsg.FetchRequestTopicPartition{p}
	req := kmsg.NewPtrFetchRequest()
	req.MaxWaitMillis, req.MinBytes, req.MaxBytes, req.Topics = 500, 1, enough, []kmsg.FetchRequestTopic{top}
	resp, err := req.RequestWith(ctx, client)
	if err != nil {
		return 0, err
	}
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
		return 0, err
	}
	if len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
		return 0, fmt.Errorf("%s/%d: answer %+v", topic, partition, resp)
	}
	got := &resp.Topics[0].Partitions[0]
	if err := s.batchSizes(got.RecordBatches, at); err != nil {
		return 0, fmt.Errorf("%s/%d: %w", topic, partition, err)
	}
	fetched, next := kgo.ProcessFetchPartition(kgo.ProcessFetchPartitionOpts{Offset: at, Topic: topic, Partition: partition},
		got, kgo.DefaultDecompressor(), nil)
	if fetched.Err != nil {
		return 0, fmt.Errorf("%s/%d at %d: %w", topic, partition, at, fetched.Err)
	}
	for _, r := range fetched.Records {
		s.records = append(s.records, r)
		s.last[string(r.Key)] = r
	}
	return next, nil
}

// batchSizes takes in the sizes of whole batches, and checks that each begins after the one before. The first may begin
// before the offset that was asked for.
func (s *stored) batchSizes(raw []byte, at int64) error {
	const header = 61
	var next int64
	for len(raw) >= header {
		var b kmsg.RecordBatch
		size := 12 + int(int32(raw[8])<<24|int32(raw[9])<<16|int32(raw[10])<<8|int32(raw[11]))
		if size > len(raw) {
			return nil // cut off by the limit of the request
		}
		if err := b.ReadFrom(raw[:size]); err != nil {
			return err
		}
		if b.FirstOffset < next || b.FirstOffset+int64(b.LastOffsetDelta) < at {
			return fmt.Errorf("the batch at %d+%d comes where offset %d is due", b.FirstOffset, b.LastOffsetDelta, max(next, at))
		}
		next = b.FirstOffset + int64(b.LastOffsetDelta) + 1
		s.batches = append(s.batches, int32(size))
		raw = raw[size:]
	}
	return nil
}

// mustRead is readStored as soon as the broker answers.
func mustRead(t *testing.T, client *kgo.Client, topic string, partition int32) (s *stored) {
	t.Helper()
	waitStored(t, client, topic, partition, fmt.Sprintf("%s/%d can be read", topic, partition), func(got *stored) error {
		s = got
		return nil
	})
	return s
}

// waitStored waits until what is in a partition is as it should be.
func waitStored(t *testing.T, client *kgo.Client, topic string, partition int32, what string, cond func(*stored) error) {
	t.Helper()
	harness.Eventually(t, cleanLimit, what, func() error {
		ctx, cancel := context.WithTimeout(t.Context(), lookLimit)
		defer cancel()
		s, err := readStored(ctx, client, topic, partition)
		if err != nil {
			return err
		}
		return cond(s)
	})
}
