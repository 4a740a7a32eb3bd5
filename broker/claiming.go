package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/tidemill/tidemill/metadata"
	"github.com/tidemill/tidemill/partition"
	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/wal"
)

// endedLives are the states of lives whose logs are SEALED.
type endedLives map[wal.Life]wal.StreamState

// endedOwners asks for the states of lives and returns those that are SEALED.
func (b *Broker) endedOwners(ctx context.Context, lives map[wal.Life]bool) (endedLives, error) {
	ended := endedLives{}
	for life := range lives {
		s, err := b.meta.Load(ctx, life)
		if err != nil {
			return nil, fmt.Errorf("load the state of life %s: %w", life, err)
		}
		if s.Phase == wal.PhaseSealed {
			ended[life] = s
		}
	}
	return ended, nil
}

// loadRecoveries reads what sealers left of lives, as far as it is needed. It takes the lives whose recovery cannot be read out of ended, and
// says why.
func (b *Broker) loadRecoveries(ctx context.Context, ended endedLives) (map[wal.Life]wal.Recovery, error) {
	recoveries := map[wal.Life]wal.Recovery{}
	var failed []error
	for life, s := range ended {
		if s.RecoveryKey == "" || s.Trim >= s.N {
			continue
		}
		r, err := wal.LoadRecovery(ctx, b.store, s.RecoveryKey)
		if err == nil && (r.N != s.N || r.Digest != s.Digest) {
			err = fmt.Errorf("%w: it says %d slots, etcd says %d", wal.ErrCorrupt, r.N, s.N)
		}
		if err != nil {
			failed = append(failed, fmt.Errorf("load the recovery of life %s: %w", life, err))
			delete(ended, life)
			continue
		}
		recoveries[life] = r
	}
	return recoveries, errors.Join(failed...)
}

// claim opens partitions whose owners' logs have ended and makes this life their owner (O2b). Those of states that are ours already are
// what an earlier attempt has claimed. Damaged partitions are left out; damaged tells whether there are any.
func (b *Broker) claim(ctx context.Context, states []metadata.PartitionState, recoveries map[wal.Life]wal.Recovery) (damaged bool, err error) {
	claims, err := b.logs.Open(ctx, states, recoveries)
	damaged = errors.Is(err, partition.ErrCorrupt)
	if err != nil && !damaged {
		return false, fmt.Errorf("open partitions: %w", err)
	}
	if damaged {
		// What is left of these partitions stays where it lies, for a person to look at; the others are served.
		b.log.Error("partitions are damaged and not served", slog.Any("error", err))
	}
	if err := b.meta.Claim(ctx, b.life, claims); err != nil {
		return damaged, fmt.Errorf("claim partitions: %w", err)
	}
	return damaged, b.logs.Claimed(ctx)
}

// trimEnded notes that everything of ended lives is in manifests now: no later start looks at their slots (G1). It is right only for
// lives that own nothing any more.
func (b *Broker) trimEnded(ctx context.Context, ended endedLives) error {
	for life, s := range ended {
		if s.Trim >= s.N {
			continue
		}
		if err := b.meta.Trim(ctx, life, s.Rev, s.N); err != nil {
			return fmt.Errorf("trim the log of life %s: %w", life, err)
		}
	}
	return nil
}

// claimAssigned takes over the partitions of ended lives that the controller assigned to this one. It returns an error when it is to be
// tried again though nothing changes.
func (b *Broker) claimAssigned(ctx context.Context) error {
	b.opening.Lock()
	defer b.opening.Unlock()
	owners := map[wal.Life]bool{}
	var ids []protocol.PartitionID
	forEachPartition(b.meta.Image(), func(_ *metadata.Topic, id protocol.PartitionID, p metadata.Partition) {
		if p.Target == b.life && p.Owner != b.life && !b.damaged.has(id, p.Rev) {
			ids, owners[p.Owner] = append(ids, id), true
		}
	})
	if len(ids) == 0 && !b.claimsOpen {
		return nil
	}
	ended, err := b.endedOwners(ctx, owners)
	if err != nil || len(ended) == 0 && !b.claimsOpen {
		return err // their owners live and will hand them over
	}
	left, err := b.logs.Unclaimed(ctx)
	if err != nil {
		return err
	}
	// One life that cannot be read must not keep the partitions of others from being served, unless an earlier claim is open: it may have
	// been of that life, and what it would refer to must stay.
	recoveries, unreadable := b.loadRecoveries(ctx, ended)
	if unreadable != nil && (len(left) > 0 || len(ended) == 0) {
		return unreadable
	}
	states, err := b.meta.States(ctx, append(ids, left...))
	if err != nil {
		return err
	}
	var mine []metadata.PartitionState
	seen := map[protocol.PartitionID]bool{}
	for _, st := range states {
		if _, over := ended[st.Owner]; !seen[st.ID] && (over || st.Owner == b.life) {
			mine, seen[st.ID] = append(mine, st), true
		}
	}
	damaged, err := b.takeOver(ctx, mine, recoveries)
	if err != nil || damaged {
		return errors.Join(err, unreadable)
	}
	return errors.Join(unreadable, b.trimOwnerless(ctx, ended))
}

// takeOver claims partitions of ended lives while this broker serves others. Those of states that are ours are what an earlier claim got, whose
// outcome was not known.
func (b *Broker) takeOver(ctx context.Context, states []metadata.PartitionState, recoveries map[wal.Life]wal.Recovery) (damaged bool, err error) {
	var ids []protocol.PartitionID
	var foreign []metadata.PartitionState
	for _, st := range states {
		if _, open := b.logs.Get(st.ID); !open {
			ids = append(ids, st.ID)
		}
		if st.Owner != b.life {
			foreign = append(foreign, st)
		}
	}
	b.unloadShards(ids) // as in adoptGiven
	damaged, err = b.claim(ctx, states, recoveries)
	b.claimsOpen = err != nil
	b.opened(ids) // after an error, too: what an earlier claim got is open now
	if err != nil {
		return false, err
	}
	served := len(foreign)
	if damaged { // what was given to us meanwhile is not open either, and sound: see adoptGiven
		served -= b.noteDamaged(foreign)
	}
	if served > 0 {
		b.log.Info("took over partitions", slog.Int("partitions", served))
	}
	return damaged, nil
}

// noteDamaged remembers those partitions that could not be opened, and says how many there are.
func (b *Broker) noteDamaged(states []metadata.PartitionState) (damaged int) {
	for _, st := range states {
		if _, open := b.logs.Get(st.ID); !open {
			b.damaged.add(st.ID, st.Rev)
			damaged++
		}
	}
	return damaged
}

// trimOwnerless trims those of the ended lives that own nothing any more. The image, which may be of before they got their last partition,
// can only spare the question: etcd has to say so, after they were SEALED.
func (b *Broker) trimOwnerless(ctx context.Context, ended endedLives) error {
	forEachPartition(b.meta.Image(), func(_ *metadata.Topic, _ protocol.PartitionID, p metadata.Partition) { delete(ended, p.Owner) })
	if len(ended) == 0 {
		return nil
	}
	states, err := b.meta.Partitions(ctx)
	if err != nil {
		return err
	}
	for i := range states {
		delete(ended, states[i].Owner)
	}
	return b.trimEnded(ctx, ended)
}

// forEachPartition calls fn for every partition of an image.
func forEachPartition(img *metadata.Image, fn func(t *metadata.Topic, id protocol.PartitionID, p metadata.Partition)) {
	for _, t := range img.TopicsByID {
		for i := range t.Partitions {
			fn(t, protocol.PartitionID{Topic: t.ID, Partition: int32(i)}, t.Partitions[i])
		}
	}
}
