package partition

import (
	"context"
	"fmt"
)

// Retain applies the policies' limits of age and size: it moves the log start of each log to the first roll that stays (C1, C2), in
// as few writes to metadata as there are logs to trim. Data behind a log start goes when nothing in storage refers to it any more.
func (s *Set) Retain(ctx context.Context) error {
	if err := s.acquire(ctx); err != nil {
		return err
	}
	defer s.release()
	if err := s.fencedError(); err != nil {
		return err
	}
	starts := map[*Log]int64{}
	var logs []*Log
	for _, l := range s.all() {
		if start, due := l.expire(); due {
			starts[l] = start
			logs = append(logs, l)
		}
	}
	if len(logs) == 0 {
		return nil
	}
	logs, err := s.settle(ctx, logs)
	if err != nil {
		return fmt.Errorf("retention: %w", err)
	}
	snapshots := make([]*snapshot, 0, len(logs))
	for _, l := range logs {
		snapshots = append(snapshots, l.snapshot(starts[l]))
	}
	if err := s.commitSnapshots(ctx, snapshots); err != nil {
		return fmt.Errorf("retention of %d partitions: %w", len(snapshots), err)
	}
	return nil
}

// expire returns where the log begins once its policy is applied, and whether that is later than now. When the active roll goes too, a
// new one begins, as in Kafka.
func (l *Log) expire() (start int64, due bool) {
	now := l.set.opts.Now().UnixMilli()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended != nil {
		return 0, false
	}
	start = l.policy.expired(l.rolls, l.hw, now)
	if start <= l.logStart {
		return 0, false
	}
	if start == l.hw && l.rolls[len(l.rolls)-1].Base < start {
		l.rolls = append(l.rolls, Roll{Base: start, FirstTimestamp: -1, MaxTimestamp: -1})
	}
	return start, true
}
