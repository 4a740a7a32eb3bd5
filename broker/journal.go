package broker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tidemill/tidemill/coordinator"
	"github.com/tidemill/tidemill/partition"
	"github.com/tidemill/tidemill/protocol/record"
)

// journal is the partitions of __consumer_offsets as the group coordinator sees them.
type journal struct{ b *Broker }

// replayBytes is how much is read at a time while a shard is loaded.
const replayBytes = 4 << 20

// Append implements coordinator.Journal.
func (j journal) Append(shard int32, records []coordinator.Record, now time.Time, done func(baseOffset int64, err error)) {
	l, ok := j.b.offsetsLog(shard)
	if !ok {
		done(-1, fmt.Errorf("append to shard %d: %w", shard, coordinator.ErrFenced))
		return
	}
	var batch record.Builder
	for _, r := range records {
		batch.Append(now.UnixMilli(), r.Key, r.Value)
	}
	in := partition.AppendInput{Batch: batch.Build(), Origin: partition.OriginCoordinator, LogAppendTime: -1}
	l.Append(in, func(r partition.AppendResult, err error) {
		if errors.Is(err, partition.ErrNotLeader) || errors.Is(err, partition.ErrUnknownPartition) {
			err = fmt.Errorf("%w: %w", coordinator.ErrFenced, err)
		}
		done(r.BaseOffset, err)
	})
	j.b.wal.Nudge()
}

// Replay implements coordinator.Journal. Appends that were made before it may not be committed yet; they are waited for,
// or a machine that is loaded again would miss them.
func (j journal) Replay(ctx context.Context, shard int32, from int64, fn func(offset int64, r coordinator.Record) error) (int64, error) {
	l, ok := j.b.offsetsLog(shard)
	if !ok {
		return from, fmt.Errorf("replay shard %d: %w", shard, coordinator.ErrFenced)
	}
	state := l.State()
	offset, end := max(from, state.LogStart), state.EndOffset
	for {
		r, err := l.Read(ctx, partition.ReadInput{Offset: offset, MaxBytes: replayBytes, AtLeastOne: true})
		if err != nil {
			return offset, fmt.Errorf("replay shard %d from offset %d: %w", shard, offset, err)
		}
		if len(r.Batches) == 0 && offset >= end {
			return offset, nil
		}
		if len(r.Batches) == 0 {
			if err := awaitCommit(ctx, l, offset); err != nil {
				return offset, fmt.Errorf("replay shard %d: wait for offset %d: %w", shard, offset, err)
			}
			continue
		}
		// The machine may keep what it is given, so the result is never released.
		if offset, err = replayBatches(r.Batches, offset, fn); err != nil {
			return offset, err
		}
	}
}

// awaitCommit waits until something is committed at offset, or the partition was lost.
func awaitCommit(ctx context.Context, l *partition.Log, offset int64) error {
	w := partition.NewWaiter(1)
	defer w.Close()
	l.Watch(w, offset)
	select {
	case <-w.C():
		if l.State().HighWatermark <= offset {
			return coordinator.ErrFenced // woken by the end of the log's life
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// replayBatches calls fn for the records from offset on and returns the offset after the last batch.
func replayBatches(chunks [][]byte, offset int64, fn func(offset int64, r coordinator.Record) error) (int64, error) {
	for _, chunk := range chunks {
		for len(chunk) > 0 {
			batch, rest, err := record.Next(chunk)
			if err != nil {
				return offset, err
			}
			if batch == nil {
				return offset, fmt.Errorf("%d bytes that are no batch: %w", len(chunk), record.ErrCorrupt)
			}
			for r, err := range record.Records(batch, record.StoredLimits) {
				if err != nil {
					return offset, err
				}
				if r.Offset < offset {
					continue
				}
				if err := fn(r.Offset, coordinator.Record{Key: r.Key, Value: r.Value}); err != nil {
					return offset, err
				}
			}
			offset, chunk = batch.LastOffset()+1, rest
		}
	}
	return offset, nil
}
