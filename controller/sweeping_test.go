package controller

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemill/tidemill/metadata"
	"github.com/tidemill/tidemill/wal"
)

// TestSweeps: half-made topics are swept when a controller takes office, soon after that has failed, every hour, and when it is back in office.
func TestSweeps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(2)
		var swept []time.Duration
		c := New(Config{
			Self: lifeOf(1), Cluster: w, LeaseTTL: testTTL, Logger: slog.New(slog.DiscardHandler),
			Campaign: func(context.Context) (metadata.Controller, bool, error) { return metadata.Controller{}, false, nil },
			Refuses:  func(context.Context, metadata.BrokerInfo) bool { return false },
			LogEnd:   func(context.Context, wal.Life, int64) (int64, error) { return 7, nil },
			Seal:     func(context.Context, wal.Life) error { return nil },
			Sweep: func(context.Context) error {
				swept = append(swept, time.Since(w.began).Round(time.Minute)) // it looks each second
				if len(swept) == 1 {
					return errors.New("etcd is away")
				}
				return nil
			},
		})
		time.AfterFunc(150*time.Minute, func() { w.elect(2) })
		time.AfterFunc(240*time.Minute, func() { w.elect(1) })
		runFor(t.Context(), t, c, 250*time.Minute)
		want := []time.Duration{0, time.Minute, 61 * time.Minute, 121 * time.Minute, 240 * time.Minute}
		if !slices.Equal(swept, want) {
			t.Errorf("swept at %v, want %v", swept, want)
		}
	})
}
