package main

import (
	"bufio"
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// lineMax is the longest line that produce takes: what a broker takes by default, and some.
const lineMax = 8 << 20

// produce writes each line of standard input as a record.
func produce(ctx context.Context, e *environment) error {
	f, bootstrap := clientFlags("produce")
	topic := f.String("topic", "", "`topic` to write to")
	separator := f.String("key-separator", "", "`text` between key and value in a line; without it records have no key")
	if done, err := parseFlags(f, e); done || err != nil {
		return err
	}
	if err := need(f, "topic"); err != nil {
		return err
	}
	client, err := dial(ctx, *bootstrap, kgo.DefaultProduceTopic(*topic), kgo.ProducerBatchMaxBytes(lineMax),
		// As Kafka's console producer does, have a missing topic created where the broker allows it.
		kgo.AllowAutoTopicCreation(), kgo.UnknownTopicRetries(10), kgo.MetadataMinAge(100*time.Millisecond))
	if err != nil {
		return err
	}
	defer client.Close()

	var first firstError
	s := bufio.NewScanner(e.stdin)
	s.Buffer(nil, lineMax)
	for line := 1; s.Scan() && first.get() == nil; line++ {
		r := &kgo.Record{Value: []byte(s.Text())}
		if *separator != "" {
			key, value, ok := strings.Cut(s.Text(), *separator)
			if !ok {
				first.set(fmt.Errorf("line %d has no %q between key and value (flag --key-separator)", line, *separator))
				break
			}
			r.Key, r.Value = []byte(key), []byte(value)
		}
		client.Produce(ctx, r, func(_ *kgo.Record, err error) {
			if err != nil {
				first.set(fmt.Errorf("write line %d to %s: %w", line, *topic, err))
			}
		})
	}
	if err := s.Err(); err != nil {
		first.set(fmt.Errorf("read standard input: %w", err))
	}
	if err := client.Flush(ctx); err != nil {
		first.set(fmt.Errorf("write to %s: %w", *topic, err))
	}
	return first.get()
}

// firstError keeps the first of the errors that callbacks report.
type firstError struct {
	mu  sync.Mutex
	err error
}

func (f *firstError) set(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil {
		f.err = err
	}
}

func (f *firstError) get() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}
