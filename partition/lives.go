package partition

import (
	"slices"
	"sync"

	"github.com/tidemill/tidemill/wal"
)

// lifeTable numbers lives, so that extents need no pointer. It only grows, by one for each life that still has data.
type lifeTable struct {
	mu    sync.RWMutex
	ids   map[wal.Life]uint32
	lives []wal.Life
}

func (t *lifeTable) id(l wal.Life) uint32 {
	t.mu.Lock()
	defer t.mu.Unlock()
	if id, known := t.ids[l]; known {
		return id
	}
	if t.ids == nil {
		t.ids = map[wal.Life]uint32{}
	}
	id := uint32(len(t.lives))
	t.ids[l] = id
	t.lives = append(t.lives, l)
	return id
}

func (t *lifeTable) life(id uint32) wal.Life {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.lives[id]
}

// adopt returns the numbers that lives have here, by their index.
func (t *lifeTable) adopt(lives []wal.Life) []uint32 {
	ids := make([]uint32, len(lives))
	for i, l := range lives {
		ids[i] = t.id(l)
	}
	return ids
}

// localLives collects the lives that one manifest names and numbers them for it.
type localLives struct {
	table *lifeTable
	lives []wal.Life
	seen  []uint32
}

func (c *localLives) id(global uint32) uint32 {
	if i := slices.Index(c.seen, global); i >= 0 {
		return uint32(i)
	}
	c.seen = append(c.seen, global)
	c.lives = append(c.lives, c.table.life(global))
	return uint32(len(c.seen) - 1)
}
