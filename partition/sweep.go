package partition

import (
	"context"
	"errors"
	"fmt"

	"github.com/tidemill/tidemill/metadata"
	"github.com/tidemill/tidemill/wal"
)

// Sweep lists the bucket and dooms what no manifest refers to: what a crash left between an upload and its manifest, or between a trim and
// its deletions, and what a late request created after it was given up (G4). It deletes nothing itself.
//
// It is safe without a clock. An object can become referred to only by a commit of the life that wrote it, and metadata refuses commits
// for partitions that the life does not own. So of this life's objects only those go that it has no use for and is not writing; of
// another's only when its log is SEALED and it owns no partition, and no manifest of any partition refers to them. Seals stay (G3).
func (s *Set) Sweep(ctx context.Context) error {
	known := s.objects.snapshot()
	states, err := s.opts.Manifests.Partitions(ctx)
	if err != nil {
		return fmt.Errorf("sweep: list partitions: %w", err)
	}
	g := sweeper{set: s, ctx: ctx, known: known, owners: map[wal.Life]bool{}, lives: map[wal.Life]sweptLife{}}
	if g.foreign, err = s.foreignObjects(ctx, states); err != nil {
		return fmt.Errorf("sweep: %w", err)
	}
	for _, st := range states {
		g.owners[st.Owner] = true
	}
	for _, prefix := range []string{SegmentPrefix, ManifestPrefix, "wal/"} {
		for info, err := range s.opts.Store.List(ctx, prefix, "") {
			if err != nil {
				return fmt.Errorf("sweep: %w", storeError(err))
			}
			if err := g.look(info.Key, info.Size); err != nil {
				return fmt.Errorf("sweep: %w", err)
			}
		}
	}
	if g.found > 0 {
		s.opts.Logger.Info("found objects that nothing refers to", "objects", g.found)
	}
	return nil
}

// sweeper is one pass over the bucket.
type sweeper struct {
	set   *Set
	ctx   context.Context
	known func(objectID) bool
	// foreign are the objects that manifests of other owners' partitions refer to.
	foreign map[objectID]bool
	owners  map[wal.Life]bool
	lives   map[wal.Life]sweptLife
	found   int
}

// sweptLife is what a sweep may do with a life's objects.
type sweptLife struct {
	// gone: it is SEALED and owns nothing. Its log ends at n.
	gone bool
	n    int64
}

// look judges one object.
func (g *sweeper) look(key string, size int64) error {
	kind, life, seq, ok := ParseObjectKey(key)
	if !ok {
		return nil // not ours to judge
	}
	s := g.set
	id := objectID{kind, s.lives.id(life), seq}
	if kind == KindSegment {
		s.objects.sized(id, size)
	}
	if g.known(id) || g.foreign[id] {
		return nil
	}
	if life == s.opts.Life {
		if kind == KindSlot {
			return nil // they go by trim
		}
		if s.objects.doomUnknown(id, s.opts.Now()) {
			g.found++
		}
		return nil
	}
	of, err := g.life(life)
	if err != nil || !of.gone {
		return err
	}
	if kind == KindSlot && seq == of.n {
		return nil // the end of its log stays (G3)
	}
	if s.objects.doomUnknown(id, s.opts.Now()) {
		g.found++
	}
	return nil
}

func (g *sweeper) life(l wal.Life) (sweptLife, error) {
	if of, known := g.lives[l]; known {
		return of, nil
	}
	var of sweptLife
	st, err := g.set.opts.Manifests.Load(g.ctx, l)
	switch {
	case errors.Is(err, metadata.ErrUnknownLife): // another cluster's, or metadata was lost: a person has to look
	case err != nil:
		return of, err
	default:
		of = sweptLife{gone: st.Phase == wal.PhaseSealed && !g.owners[l], n: st.N}
	}
	g.lives[l] = of
	return of, nil
}

// foreignObjects returns what the manifests of partitions with other owners refer to.
func (s *Set) foreignObjects(ctx context.Context, states []metadata.PartitionState) (map[objectID]bool, error) {
	var all []*opening
	for _, st := range states {
		if _, ours := s.Get(st.ID); !ours {
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
