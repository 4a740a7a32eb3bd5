package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tidemill/tidemill/metadata"
	"github.com/tidemill/tidemill/partition"
	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/wal"
)

const (
	// ownershipRetry is the pause before what failed is tried again.
	ownershipRetry = 500 * time.Millisecond
	// complainEvery is the time between two lines about work that fails again and again.
	complainEvery = 10 * time.Second
	// handOverTimeout bounds one round of giving partitions away: appends wait meanwhile, and go on here when it is over.
	handOverTimeout = 10 * time.Second
	// handOverMax partitions are given away together: all of them wait for the slowest, and each needs a share of a manifest object
	// and of a transaction. While one round writes to etcd the next becomes durable.
	handOverMax     = 256
	handOversAtOnce = 2
	// handOverSilence of etcd lets hand-overs wait: the lease is refreshed each third of its time, so it is more than an etcd that is well
	// keeps.
	handOverSilence = metadata.DefaultLeaseTTL / 2
)

// errEtcdSilent: a hand-over has not been begun.
var errEtcdSilent = fmt.Errorf("%w: it has not answered for more than %v", metadata.ErrUnavailable, handOverSilence)

// keepOwnership does what metadata says about partitions, until ctx ends: it opens what this life was given, claims what it was assigned
// of ended lives, and hands over what is to go elsewhere. Each by itself, so that none waits for another.
func (b *Broker) keepOwnership(ctx context.Context) error {
	var all sync.WaitGroup
	for _, work := range []struct {
		what string
		once func(context.Context) error
	}{{"adopt", b.adoptGiven}, {"take over", b.claimAssigned}, {"hand over", b.handOverIntended}} {
		all.Go(func() { b.onChange(ctx, work.what, work.once) })
	}
	all.Wait()
	return nil
}

// onChange calls once after every change of the image, and after a while when it has failed, until ctx ends.
func (b *Broker) onChange(ctx context.Context, what string, once func(context.Context) error) {
	var failing complaint
	for {
		changed := b.meta.Changed()
		err := once(ctx)
		if err == nil {
			failing = complaint{}
		}
		var again <-chan time.Time
		if err != nil && ctx.Err() == nil {
			if !errors.Is(err, metadata.ErrStale) && failing.news(time.Now()) { // stale: somebody was quicker
				b.log.Warn("moving partitions failed; it is tried again", slog.String("work", what), slog.Any("error", err))
			}
			again = time.After(ownershipRetry)
		}
		select {
		case <-changed:
		case <-again:
		case <-ctx.Done():
			return
		}
	}
}

// A complaint is when a line was last written about work that fails again and again; zero: it did not fail.
type complaint time.Time

// news reports whether a failure is worth a line, and takes it for written. The texts of failures tell little: each time another partition
// may be the first.
func (c *complaint) news(now time.Time) bool {
	if at := time.Time(*c); !at.IsZero() && now.Sub(at) < complainEvery {
		return false
	}
	*c = complaint(now)
	return true
}

// adoptGiven opens the partitions that other lives have handed over to this one.
func (b *Broker) adoptGiven(ctx context.Context) error {
	b.opening.Lock() // what is being claimed shows as ours before it is open
	defer b.opening.Unlock()
	var ids []protocol.PartitionID
	back := false
	forEachPartition(b.meta.Image(), func(_ *metadata.Topic, id protocol.PartitionID, p metadata.Partition) {
		if p.Owner == b.life && p.LeaderEpoch > 0 && !b.damaged.has(id, p.Rev) {
			l, open := b.logs.Get(id)
			if !open {
				ids = append(ids, id)
			}
			back = back || open && l.State().LeaderEpoch < p.LeaderEpoch
		}
	})
	if err := b.openGiven(ctx, ids); err != nil || !back {
		return err
	}
	return errOldLogOpen
}

// errOldLogOpen: a partition has come back before this broker knew that it had left. Its log of before goes once that is known, by which nothing
// changes in metadata.
var errOldLogOpen = fmt.Errorf("%w: the log of an earlier ownership is open still", metadata.ErrStale)

// openGiven opens partitions that are this life's.
func (b *Broker) openGiven(ctx context.Context, ids []protocol.PartitionID) error {
	if len(ids) == 0 {
		return nil
	}
	states, err := b.meta.States(ctx, ids)
	if err != nil {
		return err
	}
	b.unloadShards(ids) // a coordinator of before they left, if nobody noticed that, must not answer once they are open
	adopted, err := b.logs.Adopt(ctx, states)
	b.opened(adopted)
	if errors.Is(err, partition.ErrCorrupt) {
		b.log.Error("partitions are damaged and not served", slog.Any("error", err))
		b.noteDamaged(slices.DeleteFunc(states, func(st metadata.PartitionState) bool { return st.Owner != b.life }))
		return nil
	}
	return err
}

// opened looks after logs that were put into the set behind the back of reconcile: their topic may be gone by now, its settings may have
// changed, and a partition of __consumer_offsets has a coordinator.
func (b *Broker) opened(ids []protocol.PartitionID) {
	b.known.Lock()
	defer b.known.Unlock()
	defer b.arrivals.tell()
	v := b.view()
	for _, id := range ids {
		t, ok := v.img.TopicsByID[id.Topic]
		if !ok {
			b.logs.Delete(id)
			continue
		}
		l, ok := b.logs.Get(id)
		if !ok {
			continue
		}
		l.SetPolicy(policyOf(v.logConfig(t)))
		if t.Name == offsetsTopic {
			b.groups.Unload(id.Partition) // a machine of before it left knows nothing of what others have written
			b.loadShard(id.Partition)
		}
	}
}

// handOverIntended gives away the partitions that intents send to other brokers that live. It also finds out when others own what this
// life serves: then its log has been ended.
func (b *Broker) handOverIntended(ctx context.Context) error {
	left, stay, err := b.logs.SettleMoves(ctx)
	b.arrivals.gaveAway(left, time.Now())
	b.unloadGone(left)
	if len(stay) > 0 {
		b.opened(stay) // coordinators among them were dropped meanwhile
	}
	if err != nil {
		return err
	}
	img := b.meta.Image()
	var transfers []partition.Transfer
	foreign, early := false, false
	forEachPartition(img, func(_ *metadata.Topic, id protocol.PartitionID, p metadata.Partition) {
		_, open := b.logs.Get(id)
		leaves := p.Target != wal.Life{} && p.Target != b.life && img.Brokers[p.Target.Broker].Life == p.Target
		switch {
		case p.Owner != b.life:
			foreign = foreign || open
		case leaves && open:
			transfers = append(transfers, partition.Transfer{ID: id, To: p.Target})
		case leaves:
			early = early || !b.damaged.has(id, p.Rev)
		}
	})
	if foreign {
		if err := b.checkOpen(ctx); err != nil {
			return err
		}
	}
	if len(transfers) > 0 && b.wal.Stalled() {
		return errStalled // appends would wait for nothing
	}
	if err := b.handOver(ctx, transfers); err != nil || !early {
		return err
	}
	return errNotOpenYet
}

// errNotOpenYet: a partition is to go on to another broker before it was opened here.
var errNotOpenYet = fmt.Errorf("%w: a partition that is to move is not open yet", metadata.ErrStale)

// unloadShards ends the coordinators of partitions that left.
func (b *Broker) unloadShards(ids []protocol.PartitionID) {
	t, ok := b.meta.Image().Topics[offsetsTopic]
	if !ok {
		return
	}
	for _, id := range ids {
		if id.Topic == t.ID {
			b.groups.Unload(id.Partition)
		}
	}
}

// checkOpen ends the broker if its life is not OPEN any more.
func (b *Broker) checkOpen(ctx context.Context) error {
	st, err := b.meta.Load(ctx, b.life)
	if err != nil {
		return err
	}
	if st.Phase != wal.PhaseOpen {
		b.fence(fmt.Errorf("%w: %s", metadata.ErrFenced, b.life))
	}
	return nil
}

// handOver gives partitions to other lives, and their coordinators with them.
func (b *Broker) handOver(ctx context.Context, transfers []partition.Transfer) error {
	if len(transfers) == 0 {
		return nil
	}
	var g errgroup.Group
	g.SetLimit(handOversAtOnce)
	for some := range slices.Chunk(transfers, handOverMax) {
		g.Go(func() error { return b.handOverSome(ctx, some) })
	}
	return g.Wait()
}

// handOverSome is handOver for partitions that wait for each other.
func (b *Broker) handOverSome(ctx context.Context, transfers []partition.Transfer) error {
	if b.meta.Silence() > handOverSilence {
		return errEtcdSilent // appends would wait for as long as the move's first read
	}
	ctx, cancel := context.WithTimeout(ctx, handOverTimeout)
	defer cancel()
	begun := time.Now()
	moved, err := b.logs.HandOver(ctx, transfers)
	b.arrivals.gaveAway(moved, time.Now())
	ids := make([]protocol.PartitionID, len(transfers))
	for i, t := range transfers {
		ids[i] = t.ID
	}
	b.unloadGone(ids)
	if len(moved) > 0 {
		b.log.Info("handed over partitions", slog.Int("partitions", len(moved)), slog.Duration("took", time.Since(begun)))
	}
	return err
}

// unloadGone ends the coordinators of partitions that left, or whose moves have an unknown outcome: nobody may be told what they know, and when
// their logs go on they are loaded from the records. What is open again by now has a coordinator that knows what happened meanwhile.
func (b *Broker) unloadGone(ids []protocol.PartitionID) {
	b.known.Lock() // opened loads under it
	defer b.known.Unlock()
	b.unloadShards(slices.DeleteFunc(slices.Clone(ids), func(id protocol.PartitionID) bool {
		l, open := b.logs.Get(id)
		return open && !l.MoveUnknown()
	}))
}
