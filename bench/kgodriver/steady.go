package kgodriver

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// A Steady load writes records to a topic for as long as it may. It keeps nothing of them, so it can go on for hours.
type Steady struct {
	Addr, Topic string
	MBPerSecond float64 // of values
	RecordBytes int
	Keys        int // records update these at random; 0: they have no keys

	acked, failed atomic.Int64
	err           atomic.Pointer[error]
}

// tickSteady is how often it sends what is due.
const tickSteady = 10 * time.Millisecond

// Run writes until ctx ends and waits for what is under way.
func (s *Steady) Run(ctx context.Context) error {
	client, err := kgo.NewClient(
		kgo.SeedBrokers(s.Addr), kgo.DefaultProduceTopic(s.Topic), kgo.ProducerLinger(5*time.Millisecond),
		kgo.ProducerBatchMaxBytes(256<<10), kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.MaxBufferedRecords(200_000),
	)
	if err != nil {
		return err
	}
	defer client.Close()
	source := rand.NewChaCha8([32]byte{1})
	luck := rand.New(source)
	tick := time.NewTicker(tickSteady)
	defer tick.Stop()
	begun := time.Now()
	for sent := 0; ; {
		select {
		case <-ctx.Done():
			flush, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
			defer cancel()
			return client.Flush(flush)
		case <-tick.C:
		}
		for due := int(time.Since(begun).Seconds() * s.MBPerSecond * 1e6 / float64(s.RecordBytes)); sent < due; sent++ {
			r := &kgo.Record{Value: make([]byte, s.RecordBytes)}
			_, _ = source.Read(r.Value) // never fails
			if s.Keys > 0 {
				r.Key = binary.BigEndian.AppendUint64(nil, luck.Uint64N(uint64(s.Keys)))
			}
			client.Produce(context.WithoutCancel(ctx), r, s.done) // it waits where too much is under way
		}
	}
}

func (s *Steady) done(_ *kgo.Record, err error) {
	if err != nil {
		s.failed.Add(1)
		s.err.Store(&err)
		return
	}
	s.acked.Add(1)
}

// Acked is how many bytes of values were acknowledged until now.
func (s *Steady) Acked() int64 { return s.acked.Load() * int64(s.RecordBytes) }

// Failed tells of records that were not acknowledged.
func (s *Steady) Failed() error {
	if n := s.failed.Load(); n > 0 {
		return fmt.Errorf("%d records of %s were not acknowledged: %w", n, s.Topic, *s.err.Load())
	}
	return nil
}

// A Group is one member of a consumer group that commits its offsets each second.
type Group struct {
	Addr, Name string
	Topics     []string

	read atomic.Int64
}

// Run reads until ctx ends.
func (g *Group) Run(ctx context.Context) error {
	client, err := kgo.NewClient(
		kgo.SeedBrokers(g.Addr), kgo.ConsumerGroup(g.Name), kgo.ConsumeTopics(g.Topics...), kgo.AutoCommitInterval(time.Second),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(500*time.Millisecond),
	)
	if err != nil {
		return err
	}
	defer client.Close()
	for {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil {
			return nil
		}
		var failed error
		fetches.EachError(func(topic string, partition int32, err error) {
			failed = errors.Join(failed, fmt.Errorf("%s-%d: %w", topic, partition, err))
		})
		if failed != nil {
			return failed
		}
		fetches.EachRecord(func(r *kgo.Record) { g.read.Add(int64(len(r.Value))) })
	}
}

// Read is how many bytes of values it has read until now.
func (g *Group) Read() int64 { return g.read.Load() }
