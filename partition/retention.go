package partition

import (
	"context"
	"errors"
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

// all returns the logs as they are now.
func (s *Set) all() []*Log {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.allLocked()
}

// deleteDue deletes the objects that nobody has referred to for long enough (G2, G5), many at a time. What cannot be deleted is tried
// again another time, behind the others.
func (s *Set) deleteDue(ctx context.Context) error {
	var batch []doomed
	var failed []error
	keys := 0
	for _, d := range s.objects.due(s.opts.Now().Add(-s.opts.DeleteDelay)) {
		for d.seq < d.until {
			part := d
			part.until = min(d.until, d.seq+int64(deleteBatch-keys))
			batch, keys, d.seq = append(batch, part), keys+int(part.until-part.seq), part.until
			if keys == deleteBatch {
				failed = append(failed, s.deleteAll(ctx, batch))
				batch, keys = nil, 0
			}
		}
	}
	if keys > 0 {
		failed = append(failed, s.deleteAll(ctx, batch))
	}
	if err := errors.Join(failed...); err != nil {
		return fmt.Errorf("delete unreferenced objects: %w", err)
	}
	return nil
}

// deleteBatch is how many objects are deleted at a time.
const deleteBatch = 256

// deleteAll deletes objects in one request. If that fails, perhaps for one of them only, it goes on one by one until another fails.
func (s *Set) deleteAll(ctx context.Context, batch []doomed) error {
	if s.deleteKeys(ctx, batch...) == nil {
		return nil
	}
	var failed []error
	for i, d := range batch {
		for one := d; one.seq < d.until; one.seq++ {
			if len(failed) > 1 || ctx.Err() != nil {
				one.until = d.until
				s.objects.putBack(append([]doomed{one}, batch[i+1:]...), s.opts.Now())
				return errors.Join(failed...)
			}
			one.until = one.seq + 1
			if err := s.deleteKeys(ctx, one); err != nil {
				failed = append(failed, err)
				s.objects.putBack([]doomed{one}, s.opts.Now())
			}
		}
	}
	return errors.Join(failed...)
}

// deleteKeys makes one request.
func (s *Set) deleteKeys(ctx context.Context, batch ...doomed) error {
	ctx, cancel := context.WithTimeout(ctx, s.opts.LoadTimeout)
	defer cancel()
	var keys []string
	for _, d := range batch {
		for seq := d.seq; seq < d.until; seq++ {
			keys = append(keys, s.keyOf(objectID{d.kind, d.life, seq}))
		}
	}
	if err := s.opts.Store.Delete(ctx, keys...); err != nil {
		return errors.Join(ErrStorage, err)
	}
	s.metrics.deleted.Add(float64(len(keys)))
	return nil
}
