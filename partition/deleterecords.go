package partition

import (
	"context"
	"errors"
	"fmt"
)

// DeleteRecords moves the log start to offset, exactly, and returns the log start (M7). -1 means the high watermark; an offset below
// the log start changes nothing (3.13). It returns once the new log start is in an accepted manifest, so no crash undoes it. Errors:
// ErrOffsetOutOfRange, ErrUnknownPartition, ErrNotLeader, and ErrStorage when the outcome is unknown: then the log start is as
// before, until a restart perhaps.
func (l *Log) DeleteRecords(ctx context.Context, offset int64) (logStart int64, err error) {
	s := l.set
	if start, done, err := l.deletable(&offset); done || err != nil {
		return start, err
	}
	if err := s.acquire(ctx); err != nil {
		return -1, err
	}
	defer s.release()
	if start, done, err := l.deletable(&offset); done || err != nil {
		return start, err
	}
	if ours, err := s.settle(ctx, []*Log{l}); err != nil || len(ours) == 0 {
		return -1, l.storageError(err)
	}
	if err := s.commitSnapshots(ctx, []*snapshot{l.snapshot(offset)}); err != nil {
		return -1, l.storageError(err)
	}
	if gone, why := l.left(); gone {
		return -1, why
	}
	return l.State().LogStart, nil
}

// deletable replaces -1 and says whether there is nothing to do.
func (l *Log) deletable(offset *int64) (logStart int64, done bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended != nil {
		return -1, false, l.ended
	}
	if *offset == -1 {
		*offset = l.hw
	}
	if *offset < 0 || *offset > l.hw {
		return -1, false, fmt.Errorf("%w: cannot delete up to %d of %v, high watermark %d", ErrOffsetOutOfRange, *offset, l.id, l.hw)
	}
	return l.logStart, *offset <= l.logStart, nil
}

func (l *Log) storageError(err error) error {
	switch {
	case err == nil:
		return ErrUnknownPartition
	case errors.Is(err, ErrNotLeader):
		return err
	}
	return fmt.Errorf("%w: delete records of %v: %w", ErrStorage, l.id, err)
}
