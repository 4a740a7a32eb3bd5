package broker

import (
	"context"
	"log/slog"
	"time"

	"github.com/tidemill/tidemill/controller"
	"github.com/tidemill/tidemill/metadata"
	"github.com/tidemill/tidemill/partition"
	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/wal"
)

const (
	// giveAwayTimeout bounds how long a stop waits for its partitions to be durable and others' (D13): what remains is taken over
	// from its closed log.
	giveAwayTimeout = 12 * time.Second
	// redirectFor is how long a broker without partitions still says where they are, before it closes connections.
	redirectFor = 500 * time.Millisecond
)

// giveAway hands everything over to the other brokers, if there are any, and tells clients for a while where it went.
func (b *Broker) giveAway(ctx context.Context, r *metadata.Registration) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), giveAwayTimeout)
	defer cancel()
	begun, given := time.Now(), false
	if err := r.SetDraining(ctx, true); err != nil {
		b.log.Warn("the other brokers do not know that this one stops", slog.Any("error", err))
	}
	var ended notOpen
	for transfers := b.transfersAway(ended); len(transfers) > 0 && ctx.Err() == nil; {
		given = true
		err := b.handOver(ctx, transfers)
		if err != nil {
			b.log.Warn("partitions could not be handed over yet", slog.Any("error", err))
			ended = b.endedLogs(ctx)
		}
		left := b.transfersAway(ended)
		if (err != nil || len(left) >= len(transfers)) && b.pause(ctx, ownershipRetry) != nil {
			break
		}
		transfers = left
	}
	if given {
		b.log.Info("drained", slog.Duration("took", time.Since(begun)))
		_ = b.pause(ctx, redirectFor)
	}
}

// transfersAway plans where the partitions that this life serves go: where an intent sends them, else evenly, and to none of some lives.
func (b *Broker) transfersAway(without notOpen) []partition.Transfer {
	s := b.placeState(without)
	for i := range s.Brokers {
		if s.Brokers[i].Life == b.life {
			s.Brokers[i].Draining = true
		}
	}
	to := map[protocol.PartitionID]wal.Life{}
	for i := range s.Partitions {
		p := &s.Partitions[i]
		if without[p.Target] {
			p.Target = wal.Life{}
		}
		if p.Target != (wal.Life{}) {
			to[p.ID] = p.Target
		}
	}
	for _, m := range controller.Plan(s, controller.Options{MovesMax: -1}) {
		to[m.ID] = m.To
	}
	var out []partition.Transfer
	for _, p := range s.Partitions {
		target := to[p.ID]
		if _, open := b.logs.Get(p.ID); open && p.Owner == b.life && target != (wal.Life{}) && target != b.life {
			out = append(out, partition.Transfer{ID: p.ID, To: target})
		}
	}
	return out
}

func (b *Broker) pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
