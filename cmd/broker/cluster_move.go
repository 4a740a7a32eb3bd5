package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/tidemill/tidemill/kafkaconfig"
	"github.com/tidemill/tidemill/metadata"
	"github.com/tidemill/tidemill/protocol"
)

const clusterMoveUsage = `Usage: broker cluster move TOPIC/PARTITION... --to ID [--no-wait] --cluster etcd://host:port/name [etcd's flags]

Moves partitions to a broker and pins them: balance leaves them there, and a preferred election (kafka-leader-election)
brings them back. A broker that is drained or dies gives them up all the same. No data is copied.

  --to ID    the broker
  --no-wait  do not wait until they are there
`

// moveAttempts bounds how often a move is written anew because its partition has moved meanwhile.
const moveAttempts = 5

// clusterMove sends partitions to a broker.
func clusterMove(ctx context.Context, e *environment) error {
	to, noWait := "", false
	var id int32
	task := clusterTask{usage: clusterMoveUsage, switches: map[string]*bool{"no-wait": &noWait}, values: map[string]*string{"to": &to}}
	task.check = func(words []string) (err error) {
		if len(words) == 0 || to == "" {
			return fmt.Errorf("%w: say broker cluster move TOPIC/PARTITION... --to ID, the partitions first", errUsage)
		}
		id, err = parseBrokerID(to)
		return err
	}
	task.run = func(ctx context.Context, c *clusterCall) error {
		if err := c.move(ctx, id); err != nil {
			return err
		}
		if _, err := fmt.Fprintf(c.stdout, "%s pinned to broker %d\n", count(len(c.words)), id); err != nil || noWait {
			return err
		}
		return c.awaitMoved(ctx, id)
	}
	return task.do(ctx, e)
}

// move writes the intents and pins.
func (c *clusterCall) move(ctx context.Context, id int32) error {
	var err error
	for range moveAttempts {
		var list []metadata.Reassignment
		if list, err = c.movesTo(id); err != nil {
			return err
		}
		if err = errors.Join(c.meta.Reassign(ctx, list)...); !errors.Is(err, metadata.ErrStale) {
			return err
		}
	}
	return fmt.Errorf("the partitions move about; try again: %w", err)
}

// movesTo says what to write, by the newest image.
func (c *clusterCall) movesTo(id int32) ([]metadata.Reassignment, error) {
	img := c.meta.Image()
	target, ok := img.Brokers[id]
	switch {
	case !ok:
		return nil, fmt.Errorf("broker %d is not registered; registered are %s", id, brokerIDs(img))
	case img.Drains[id]:
		return nil, fmt.Errorf("broker %d is drained by an operator: broker cluster drain %d --undo takes the mark back", id, id)
	case target.Draining:
		return nil, fmt.Errorf("broker %d is stopping", id)
	}
	var list []metadata.Reassignment
	seen := map[protocol.PartitionID]bool{}
	for _, word := range c.words {
		t, part, err := findPartition(img, word)
		if err != nil {
			return nil, err
		}
		if seen[part] {
			return nil, fmt.Errorf("%w: %s is named twice", errUsage, word)
		}
		seen[part] = true
		was := t.Partitions[part.Partition]
		list = append(list, metadata.Reassignment{
			ID: part, To: target.Life, Was: was, Pin: metadata.PinIsSet, Replicas: replicasFrom(img, t, was, id),
		})
	}
	return list, nil
}

// findPartition finds TOPIC/PARTITION.
func findPartition(img *metadata.Image, word string) (*metadata.Topic, protocol.PartitionID, error) {
	none := protocol.PartitionID{}
	at := strings.LastIndexByte(word, '/')
	if at < 0 {
		return nil, none, fmt.Errorf("%w: %q is no partition: want TOPIC/PARTITION, like orders/0", errUsage, word)
	}
	n, err := strconv.ParseInt(word[at+1:], 10, 32)
	if err != nil || n < 0 {
		return nil, none, fmt.Errorf("%w: %q is no partition: want TOPIC/PARTITION, like orders/0", errUsage, word)
	}
	t, ok := img.Topics[word[:at]]
	if !ok {
		return nil, none, unknownTopic(img, word[:at])
	}
	if int(n) >= len(t.Partitions) {
		return nil, none, fmt.Errorf("topic %s has partitions 0 to %d, not %d", t.Name, len(t.Partitions)-1, n)
	}
	return t, protocol.PartitionID{Topic: t.ID, Partition: int32(n)}, nil
}

// replicasFrom is what a partition shows as replicas when id is its preferred broker: as many as before.
func replicasFrom(img *metadata.Image, t *metadata.Topic, p metadata.Partition, id int32) []int32 {
	others, n := slices.Sorted(maps.Keys(img.Brokers)), min(int(t.ReplicationFactor), len(img.Brokers))
	if p.Pin != nil {
		others, n = p.Pin.Replicas, len(p.Pin.Replicas)
	}
	out := []int32{id}
	for _, other := range others {
		if len(out) < n && other != id {
			out = append(out, other)
		}
	}
	return out
}

// awaitMoved waits until the partitions are on a broker.
func (c *clusterCall) awaitMoved(ctx context.Context, id int32) error {
	var lost string
	err := c.await(ctx, func(img *metadata.Image) (int, string) {
		n := 0
		for _, word := range c.words {
			t, part, err := findPartition(img, word)
			if err != nil {
				lost = word + " was deleted"
				return 0, ""
			}
			switch p := t.Partitions[part.Partition]; {
			case p.Owner.Broker == id && img.Brokers[id].Life == p.Owner:
			case p.Target.Broker == id && !p.Target.IsZero():
				n++
			default:
				lost = fmt.Sprintf("%s is not sent to broker %d any more: the broker has gone or is drained, or somebody decided otherwise", word, id)
				return 0, ""
			}
		}
		return n, "their owners or broker " + strconv.Itoa(int(id)) + " do not answer, or they wait for a log to be sealed: see broker cluster info"
	})
	switch {
	case errors.Is(err, errInterrupted):
		return fmt.Errorf("%w; they go on", err)
	case err != nil:
		return err
	case lost != "":
		return errors.New(lost)
	}
	_, err = fmt.Fprintf(c.stdout, "%s moved to broker %d\n", count(len(c.words)), id)
	return err
}

// unknownTopic refuses a topic's name and offers one that is like it.
func unknownTopic(img *metadata.Image, name string) error {
	var names []string
	for known := range img.Topics {
		names = append(names, known)
	}
	if near := kafkaconfig.Nearest(name, names); near != "" {
		return fmt.Errorf("there is no topic %q; did you mean %q?", name, near)
	}
	return fmt.Errorf("there is no topic %q", name)
}
