package partition

import (
	"context"
	"errors"
	"fmt"

	"github.com/tidemill/tidemill/metadata"
	"github.com/tidemill/tidemill/objectstore"
	"github.com/tidemill/tidemill/wal"
)

// Sweep lists the bucket and dooms what no manifest refers to: what a crash left between an upload and its manifest, or between a trim and
// its deletions, and what a late request created after it was given up (G4). It deletes nothing itself.
//
// It is safe without a clock. An object can become referred to only by a commit of the life that wrote it, and metadata refuses commits
// for partitions that the life does not own. So of this life's objects only those go that it has no use for and is not writing; of
// another's only when its log was SEALED before the listing of partitions began, in which it owns none: so it can own none again, and
// what no manifest refers to then, none will. Of slots only those below the trim and behind the end go (G2). Seals stay (G3).
func (s *Set) Sweep(ctx context.Context) error {
	g := sweeper{set: s, ctx: ctx, lives: map[wal.Life]wal.StreamState{}}
	known := s.objects.snapshot()
	for _, prefix := range []string{SegmentPrefix, ManifestPrefix, "wal/"} {
		for info, err := range s.opts.Store.List(ctx, prefix, "") {
			if err == nil {
				err = g.look(info, known)
			}
			if err != nil {
				return fmt.Errorf("sweep: %w", storeError(err))
			}
		}
	}
	found, err := g.judge()
	if err != nil {
		return fmt.Errorf("sweep: %w", err)
	}
	if found > 0 {
		s.opts.Logger.Info("found objects that nothing refers to", "objects", found)
	}
	return nil
}

// sweeper is one pass over the bucket.
type sweeper struct {
	set *Set
	ctx context.Context
	// unknown are objects that this broker's partitions have no use for.
	unknown []objectID
	// lives are the states of the others' logs, as they were before partitions were listed.
	lives map[wal.Life]wal.StreamState
}

// look takes note of an object, and of the log that it belongs to.
func (g *sweeper) look(info objectstore.Info, known func(objectID) bool) error {
	kind, life, seq, ok := ParseObjectKey(info.Key)
	if !ok {
		return nil // not ours to judge
	}
	s := g.set
	id := objectID{kind, s.lives.id(life), seq}
	if kind == KindSegment {
		s.objects.sized(id, info.Size)
	}
	if known(id) || life == s.opts.Life && kind == KindSlot { // this life's slots go by trim
		return nil
	}
	g.unknown = append(g.unknown, id)
	if _, asked := g.lives[life]; asked || life == s.opts.Life {
		return nil
	}
	st, err := s.opts.Manifests.Load(g.ctx, life)
	if err != nil && !errors.Is(err, metadata.ErrUnknownLife) { // another cluster's, or metadata was lost: a person has to look
		return err
	}
	g.lives[life] = st
	return nil
}

// judge dooms what nobody can need and says how much that is.
func (g *sweeper) judge() (found int, err error) {
	s := g.set
	states, err := s.opts.Manifests.Partitions(g.ctx)
	if err != nil {
		return 0, fmt.Errorf("list partitions: %w", err)
	}
	owners := map[wal.Life]bool{}
	for _, st := range states {
		owners[st.Owner] = true
	}
	// When a manifest of others cannot be read, what it refers to is not known, be it of this life or of others: all stays.
	foreign, unread := s.foreignObjects(g.ctx, states)
	for life, st := range g.lives {
		if st.Phase == wal.PhaseSealed && !owners[life] && st.Trim < st.N {
			// Whoever took over its partitions has all of it in manifests, and did not live to say so.
			if err := s.opts.Manifests.Trim(g.ctx, life, st.Rev, st.N); err == nil {
				st.Trim = st.N
				g.lives[life] = st
			} // else another sweep was quicker, or the next one does it
		}
	}
	for _, id := range g.unknown {
		life := s.lives.life(id.life)
		if foreign[id] || unread != nil || life != s.opts.Life && !garbage(id, g.lives[life], owners[life]) {
			continue
		}
		if s.objects.doomUnknown(id, s.opts.Now()) {
			found++
		}
	}
	return found, unread
}

// garbage reports whether an object of another life that no manifest refers to can never be needed.
func garbage(id objectID, st wal.StreamState, owns bool) bool {
	if st.Phase != wal.PhaseSealed || owns {
		return false
	}
	return id.kind != KindSlot || id.seq < st.Deletable() || id.seq > st.N
}

// foreignObjects returns what the manifests of partitions refer to that have other owners, or no log here of this ownership. There may be a log of
// what another owns, or has given back: a move of unknown outcome is not settled, or this life was ended and does not know.
func (s *Set) foreignObjects(ctx context.Context, states []metadata.PartitionState) (map[objectID]bool, error) {
	var all []*opening
	for _, st := range states {
		if l, open := s.Get(st.ID); !open || !s.opts.Faults.SweepBlind && (st.Owner != s.opts.Life || st.LeaderEpoch != l.State().LeaderEpoch) {
			all = append(all, &opening{state: st})
		}
	}
	if err := s.loadManifests(ctx, all); err != nil {
		return nil, fmt.Errorf("load manifests: %w", err)
	}
	out := map[objectID]bool{}
	for _, o := range all {
		if o.err != nil {
			return nil, fmt.Errorf("manifest of %v: %w", o.state.ID, o.err)
		}
		for i := range o.log.parts {
			out[o.log.parts[i].object()] = true
		}
		for i := range o.log.recent {
			out[o.log.recent[i].object()] = true
		}
		for _, h := range o.log.heads {
			out[h.objectID] = true
		}
	}
	return out, nil
}
