package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/tidemill/tidemill/metadata"
)

const clusterDrainUsage = `Usage: broker cluster drain ID [--undo] [--no-wait] --cluster etcd://host:port/name [etcd's flags]

Marks a broker: it gets no partitions any more, and what it has goes to the others. The mark is kept for the id, also
when the broker is started anew, until it is taken back.

  --undo     take the mark back
  --no-wait  do not wait until the broker owns nothing
`

// errInterrupted: somebody stopped waiting for what goes on without them.
var errInterrupted = errors.New("stopped waiting")

// clusterDrain marks a broker as to be empty.
func clusterDrain(ctx context.Context, e *environment) error {
	undo, noWait := false, false
	var id int32
	task := clusterTask{usage: clusterDrainUsage, switches: map[string]*bool{"undo": &undo, "no-wait": &noWait}}
	task.check = func(words []string) (err error) {
		if len(words) != 1 {
			return fmt.Errorf("%w: say broker cluster drain ID, and its flags behind the ID", errUsage)
		}
		id, err = parseBrokerID(words[0])
		return err
	}
	task.run = func(ctx context.Context, c *clusterCall) error {
		if undo {
			return c.undrain(ctx, id)
		}
		return c.drain(ctx, id, noWait)
	}
	return task.do(ctx, e)
}

func (c *clusterCall) undrain(ctx context.Context, id int32) error {
	if !c.meta.Image().Drains[id] {
		_, err := fmt.Fprintf(c.stdout, "broker %d has no drain mark\n", id)
		return err
	}
	if err := c.meta.SetDrain(ctx, id, false); err != nil {
		return err
	}
	_, err := fmt.Fprintf(c.stdout, "broker %d may own partitions again; balance gives it some\n", id)
	return err
}

func (c *clusterCall) drain(ctx context.Context, id int32, noWait bool) error {
	img := c.meta.Image()
	if err := c.known(ctx, img, id); err != nil {
		return err
	}
	if len(takers(img, id)) == 0 {
		return fmt.Errorf("no other broker could take the partitions of broker %d: start one, or take back a drain mark (broker cluster info shows them)", id)
	}
	if err := c.meta.SetDrain(ctx, id, true); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(c.stdout, "broker %d is marked: it gets no partitions until broker cluster drain %d --undo\n", id, id); err != nil || noWait {
		return err
	}
	err := c.await(ctx, func(img *metadata.Image) (int, string) { return ownedBy(img, id), stuck(img, id) })
	if errors.Is(err, errInterrupted) {
		return fmt.Errorf("%w; the mark stays, and so the rest goes too", err)
	}
	if err == nil {
		_, err = fmt.Fprintf(c.stdout, "broker %d owns nothing\n", id)
	}
	return err
}

// known refuses an id that no broker ever had.
func (c *clusterCall) known(ctx context.Context, img *metadata.Image, id int32) error {
	if _, ok := img.Brokers[id]; ok {
		return nil
	}
	lives, err := c.meta.Lives(ctx, id)
	if err == nil && len(lives) == 0 {
		err = fmt.Errorf("there never was a broker %d; registered are %s", id, brokerIDs(img))
	}
	return err
}

func brokerIDs(img *metadata.Image) string {
	var ids []string
	for _, id := range slices.Sorted(maps.Keys(img.Brokers)) {
		ids = append(ids, fmt.Sprint(id))
	}
	return orNone(strings.Join(ids, ", "))
}

// takers are the brokers other than id that partitions may go to.
func takers(img *metadata.Image, id int32) []int32 {
	var out []int32
	for other, b := range img.Brokers {
		if other != id && !b.Draining {
			out = append(out, other)
		}
	}
	return out
}

// ownedBy counts the partitions of all lives of a broker.
func ownedBy(img *metadata.Image, id int32) int {
	n := 0
	for _, t := range img.Topics {
		for _, p := range t.Partitions {
			if p.Owner.Broker == id {
				n++
			}
		}
	}
	return n
}

// stuck says why a broker may not become empty.
func stuck(img *metadata.Image, id int32) string {
	_, registered := img.Brokers[id]
	switch {
	case img.Controller.Life.IsZero():
		return "no broker is the controller"
	case len(takers(img, id)) == 0:
		return "no broker is left that could take them: start one"
	case !registered:
		return fmt.Sprintf("broker %d is not registered: they go when its log is sealed", id)
	}
	return ""
}

const (
	// progressEvery is how often a person wants to hear that something goes on.
	progressEvery = time.Second
	// patience is how long nothing may go on before it is said why.
	patience = 10 * time.Second
)

// await waits until left is 0, and tells how many there are while it changes, or why it does not.
func (c *clusterCall) await(ctx context.Context, left func(*metadata.Image) (n int, why string)) error {
	tick := time.NewTicker(progressEvery)
	defer tick.Stop()
	told, since := -1, time.Now()
	for {
		img := c.meta.Image()
		n, why := left(img)
		if n == 0 {
			return nil
		}
		select {
		case <-img.Changed():
			continue // the ticks pace what is told
		case <-ctx.Done():
			return fmt.Errorf("%w: %s left", errInterrupted, count(n))
		case <-tick.C:
		}
		switch {
		case n != told:
			told, since = n, time.Now()
			_, _ = fmt.Fprintf(c.stdout, "%s left\n", count(n))
		case time.Since(since) > patience:
			since = time.Now()
			if silent := c.meta.Silence(); silent > patience {
				why = fmt.Sprintf("etcd has answered nothing for %v", silent.Round(time.Second))
			}
			_, _ = fmt.Fprintf(c.stdout, "%s left; %s\n", count(n), orUnknown(why))
		}
	}
}

func orUnknown(why string) string {
	if why == "" {
		return "the brokers' logs say why"
	}
	return why
}
