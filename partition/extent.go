package partition

import (
	"encoding/binary"
	"slices"
	"sort"
	"sync"

	"github.com/tidemill/tidemill/wal"
)

// An Extent says where a range of offsets lies: a chunk in a slot. It holds no pointer, so that a million of them cost the garbage
// collector nothing.
type Extent struct {
	Base, Last   int64
	MaxTimestamp int64
	// Seq is the slot's number in the log of the life that Life stands for. Life indexes a table that comes with the extent: that of
	// the manifest or page in storage, that of the Set in memory.
	Seq  int64
	Life uint32
	// Pos and Len locate the chunk in the slot object; CRC is its CRC32C.
	Pos, Len, CRC uint32
}

const extentLen = 48

func (e *Extent) put(b []byte) {
	be := binary.BigEndian
	be.PutUint64(b, uint64(e.Base))
	be.PutUint64(b[8:], uint64(e.Last))
	be.PutUint64(b[16:], uint64(e.MaxTimestamp))
	be.PutUint64(b[24:], uint64(e.Seq))
	be.PutUint32(b[32:], e.Life)
	be.PutUint32(b[36:], e.Pos)
	be.PutUint32(b[40:], e.Len)
	be.PutUint32(b[44:], e.CRC)
}

func getExtent(b []byte) Extent {
	be := binary.BigEndian
	return Extent{
		Base:         int64(be.Uint64(b)),
		Last:         int64(be.Uint64(b[8:])),
		MaxTimestamp: int64(be.Uint64(b[16:])),
		Seq:          int64(be.Uint64(b[24:])),
		Life:         be.Uint32(b[32:]),
		Pos:          be.Uint32(b[36:]),
		Len:          be.Uint32(b[40:]),
		CRC:          be.Uint32(b[44:]),
	}
}

// checkExtents holds extents to a run of offsets without hole or overlap that begins at base and returns where it ends.
func checkExtents(extents []Extent, base int64, lives int) (int64, error) {
	for i := range extents {
		e := &extents[i]
		if e.Base != base || e.Last < e.Base || e.Last == maxOffset || e.Seq < 0 || e.Len == 0 || e.Pos > maxObject-e.Len || e.Len > maxObject {
			return 0, corruptf("extent %d-%d of slot %d at %d+%d, want one from %d", e.Base, e.Last, e.Seq, e.Pos, e.Len, base)
		}
		if int64(e.Life) >= int64(lives) {
			return 0, corruptf("extent of life %d of %d", e.Life, lives)
		}
		base = e.Last + 1
	}
	return base, nil
}

// findExtent returns the index of the extent that holds offset, len(extents) when offset is behind all.
func findExtent(extents []Extent, offset int64) int {
	return sort.Search(len(extents), func(i int) bool { return extents[i].Last >= offset })
}

// A PageRef names an immutable run of extents in a manifest object.
type PageRef struct {
	// Base and Last are the offsets the page covers; MaxTimestamp and Bytes sum up its extents.
	Base, Last   int64
	MaxTimestamp int64
	Bytes        int64
	// Seq is the manifest object's number among those of the life that Life stands for, see Extent.
	Seq  int64
	Life uint32
	// Pos, Len and CRC locate and check the page's bytes.
	Pos, Len, CRC uint32
	Count         uint32
}

const pageRefLen = 60

func (r *PageRef) put(b []byte) {
	be := binary.BigEndian
	be.PutUint64(b, uint64(r.Base))
	be.PutUint64(b[8:], uint64(r.Last))
	be.PutUint64(b[16:], uint64(r.MaxTimestamp))
	be.PutUint64(b[24:], uint64(r.Bytes))
	be.PutUint64(b[32:], uint64(r.Seq))
	be.PutUint32(b[40:], r.Life)
	be.PutUint32(b[44:], r.Pos)
	be.PutUint32(b[48:], r.Len)
	be.PutUint32(b[52:], r.CRC)
	be.PutUint32(b[56:], r.Count)
}

func getPageRef(b []byte) PageRef {
	be := binary.BigEndian
	return PageRef{
		Base:         int64(be.Uint64(b)),
		Last:         int64(be.Uint64(b[8:])),
		MaxTimestamp: int64(be.Uint64(b[16:])),
		Bytes:        int64(be.Uint64(b[24:])),
		Seq:          int64(be.Uint64(b[32:])),
		Life:         be.Uint32(b[40:]),
		Pos:          be.Uint32(b[44:]),
		Len:          be.Uint32(b[48:]),
		CRC:          be.Uint32(b[52:]),
		Count:        be.Uint32(b[56:]),
	}
}

// checkPages does for page refs what checkExtents does for extents. The first one may begin anywhere.
func checkPages(pages []PageRef, lives int) error {
	for i := range pages {
		r := &pages[i]
		if i > 0 && r.Base != pages[i-1].Last+1 || r.Base < 0 || r.Last < r.Base || r.Last == maxOffset || r.Bytes < 0 || r.Seq < 0 {
			return corruptf("page of offsets %d-%d in manifest object %d", r.Base, r.Last, r.Seq)
		}
		if r.Count == 0 || r.Count > pageExtentsMax || r.Pos > maxObject-r.Len || r.Len > maxObject || int64(r.Life) >= int64(lives) {
			return corruptf("page of %d extents at %d+%d of life %d of %d", r.Count, r.Pos, r.Len, r.Life, lives)
		}
	}
	return nil
}

func findPage(pages []PageRef, offset int64) int {
	return sort.Search(len(pages), func(i int) bool { return pages[i].Last >= offset })
}

func sumUp(extents []Extent) (maxTimestamp, bytes int64) {
	maxTimestamp = extents[0].MaxTimestamp
	for i := range extents {
		maxTimestamp = max(maxTimestamp, extents[i].MaxTimestamp)
		bytes += int64(extents[i].Len)
	}
	return maxTimestamp, bytes
}

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

// localLives collects the lives that one stored region names and numbers them for it.
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

func (c *localLives) extents(in []Extent) []Extent {
	out := slices.Clone(in)
	for i := range out {
		out[i].Life = c.id(out[i].Life)
	}
	return out
}
