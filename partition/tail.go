package partition

import (
	"sync"

	"github.com/tidemill/tidemill/wal"
)

// tailCache keeps the newest committed slots of this life, first in first out, within a byte budget. Slots are dense, so it is a queue.
type tailCache struct {
	mu     sync.RWMutex
	budget int64
	bytes  int64
	// first is the number of slots[0].
	first int64
	slots []*wal.Object
}

func (t *tailCache) init(budget int64) { t.budget = budget }

// add keeps a slot's object. A slot larger than the budget is not kept.
func (t *tailCache) add(s *wal.Slot) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s.Seq != t.first+int64(len(t.slots)) {
		for _, o := range t.slots {
			o.Release()
		}
		t.first, t.slots, t.bytes = s.Seq, nil, 0
	}
	s.Object.Retain()
	t.slots = append(t.slots, s.Object)
	t.bytes += s.Object.Taken()
	for t.bytes > t.budget {
		t.bytes -= t.slots[0].Taken()
		t.slots[0].Release()
		t.slots[0] = nil
		t.slots = t.slots[1:]
		t.first++
	}
}

// get returns a slot's object, which the caller releases, or nil.
func (t *tailCache) get(seq int64) *wal.Object {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if i := seq - t.first; i >= 0 && i < int64(len(t.slots)) {
		o := t.slots[i]
		o.Retain()
		return o
	}
	return nil
}

// firstSeq returns the number of the oldest slot in the cache: all from it on are there.
func (t *tailCache) firstSeq() int64 {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.first
}

// has reports whether a slot is in the cache.
func (t *tailCache) has(seq int64) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	i := seq - t.first
	return i >= 0 && i < int64(len(t.slots))
}

func (t *tailCache) size() int64 {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.bytes
}
