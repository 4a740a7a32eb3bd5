package main

import (
	"context"
	"errors"
	"fmt"
	"text/tabwriter"

	"github.com/tidemill/tidemill/controller"
	"github.com/tidemill/tidemill/metadata"
	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/wal"
)

const clusterBalanceUsage = `Usage: broker cluster balance [--dry-run] [--unpin] --cluster etcd://host:port/name [etcd's flags]

Shows what is to move now, by the rules that the controller follows by itself, and writes it. It is of use when no broker is
the controller, to see what would happen, and to give up pins. The controller itself lets rest what it moved in the last ten minutes.

  --dry-run  write nothing
  --unpin    remove all pins first: what was moved by hand is balanced with the rest
`

// clusterBalance plans and writes the plan.
func clusterBalance(ctx context.Context, e *environment) error {
	dryRun, unpin := false, false
	task := clusterTask{usage: clusterBalanceUsage, switches: map[string]*bool{"dry-run": &dryRun, "unpin": &unpin}, check: noWords("balance")}
	task.run = func(ctx context.Context, c *clusterCall) error {
		if unpin && !dryRun {
			if err := c.unpin(ctx); err != nil {
				return err
			}
		}
		img := c.meta.Image()
		moves, err := c.plan(ctx, img, unpin)
		if err != nil {
			return err
		}
		if err := c.tellMoves(img, moves); err != nil || dryRun || len(moves) == 0 {
			return err
		}
		return c.writeMoves(ctx, img, moves)
	}
	return task.do(ctx, e)
}

// unpin removes all pins and leaves intents as they are.
func (c *clusterCall) unpin(ctx context.Context) error {
	var err error
	for range moveAttempts {
		var list []metadata.Reassignment
		for _, t := range c.meta.Image().Topics {
			for i, p := range t.Partitions {
				if p.Pin != nil {
					id := protocol.PartitionID{Topic: t.ID, Partition: int32(i)}
					list = append(list, metadata.Reassignment{ID: id, To: p.Target, Was: p, Pin: metadata.PinIsRemoved})
				}
			}
		}
		if err = errors.Join(c.meta.Reassign(ctx, list)...); err == nil {
			_, err = fmt.Fprintf(c.stdout, "%s unpinned\n", count(len(list)))
			return err
		}
		if !errors.Is(err, metadata.ErrStale) {
			return err
		}
	}
	return fmt.Errorf("the partitions move about; try again: %w", err)
}

// plan is the controller's, which knows what logs have ended, but for what only the controller in office knows: what it moved lately.
func (c *clusterCall) plan(ctx context.Context, img *metadata.Image, unpin bool) ([]controller.Move, error) {
	lives, err := c.meta.AllLives(ctx)
	if err != nil {
		return nil, err
	}
	sealed := map[wal.Life]bool{}
	for _, l := range lives {
		sealed[l.Life] = l.Phase == wal.PhaseSealed
	}
	loads, err := c.meta.Loads(ctx)
	if err != nil {
		return nil, err
	}
	var book controller.LoadBook
	book.Learn(img, loads)
	s := controller.StateOf(img)
	book.Fill(&s)
	for i := range s.Partitions {
		p := &s.Partitions[i]
		p.Orphan, p.Pinned = sealed[p.Owner], p.Pinned && !unpin
	}
	return controller.Plan(s, controller.Options{}), nil
}

func (c *clusterCall) tellMoves(img *metadata.Image, moves []controller.Move) error {
	if len(moves) == 0 {
		_, err := fmt.Fprintln(c.stdout, "nothing is to move")
		return err
	}
	w := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "PARTITION\tFROM\tTO\tWHY")
	for _, m := range moves {
		to := m.To.String()
		if m.To == m.From {
			to = "stays"
		}
		_, _ = fmt.Fprintf(w, "%s/%d\t%s\t%s\t%s\n", img.TopicsByID[m.ID.Topic].Name, m.ID.Partition, m.From, to, m.Reason)
	}
	return w.Flush()
}

func (c *clusterCall) writeMoves(ctx context.Context, img *metadata.Image, moves []controller.Move) error {
	var list []metadata.Reassignment
	for _, m := range moves {
		in := controller.IntentOf(img, m)
		list = append(list, metadata.Reassignment{ID: m.ID, To: in.To, Was: img.TopicsByID[m.ID.Topic].Partitions[m.ID.Partition]})
	}
	written, stale := 0, 0
	for _, err := range c.meta.Reassign(ctx, list) {
		switch {
		case err == nil:
			written++
		case errors.Is(err, metadata.ErrStale): // the controller was quicker
			stale++
		default:
			return fmt.Errorf("%s written, then: %w", count(written), err)
		}
	}
	_, err := fmt.Fprintf(c.stdout, "%s on the way\n", count(written))
	if stale > 0 && err == nil {
		_, err = fmt.Fprintf(c.stdout, "%s changed meanwhile and left to the controller\n", count(stale))
	}
	return err
}
