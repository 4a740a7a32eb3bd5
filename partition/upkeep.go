package partition

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"
)

// Keep does what keeps logs as their policies want them, until ctx ends: retention, merging and compaction, and the deletion of what
// nobody needs any more. It returns ctx's error. Trouble is logged and tried again; nothing is lost meanwhile but space.
func (s *Set) Keep(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.keepRetention(ctx) })
	g.Go(func() error { return s.keepCompacted(ctx) })
	g.Go(func() error { return s.keepMerged(ctx) })
	g.Go(func() error { return s.keepTidy(ctx) })
	return g.Wait()
}

// keepRetention applies retention at its interval.
func (s *Set) keepRetention(ctx context.Context) error {
	for wait := s.opts.Upkeep().InitialDelay; ; wait = s.opts.Upkeep().RetentionInterval {
		if err := pause(ctx, wait); err != nil {
			return err
		}
		s.report(ctx, "retention", s.Retain(ctx))
	}
}

// workedPause is the pause between rounds while there is work: a look may write a checkpoint.
const workedPause = time.Second

// keepCompacted compacts as long as there is something to compact, and looks again after a while.
func (s *Set) keepCompacted(ctx context.Context) error {
	if err := pause(ctx, s.opts.Upkeep().InitialDelay); err != nil {
		return err
	}
	for {
		worked, err := s.Compact(ctx)
		s.report(ctx, "compaction", err)
		wait := s.opts.Upkeep().CompactionBackoff
		if worked && err == nil {
			wait = min(wait, workedPause)
		}
		if err := pause(ctx, wait); err != nil {
			return err
		}
	}
}

// keepMerged merges small parts. While data comes in faster than it is merged this has no end, so deletions do not wait for it.
func (s *Set) keepMerged(ctx context.Context) error {
	for wait := s.opts.TidyInterval / 2; ; wait = s.opts.TidyInterval {
		if err := pause(ctx, wait); err != nil {
			return err
		}
		s.report(ctx, "merging segments", s.Merge(ctx))
	}
}

// sweepSoon is how long after a sweep the next one may come, when objects that earlier lives wrote were let go of.
const sweepSoon = 10 * time.Minute

// keepTidy deletes what is due, and now and then sweeps the bucket: first when what earlier lives left in slots has
// been rewritten.
func (s *Set) keepTidy(ctx context.Context) error {
	soon := s.opts.Now().Add(s.opts.CheckpointInterval + s.opts.Upkeep().InitialDelay)
	late, lent := soon, soon
	for {
		if err := pause(ctx, s.opts.TidyInterval); err != nil {
			return err
		}
		if now := s.opts.Now(); !now.Before(lent) { // the new owners rewrite them at their next checkpoints
			lent = now.Add(s.opts.CheckpointInterval)
			s.report(ctx, "slots of partitions that moved", s.takeBack(ctx))
		}
		s.report(ctx, "deletion", s.deleteDue(ctx))
		now := s.opts.Now()
		if !now.Before(late) || !now.Before(soon) && s.objects.takeAstray() {
			late, soon = now.Add(s.opts.SweepInterval), now.Add(min(sweepSoon, s.opts.SweepInterval))
			err := s.Sweep(ctx)
			s.report(ctx, "sweep", err)
			if err != nil {
				late = soon
			}
		}
	}
}

// report logs what went wrong, unless the life or the process ends.
func (s *Set) report(ctx context.Context, what string, err error) {
	if err != nil && ctx.Err() == nil && s.fencedError() == nil {
		s.opts.Logger.Warn("background work failed; it is tried again", "work", what, "error", err)
	}
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
