package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"

	"github.com/tidemill/tidemill/broker"
	"github.com/tidemill/tidemill/metadata"
	"github.com/tidemill/tidemill/objectstore/storeurl"
	"github.com/tidemill/tidemill/wal"
)

const clusterDeadUsage = `Usage: broker cluster dead ID [--force] --cluster etcd://host:port/name [etcd's flags] [--bucket URL]

Says that a broker is dead: its log is ended at once, and the controller gives its partitions to the others. The brokers find
out by themselves, but end one broker at a time when nothing speaks for its death but a lease that ended. It is safe if the
broker lives after all: it acknowledges nothing more, and begins anew without partitions.

  --force  also when the broker is registered, which says that it lives
`

// clusterDead ends the logs of a broker that a person knows to be dead (S1).
func clusterDead(ctx context.Context, e *environment) error {
	force := false
	var id int32
	task := clusterTask{usage: clusterDeadUsage, switches: map[string]*bool{"force": &force}}
	task.check = func(words []string) (err error) {
		if len(words) != 1 {
			return fmt.Errorf("%w: say broker cluster dead ID, and its flags behind the ID", errUsage)
		}
		id, err = parseBrokerID(words[0])
		return err
	}
	task.run = func(ctx context.Context, c *clusterCall) error { return c.declareDead(ctx, id, force) }
	return task.do(ctx, e)
}

func (c *clusterCall) declareDead(ctx context.Context, id int32, force bool) error {
	img := c.meta.Image()
	if b, registered := img.Brokers[id]; registered && !force {
		return fmt.Errorf("broker %d is registered at %s:%d, so it lived a moment ago: wait for its lease to end, stop it, or say --force", id, b.Host, b.Port)
	}
	lives, err := c.meta.Lives(ctx, id)
	if err != nil {
		return err
	}
	cfg, err := broker.WithShared(ctx, c.config, c.meta)
	if err != nil {
		return err
	}
	store, _, err := storeurl.Open(ctx, cfg.Bucket, storeurl.Options{})
	if err != nil {
		return fmt.Errorf("open the bucket (set by %s): %w", cfg.Source("bucket"), err)
	}
	if s, ok := store.(io.Closer); ok {
		defer s.Close()
	}
	if err := metadata.EnsureGuard(ctx, store, img.Cluster.ID); err != nil {
		return err
	}
	ended := 0
	for _, life := range lives {
		if life.Phase == wal.PhaseSealed {
			continue
		}
		r, err := wal.Seal(ctx, store, c.meta, life.Life, wal.SealOptions{
			Cluster: wal.Cluster{ID: img.Cluster.ID, Generation: img.Cluster.Generation}, Name: "broker cluster dead",
			Logger: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			return err
		}
		ended++
		if _, err := fmt.Fprintf(c.stdout, "ended the log of life %s after %d slots\n", life.Life, r.N); err != nil {
			return err
		}
	}
	if ended == 0 {
		_, err = fmt.Fprintf(c.stdout, "broker %d has no log that is open\n", id)
	}
	return err
}
