package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"
)

// consume prints the values of a topic's records, one a line, until it is stopped or has printed enough.
func consume(ctx context.Context, e *environment) error {
	f, bootstrap := clientFlags("consume")
	topic := f.String("topic", "", "`topic` to read")
	beginning := f.Bool("from-beginning", false, "start at the oldest record, or at the group's offset if it has one")
	most := f.Int64("max-messages", 0, "stop after this `number` of records; 0: go on")
	group := f.String("group", "", "consumer `group` to join and commit for; without it nothing is committed")
	separator := f.String("key-separator", "", "print the key and this `text` before each value")
	if done, err := parseFlags(f, e); done || err != nil {
		return err
	}
	if err := need(f, "topic"); err != nil {
		return err
	}
	start := kgo.NewOffset().AtEnd()
	if *beginning {
		start = kgo.NewOffset().AtStart()
	}
	options := []kgo.Opt{kgo.ConsumeTopics(*topic), kgo.ConsumeResetOffset(start)}
	if *group != "" {
		options = append(options, kgo.ConsumerGroup(*group), kgo.DisableAutoCommit(), kgo.BlockRebalanceOnPoll())
	}
	client, err := dial(ctx, *bootstrap, options...)
	if err != nil {
		return err
	}
	defer client.CloseAllowingRebalance()

	out := bufio.NewWriter(e.stdout)
	for printed := int64(0); *most == 0 || printed < *most; {
		limit := 1000
		if *most > 0 {
			limit = int(min(*most-printed, 1000))
		}
		fetches := client.PollRecords(ctx, limit)
		records := fetches.Records()
		for _, r := range records {
			if *separator != "" {
				_, _ = fmt.Fprintf(out, "%s%s", r.Key, *separator)
			}
			_, _ = fmt.Fprintf(out, "%s\n", r.Value)
		}
		if err := out.Flush(); err != nil {
			return fmt.Errorf("print records: %w", err)
		}
		printed += int64(len(records))
		if *group != "" && len(records) > 0 {
			if err := client.CommitRecords(ctx, records...); err != nil && ctx.Err() == nil {
				return fmt.Errorf("commit for group %s: %w", *group, err)
			}
		}
		client.AllowRebalance()
		if err := fetches.Err0(); err != nil {
			if ctx.Err() != nil || errors.Is(err, kgo.ErrClientClosed) {
				return nil // stopped by a signal
			}
			return fmt.Errorf("read %s: %w", *topic, err)
		}
	}
	return nil
}
