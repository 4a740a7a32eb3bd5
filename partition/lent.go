package partition

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/tidemill/tidemill/protocol"
)

// lentSlots are the slots of this life that partitions which went to other owners need, until those have rewritten them: the first of
// each. They are not deleted meanwhile, as only this life deletes its slots.
type lentSlots struct {
	mu    sync.Mutex
	first map[protocol.PartitionID]lent
	// loans counts all that were made.
	loans int64
}

// lent is the first slot that a partition needs, and which loan was its last.
type lent struct{ seq, loan int64 }

func (t *lentSlots) add(id protocol.PartitionID, seq int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.first == nil {
		t.first = map[protocol.PartitionID]lent{}
	}
	if old, known := t.first[id]; known {
		seq = min(seq, old.seq)
	}
	t.loans++
	t.first[id] = lent{seq, t.loans}
}

// needed returns the first slot that is lent, or upTo.
func (t *lentSlots) needed(upTo int64) int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, x := range t.first {
		upTo = min(upTo, x.seq)
	}
	return upTo
}

func (t *lentSlots) all() map[protocol.PartitionID]lent {
	t.mu.Lock()
	defer t.mu.Unlock()
	return maps.Clone(t.first)
}

// returned ends a loan, unless the partition came back and left again meanwhile.
func (t *lentSlots) returned(id protocol.PartitionID, x lent) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.first[id] == x {
		delete(t.first, id)
	}
}

// takeBack looks at the partitions that were lent slots: those whose manifests do without them by now, whoever owns them, need them no
// more, nor do those that were deleted. No later manifest can name them again.
func (s *Set) takeBack(ctx context.Context) error {
	loans := s.lent.all()
	for id := range loans {
		if l, ok := s.Get(id); ok && l.moveUnknown.Load() {
			delete(loans, id) // the move may be applied yet, with a manifest that names slots
		}
	}
	if len(loans) == 0 {
		return nil
	}
	states, err := s.opts.Manifests.States(ctx, slices.Collect(maps.Keys(loans)))
	if err != nil {
		return fmt.Errorf("read partitions that moved: %w", err)
	}
	var all []*opening
	for _, st := range states {
		all = append(all, &opening{state: st})
	}
	if err := s.loadManifests(ctx, all); err != nil {
		return fmt.Errorf("load manifests of partitions that moved: %w", err)
	}
	for _, o := range all {
		if o.err != nil || slices.ContainsFunc(o.log.recent, func(e Extent) bool { return e.Life == s.life }) {
			delete(loans, o.state.ID)
		}
	}
	for id, x := range loans {
		s.lent.returned(id, x)
	}
	return nil
}
