package workload

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidemill/tidemill/verify"
)

// readLogs reads every partition from its start to its end with a client that knows nothing of what was before.
func (w *Workload) readLogs(ctx context.Context) error {
	logs, offsets, err := w.openLogs(ctx)
	if err != nil {
		return fmt.Errorf("read the final log: %w", err)
	}
	client, err := kgo.NewClient(w.o.clientOptions(
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{w.o.Topic: offsets}), kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		kgo.FetchMaxWait(500*time.Millisecond),
	)...)
	if err != nil {
		return fmt.Errorf("read the final log: %w", err)
	}
	defer client.Close()
	err = w.fillLogs(ctx, client, logs)
	w.rec.note(func(h *verify.History) {
		for p := range logs {
			logs[p].End = w.rec.now()
		}
		h.Logs = logs
	})
	return err
}

// openLogs asks from where to where the partitions go.
func (w *Workload) openLogs(ctx context.Context) ([]verify.Log, map[int32]kgo.Offset, error) {
	begin := w.rec.now()
	ends, err := w.listed(ctx, w.admin.ListEndOffsets)
	if err != nil {
		return nil, nil, err
	}
	starts, err := w.listed(ctx, w.admin.ListStartOffsets)
	if err != nil {
		return nil, nil, err
	}
	logs, offsets := make([]verify.Log, w.o.Partitions), map[int32]kgo.Offset{}
	for p := range w.o.Partitions {
		logs[p] = verify.Log{Span: verify.Span{Begin: begin}, Partition: p, Start: starts[p].Offset, Limit: ends[p].Offset, ReadTo: starts[p].Offset}
		offsets[p] = kgo.NewOffset().At(logs[p].Start)
	}
	return logs, offsets, nil
}

// fillLogs reads until all are full, or nothing came for a while.
func (w *Workload) fillLogs(ctx context.Context, client *kgo.Client, logs []verify.Log) error {
	last := time.Now()
	var trouble error
	for behind(logs) != nil {
		if waited := time.Since(last); waited > w.o.Settle || ctx.Err() != nil {
			l := behind(logs)
			return fmt.Errorf("read the final log: partition %d ends at offset %d, and nothing came after offset %d for %v: %w",
				l.Partition, l.Limit, l.ReadTo, waited.Round(time.Second), errors.Join(trouble, ctx.Err()))
		}
		polling, cancel := context.WithTimeout(ctx, pollTimeout)
		fetches := client.PollFetches(polling)
		cancel()
		fetches.EachPartition(func(p kgo.FetchTopicPartition) {
			if p.Topic != w.o.Topic {
				return
			}
			if readError(p.Err) != "" {
				trouble = p.Err
			}
			if len(p.Records) > 0 {
				last = time.Now()
				fill(&logs[p.Partition], w.records(p.Records))
			}
		})
	}
	return nil
}

// fill adds what is below the log's limit. An unknown record may have been stored since it was asked for.
func fill(l *verify.Log, records []verify.Record) {
	for _, r := range records {
		if r.Offset < l.Limit {
			l.Records = append(l.Records, r)
		}
		l.ReadTo = max(l.ReadTo, min(r.Offset+1, l.Limit))
	}
}

// behind returns a log that is not read to its end.
func behind(logs []verify.Log) *verify.Log {
	for p := range logs {
		if logs[p].ReadTo < logs[p].Limit {
			return &logs[p]
		}
	}
	return nil
}
