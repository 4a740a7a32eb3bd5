package partition

import (
	"sync"
	"time"
)

// objectTable counts who refers to each object that the logs of a Set need: parts to segments, manifests to manifest objects, extents
// to slots of earlier lives. What this life wrote and nobody refers to any more is doomed, and deleted after a while. An object that is being written is in
// the table without a reference, so that no sweep takes it for garbage.
type objectTable struct {
	mu     sync.Mutex
	uses   map[objectID]use
	doomed []doomed
	// own is this life. What others wrote, partitions of other owners may refer to: only a sweep can tell. astray: there is such.
	own    uint32
	astray bool
	// departed are objects that partitions took along to other owners since the last snapshot: a sweep that began before may not know them.
	departed map[objectID]bool
}

const (
	// wasteMin and wasteRatio say when what is left in an object moves to another: when it is less than a quarter of 1 MiB or more.
	wasteMin   = 1 << 20
	wasteRatio = 4
)

// use is how an object is used. live is how much of it the logs refer to, size its length, 0 while that is not known. lent: partitions
// that went to other owners may refer to it too. writing: whoever writes it has more logs to let refer to it, so that it stays in the table
// without a reference.
type use struct {
	refs       int
	live, size int64
	lent       bool
	writing    bool
}

// doomed are objects that nobody refers to since a moment: one, or slots of this life up to another.
type doomed struct {
	objectID
	until int64
	since time.Time
}

// reference is a use of an object, of so many bytes.
type reference struct {
	objectID
	bytes int64
}

func (t *objectTable) init(own uint32) { t.uses, t.own = map[objectID]use{}, own }

// begin notes an object that will be written.
func (t *objectTable) begin(id objectID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.uses[id] = use{writing: true}
}

// sized notes an object's length.
func (t *objectTable) sized(id objectID, size int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if u, known := t.uses[id]; known {
		u.size = size
		t.uses[id] = u
	}
}

// retain adds a reference.
func (t *objectTable) retain(r reference) {
	t.mu.Lock()
	defer t.mu.Unlock()
	u := t.uses[r.objectID]
	u.refs++
	u.live += r.bytes
	t.uses[r.objectID] = u
}

// retainShared adds the references of a log that came from another owner: objects of this life among them were lent before, and may
// be to others still.
func (t *objectTable) retainShared(refs []reference) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, r := range refs {
		u := t.uses[r.objectID]
		u.refs++
		u.live += r.bytes
		u.lent = u.lent || r.life == t.own
		t.uses[r.objectID] = u
	}
}

// release drops references. Objects of this life that were the last ones' are doomed; others, and what partitions of other owners may
// refer to, are left to a sweep.
func (t *objectTable) release(refs []reference, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.releaseLocked(refs, false, now)
}

// lend drops the references of a partition that another life owns now, which refers to the objects instead.
func (t *objectTable) lend(refs []reference, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.releaseLocked(refs, true, now)
}

func (t *objectTable) releaseLocked(refs []reference, lent bool, now time.Time) {
	for _, r := range refs {
		u := t.uses[r.objectID]
		u.refs--
		u.live -= r.bytes
		u.lent = u.lent || lent
		t.uses[r.objectID] = u
		if lent && t.departed != nil {
			t.departed[r.objectID] = true
		}
		switch {
		case u.refs > 0 || u.writing:
		case r.life == t.own && !u.lent:
			t.doomLocked(r.objectID, now)
		default:
			delete(t.uses, r.objectID)
			t.astray = true
		}
	}
}

// takeAstray reports whether this Set has let go of objects that others wrote, since it was last asked.
func (t *objectTable) takeAstray() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	astray := t.astray
	t.astray = false
	return astray
}

// wasteful reports whether most of a large object is not needed any more.
func (t *objectTable) wasteful(id objectID) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	u := t.uses[id]
	return u.size >= wasteMin && u.live < u.size/wasteRatio
}

// abandon ends what begin began: nobody else will refer to the object. If nobody does it is doomed, or left to a sweep when partitions that
// went to other owners may.
func (t *objectTable) abandon(id objectID, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	u, known := t.uses[id]
	if !known {
		return
	}
	u.writing = false
	t.uses[id] = u
	switch {
	case u.refs > 0:
	case u.lent:
		delete(t.uses, id)
		t.astray = true
	default:
		t.doomLocked(id, now)
	}
}

func (t *objectTable) doomLocked(id objectID, now time.Time) {
	delete(t.uses, id)
	t.doomed = append(t.doomed, doomed{objectID: id, until: id.seq + 1, since: now})
}

// doomUnknown dooms an object that is not in the table, and reports whether it was so.
func (t *objectTable) doomUnknown(id objectID, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, known := t.uses[id]
	known = known || t.departed[id]
	if !known {
		t.doomLocked(id, now)
	}
	return !known
}

// doomSlots dooms a range of slots.
func (t *objectTable) doomSlots(life uint32, from, until int64, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.doomed = append(t.doomed, doomed{objectID: objectID{KindSlot, life, from}, until: until, since: now})
}

// snapshot returns a function that reports whether an object is referred to, being written, or doomed, as of now.
func (t *objectTable) snapshot() func(objectID) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.departed = map[objectID]bool{}
	known := make(map[objectID]struct{}, len(t.uses)+len(t.doomed))
	for id := range t.uses {
		known[id] = struct{}{}
	}
	for i := range t.doomed {
		known[t.doomed[i].objectID] = struct{}{}
	}
	return func(id objectID) bool {
		_, ok := known[id]
		return ok
	}
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

// putBack returns what could not be deleted, to be due again later.
func (t *objectTable) putBack(d []doomed, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, x := range d {
		x.since = now
		t.doomed = append(t.doomed, x)
	}
}

func (t *objectTable) counts() (used, waiting int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.uses), len(t.doomed)
}
