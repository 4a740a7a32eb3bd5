package sim

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tidemill/tidemill/metadata"
	"github.com/tidemill/tidemill/partition"
	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/wal"
)

// handOverTimeout is that of package broker.
const handOverTimeout = 10 * time.Second

func forEachPartition(img *metadata.Image, fn func(id protocol.PartitionID, p metadata.Partition)) {
	for _, t := range img.TopicsByID {
		for i := range t.Partitions {
			fn(partition0(int32(i)), t.Partitions[i])
		}
	}
}

// react does what the image says, as the loops of package broker do. Each job begins in an event of its own.
func (n *node) react() {
	var given, assigned, foreign, unsettled, back, early bool
	var transfers []partition.Transfer
	forEachPartition(n.image, func(id protocol.PartitionID, p metadata.Partition) {
		l, open := n.set.Get(id)
		unsettled = unsettled || open && !l.Settled()
		switch {
		case p.Owner == n.life && !open && p.LeaderEpoch == 0:
			n.set.Create(id, 0) // an old image shows as new what this life has given away
		case p.Owner == n.life && !open:
			given = true
		case p.Owner != n.life && open:
			foreign = true
		}
		back = back || p.Owner == n.life && open && l.State().LeaderEpoch < p.LeaderEpoch
		assigned = assigned || p.Target == n.life && p.Owner != n.life
		switch {
		case !n.transfers(id, p):
		case open:
			transfers = append(transfers, partition.Transfer{ID: id, To: p.Target})
		default:
			early = true
		}
	})
	begin := func(when bool, what string, f func(context.Context, *metadata.Image) error) {
		if when {
			n.after(0, func() { n.do(what, f) })
		}
	}
	// One thing at a time opens partitions, as package broker holds a lock meanwhile.
	begin(given || assigned || back || n.claimsOpen.Load(), "open", func(ctx context.Context, img *metadata.Image) error {
		err := cmp.Or(n.claimAssigned(ctx, img), n.adoptGiven(ctx, img))
		if err == nil && back {
			err = errOldLogOpen
		}
		return err
	})
	begin(len(transfers) > 0 || unsettled || early, "hand over", func(ctx context.Context, _ *metadata.Image) error {
		err := n.handOver(ctx, transfers)
		if err == nil && early {
			err = errNotOpenYet
		}
		return err
	})
	begin(foreign, "check", n.checkOpen)
	begin(n.image.Brokers[n.broker.id].Life != n.life, "register", func(ctx context.Context, _ *metadata.Image) error {
		return n.fence(n.meta.Register(ctx, n.life))
	})
}

// What is tried again though nothing changes in metadata.
var (
	errOldLogOpen = errors.New("simulated: the log of an earlier ownership is open still")
	errNotOpenYet = errors.New("simulated: a partition that is to move is not open yet")
)

// fence ends a node that etcd calls ended.
func (n *node) fence(err error) error {
	if errors.Is(err, metadata.ErrFenced) {
		n.post("is over", func() { n.fall(n.w.between(0, time.Second)) })
	}
	return err
}

func (n *node) checkOpen(ctx context.Context, _ *metadata.Image) error {
	st, err := n.meta.Load(ctx, n.life)
	if err == nil && st.Phase != wal.PhaseOpen {
		err = metadata.ErrFenced
	}
	return n.fence(err)
}

// transfers reports whether a partition of this life is to go to one that lives.
func (n *node) transfers(id protocol.PartitionID, p metadata.Partition) bool {
	if p.Owner != n.life || p.Target == (wal.Life{}) || p.Target == n.life || n.image.Brokers[p.Target.Broker].Life != p.Target {
		return false
	}
	return true
}

// adoptGiven opens the partitions that other lives have handed over to this one.
func (n *node) adoptGiven(ctx context.Context, img *metadata.Image) error {
	var ids []protocol.PartitionID
	forEachPartition(img, func(id protocol.PartitionID, p metadata.Partition) {
		if p.Owner == n.life && p.LeaderEpoch > 0 {
			if _, open := n.set.Get(id); !open {
				ids = append(ids, id)
			}
		}
	})
	if len(ids) == 0 {
		return nil
	}
	states, err := n.meta.States(ctx, ids)
	if err != nil {
		return err
	}
	adopted, err := n.set.Adopt(ctx, states)
	n.tell("adopted", adopted)
	return n.damaged(err)
}

// tell traces what a job has done to partitions.
func (n *node) tell(what string, ids []protocol.PartitionID) {
	for _, id := range ids {
		n.post(what+" "+partKey(id), func() { n.w.trace(what, "partition %d by %s", id.Partition, n.name) })
	}
}

// damaged: nothing damages bytes here, so what looks damaged is a violation.
func (n *node) damaged(err error) error {
	if errors.Is(err, partition.ErrCorrupt) || errors.Is(err, wal.ErrQuarantine) {
		n.post("damaged", func() { n.w.violate("damaged", "%s: %v", n.name, err) })
	}
	return err
}

// handOver gives away the partitions that intents send to other brokers that live.
func (n *node) handOver(ctx context.Context, transfers []partition.Transfer) error {
	ctx, cancel := context.WithTimeout(ctx, handOverTimeout)
	defer cancel()
	if _, _, err := n.set.SettleMoves(ctx); err != nil {
		return err
	}
	moved, err := n.set.HandOver(ctx, transfers)
	n.tell("moved", moved)
	return n.damaged(err)
}

// endPreviousLives seals what earlier processes of this broker left open (S1-S7).
func (n *node) endPreviousLives(ctx context.Context) error {
	lives, err := n.meta.Lives(ctx, n.broker.id)
	if err != nil {
		return err
	}
	for _, st := range lives {
		if st.Phase == wal.PhaseSealed || st.Life.Epoch >= n.life.Epoch {
			continue
		}
		if err := n.seal(ctx, st.Life); err != nil {
			return err
		}
	}
	return nil
}

// seal ends the log of a life (S2-S6).
func (n *node) seal(ctx context.Context, life wal.Life) error {
	_, err := wal.Seal(ctx, n.bucket, n.meta, life, wal.SealOptions{Cluster: simCluster, Name: n.name, Logger: quiet, Random: n.chance(life)})
	return n.damaged(err)
}

// claimOnce takes over what earlier lives of this broker owned.
func (n *node) claimOnce(ctx context.Context) error {
	states, err := n.meta.Partitions(ctx)
	if err != nil {
		return err
	}
	owners := map[wal.Life]bool{}
	for _, p := range states {
		if p.Owner.Broker == n.broker.id && p.Owner != n.life {
			owners[p.Owner] = true
		}
	}
	ended, err := n.endedOwners(ctx, owners)
	if err != nil {
		return err
	}
	return n.claimEnded(ctx, states, ended)
}

// claimAssigned takes over the partitions of ended lives that the controller assigned to this one.
func (n *node) claimAssigned(ctx context.Context, img *metadata.Image) error {
	owners := map[wal.Life]bool{}
	var ids []protocol.PartitionID
	forEachPartition(img, func(id protocol.PartitionID, p metadata.Partition) {
		if p.Target == n.life && p.Owner != n.life {
			ids, owners[p.Owner] = append(ids, id), true
		}
	})
	open := n.claimsOpen.Load()
	if len(ids) == 0 && !open {
		return nil
	}
	ended, err := n.endedOwners(ctx, owners)
	if err != nil || len(ended) == 0 && !open {
		return err // their owners live and will hand them over
	}
	left, err := n.set.Unclaimed(ctx)
	if err != nil {
		return err
	}
	states, err := n.meta.States(ctx, append(ids, left...))
	if err != nil {
		return err
	}
	if len(ended) == 0 {
		return n.claim(ctx, slices.DeleteFunc(states, func(st metadata.PartitionState) bool { return st.Owner != n.life }), wal.StreamState{})
	}
	return n.claimEnded(ctx, states, ended)
}

// claimEnded claims life by life, in an order that is the same in every run; package broker takes all at once.
func (n *node) claimEnded(ctx context.Context, states []metadata.PartitionState, ended map[wal.Life]wal.StreamState) error {
	byName := map[string]wal.StreamState{}
	for life, st := range ended {
		byName[life.String()] = st
	}
	for _, name := range sortedKeys(byName) {
		st := byName[name]
		var mine []metadata.PartitionState
		seen := map[int32]bool{}
		for _, p := range states {
			if (p.Owner == st.Life || p.Owner == n.life) && !seen[p.ID.Partition] {
				mine, seen[p.ID.Partition] = append(mine, p), true
			}
		}
		if err := n.claim(ctx, mine, st); err != nil {
			return err
		}
	}
	return nil
}

// claim opens the partitions of an ended life, or of none, and makes this life their owner (O2b).
func (n *node) claim(ctx context.Context, states []metadata.PartitionState, ended wal.StreamState) (err error) {
	defer func() { n.claimsOpen.Store(err != nil) }()
	recoveries, err := n.recoveries(ctx, ended)
	if err != nil {
		return n.damaged(err)
	}
	claims, err := n.set.Open(ctx, states, recoveries)
	if err != nil {
		return n.damaged(err)
	}
	if err := n.meta.Claim(ctx, n.life, claims); err != nil {
		return err
	}
	if err := n.set.Claimed(ctx); err != nil {
		return err
	}
	for i := range claims {
		n.tell("claimed", []protocol.PartitionID{claims[i].ID})
	}
	return n.trimEnded(ctx, ended)
}

// recoveries reads how the log of an ended life ended.
func (n *node) recoveries(ctx context.Context, ended wal.StreamState) (map[wal.Life]wal.Recovery, error) {
	m := &n.w.cfg.mistakes
	switch {
	case ended.Life == wal.Life{}:
		return nil, nil
	case ended.Phase != wal.PhaseSealed:
		r, err := n.guessRecovery(ctx, ended)
		return map[wal.Life]wal.Recovery{ended.Life: r}, err
	case m.noRecovery || ended.RecoveryKey == "" || ended.Trim >= ended.N:
		return nil, nil
	}
	r, err := wal.LoadRecovery(ctx, n.bucket, ended.RecoveryKey)
	if err == nil && (r.N != ended.N || r.Digest != ended.Digest) {
		err = fmt.Errorf("%w: it says %d slots, etcd says %d", wal.ErrCorrupt, r.N, ended.N)
	}
	if err != nil {
		return nil, fmt.Errorf("load the recovery of %s: %w", ended.Life, err)
	}
	return map[wal.Life]wal.Recovery{ended.Life: r}, nil
}

// trimEnded notes that everything of an ended life is in manifests now, if it owns nothing any more (G1).
func (n *node) trimEnded(ctx context.Context, ended wal.StreamState) error {
	if ended.Trim >= ended.N || ended.Phase != wal.PhaseSealed {
		return nil
	}
	owns := false
	err := n.ask(ctx, "image", func(done func()) {
		forEachPartition(n.image, func(_ protocol.PartitionID, p metadata.Partition) { owns = owns || p.Owner == ended.Life })
		done()
	})
	if err != nil || owns {
		return err
	}
	return n.meta.Trim(ctx, ended.Life, ended.Rev, ended.N)
}

// endedOwners returns the lives among some whose logs are SEALED.
func (n *node) endedOwners(ctx context.Context, lives map[wal.Life]bool) (map[wal.Life]wal.StreamState, error) {
	byName := map[string]wal.Life{}
	for life := range lives {
		byName[life.String()] = life
	}
	ended := map[wal.Life]wal.StreamState{}
	for _, name := range sortedKeys(byName) {
		st, err := n.meta.Load(ctx, byName[name])
		if err != nil {
			return nil, err
		}
		if st.Phase == wal.PhaseSealed || n.w.cfg.mistakes.unsealed && st.Phase == wal.PhaseSealing {
			ended[st.Life] = st
		}
	}
	return ended, nil
}
