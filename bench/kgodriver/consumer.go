package kgodriver

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/twmb/franz-go/pkg/kgo"
)

// A consumer reads all partitions from their beginning and checks what it sees.
type consumer struct {
	client *kgo.Client
	window window
	done   chan struct{}

	mu     sync.Mutex
	moved  chan struct{} // one place: told when unique has grown
	unique int64

	latency               *hdrhistogram.Histogram
	duplicated, reordered int64
	seen                  [][]uint64         // by producer, a bit for each sequence number
	last                  map[[2]int32]int64 // by partition and producer, the last sequence number
}

func newConsumer(l Load, w window) (*consumer, error) {
	client, err := kgo.NewClient(
		kgo.SeedBrokers(l.Addr), kgo.ConsumeTopics(l.Topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchMaxWait(500*time.Millisecond), kgo.FetchMinBytes(1),
	)
	if err != nil {
		return nil, err
	}
	return &consumer{
		client: client, window: w, done: make(chan struct{}), moved: make(chan struct{}, 1), latency: histogram(),
		seen: make([][]uint64, l.Producers), last: map[[2]int32]int64{},
	}, nil
}

// run reads until ctx ends.
func (c *consumer) run(ctx context.Context) {
	defer close(c.done)
	for ctx.Err() == nil {
		fetches := c.client.PollFetches(ctx)
		now := time.Now()
		fresh := int64(0)
		fetches.EachRecord(func(r *kgo.Record) {
			if len(r.Value) >= header && c.see(r, now) {
				fresh++
			}
		})
		c.mu.Lock()
		c.unique += fresh
		c.mu.Unlock()
		select {
		case c.moved <- struct{}{}:
		default:
		}
	}
}

// see notes a record and reports whether it is seen for the first time.
func (c *consumer) see(r *kgo.Record, now time.Time) bool {
	due := time.Unix(0, int64(binary.BigEndian.Uint64(r.Value)))
	id := binary.BigEndian.Uint64(r.Value[8:])
	producer, sequence := int32(id>>48), int64(id&(1<<48-1))
	if int(producer) >= len(c.seen) {
		return false
	}
	word, bit := int(sequence/64), uint64(1)<<(sequence%64)
	for len(c.seen[producer]) <= word {
		c.seen[producer] = append(c.seen[producer], 0)
	}
	if c.seen[producer][word]&bit != 0 {
		c.duplicated++
		return false
	}
	c.seen[producer][word] |= bit
	key := [2]int32{r.Partition, producer}
	if last, ok := c.last[key]; ok && last > sequence {
		c.reordered++
	}
	c.last[key] = sequence
	if c.window.holds(due) {
		count(c.latency, now.Sub(due))
	}
	return true
}

// await waits until n records have been seen or nothing has come for patience: what is missing then is lost.
func (c *consumer) await(ctx context.Context, n int64, patience time.Duration) error {
	for {
		c.mu.Lock()
		have := c.unique
		c.mu.Unlock()
		if have >= n {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-c.done:
			return fmt.Errorf("the consumer ended after %d of %d records", have, n)
		case <-c.moved:
		case <-time.After(patience):
			return nil
		}
	}
}
