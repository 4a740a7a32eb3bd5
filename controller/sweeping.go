package controller

import (
	"context"
	"log/slog"
	"time"
)

const (
	// sweepEvery bounds how long records of topics that do not exist stay: a creation or deletion that was interrupted leaves up to some MB.
	sweepEvery = time.Hour
	// sweepAgain is the pause after a sweep that failed.
	sweepAgain = time.Minute
)

// sweeping is when the next sweep is due; zero: at once.
type sweeping struct {
	due      time.Time
	underWay bool
}

// sweepWhenDue begins a sweep when it is time. It does not wait for it: there are more urgent things.
func (c *Controller) sweepWhenDue(ctx context.Context) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sweeping.underWay || time.Now().Before(c.sweeping.due) {
		return
	}
	c.sweeping.underWay = true
	c.suspects.running.Go(func() {
		err := c.Sweep(ctx)
		if err != nil && ctx.Err() == nil {
			c.Logger.Warn("half-made topics were not swept; it is tried again", slog.Any("error", err))
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.sweeping = sweeping{due: time.Now().Add(sweepEvery)}
		if err != nil {
			c.sweeping.due = time.Now().Add(sweepAgain)
		}
	})
}
