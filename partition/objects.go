package partition

import (
	"sync"
	"time"
)

// objectTable counts who refers to each object that the logs of a Set need: parts to segments, manifests to manifest objects, extents
// to slots of earlier lives. What nobody refers to any more is doomed, and deleted after a while. An object that is being written is in
// the table without a reference, so that no sweep takes it for garbage.
type objectTable struct {
	mu     sync.Mutex
	uses   map[objectID]int
	doomed []doomed
}

// doomed are objects that nobody refers to since a moment: one, or slots of this life up to another.
type doomed struct {
	objectID
	until int64
	since time.Time
}

func (t *objectTable) init() { t.uses = map[objectID]int{} }

// begin notes an object that will be written.
func (t *objectTable) begin(id objectID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.uses[id] += 0
}

// retain adds a reference.
func (t *objectTable) retain(id objectID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.uses[id]++
}

// release drops references; objects that were the last ones' are doomed.
func (t *objectTable) release(ids []objectID, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, id := range ids {
		if t.uses[id]--; t.uses[id] <= 0 {
			t.doomLocked(id, now)
		}
	}
}

// abandon dooms an object that was begun, unless somebody refers to it.
func (t *objectTable) abandon(id objectID, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n, known := t.uses[id]; known && n == 0 {
		t.doomLocked(id, now)
	}
}

func (t *objectTable) doomLocked(id objectID, now time.Time) {
	delete(t.uses, id)
	t.doomed = append(t.doomed, doomed{objectID: id, until: id.seq + 1, since: now})
}

// doom dooms an object that is not in the table.
func (t *objectTable) doom(id objectID, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.doomLocked(id, now)
}

// doomSlots dooms a range of slots.
func (t *objectTable) doomSlots(life uint32, from, until int64, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.doomed = append(t.doomed, doomed{objectID: objectID{KindSlot, life, from}, until: until, since: now})
}

// known reports whether an object is referred to, being written, or doomed.
func (t *objectTable) known(id objectID) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, known := t.uses[id]; known {
		return true
	}
	for i := range t.doomed {
		if d := &t.doomed[i]; d.kind == id.kind && d.life == id.life && d.seq <= id.seq && id.seq < d.until {
			return true
		}
	}
	return false
}

// due takes what has been doomed since before a moment. What it returns is in order of since.
func (t *objectTable) due(before time.Time) []doomed {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := 0
	for n < len(t.doomed) && !t.doomed[n].since.After(before) {
		n++
	}
	out := append([]doomed(nil), t.doomed[:n]...)
	t.doomed = append([]doomed(nil), t.doomed[n:]...)
	return out
}

// putBack returns what could not be deleted.
func (t *objectTable) putBack(d []doomed) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.doomed = append(append([]doomed(nil), d...), t.doomed...)
}

func (t *objectTable) counts() (used, waiting int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.uses), len(t.doomed)
}
