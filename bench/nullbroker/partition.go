package nullbroker

import (
	"encoding/binary"
	"slices"
	"sort"
	"sync"
)

// entry is one batch. It holds no pointer, so that the index costs the garbage collector nothing.
type entry struct {
	base int64 // offset of the first record
	pos  int64 // in the arena
	size int32
	last int32 // offset of the last record less base
}

type partition struct {
	mu      sync.Mutex
	entries []entry // from head on
	head    int
	next    int64 // offset of the next record
	waiters []chan struct{}
}

// append stores a batch and returns its base offset.
func (p *partition) append(a *arena, batch []byte) int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	base := p.next
	pos := a.reserve(len(batch))
	kept := a.at(pos, len(batch))
	copy(kept, batch)
	binary.BigEndian.PutUint64(kept, uint64(base))
	binary.BigEndian.PutUint32(kept[12:], 0) // leader epoch
	last := int32(binary.BigEndian.Uint32(kept[23:]))
	if len(p.entries) == cap(p.entries) {
		p.drop(a)
	}
	if p.head > 1024 && p.head > len(p.entries)/2 {
		p.entries = p.entries[:copy(p.entries, p.entries[p.head:])]
		p.head = 0
	}
	p.entries = append(p.entries, entry{base: base, pos: pos, size: int32(len(batch)), last: last})
	p.next = base + int64(last) + 1
	for _, w := range p.waiters {
		select {
		case w <- struct{}{}:
		default:
		}
	}
	p.waiters = p.waiters[:0]
	return base
}

// drop forgets batches that the ring may overwrite. The caller holds p.mu.
func (p *partition) drop(a *arena) {
	oldest := a.oldest()
	for p.head < len(p.entries) && p.entries[p.head].pos < oldest {
		p.head++
	}
}

// start is the offset of the oldest record. The caller holds p.mu.
func (p *partition) start() int64 {
	if p.head == len(p.entries) {
		return p.next
	}
	return p.entries[p.head].base
}

// bounds are the offsets of the oldest and of the next record.
func (p *partition) bounds(a *arena) (start, next int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.drop(a)
	return p.start(), p.next
}

// A view is what a fetch of a partition answers with.
type view struct {
	start, next int64
	outOfRange  bool
	bytes       int
	pieces      [][]byte // neighbours in the arena are one piece
}

// read collects batches from offset on, up to max bytes but at least one batch.
func (p *partition) read(a *arena, offset int64, max int) view {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.drop(a)
	v := view{start: p.start(), next: p.next}
	if offset < v.start || offset > v.next {
		v.outOfRange = true
		return v
	}
	live := p.entries[p.head:]
	i := sort.Search(len(live), func(i int) bool { return live[i].base+int64(live[i].last) >= offset })
	end := int64(-1)
	for ; i < len(live) && (v.bytes == 0 || v.bytes+int(live[i].size) <= max); i++ {
		e := live[i]
		if n := len(v.pieces); e.pos == end && e.pos%int64(len(a.mem)) != 0 {
			v.pieces[n-1] = v.pieces[n-1][:len(v.pieces[n-1])+int(e.size)]
		} else {
			v.pieces = append(v.pieces, a.at(e.pos, int(e.size)))
		}
		end = e.pos + int64(e.size)
		v.bytes += int(e.size)
	}
	return v
}

// wakeAt has w told once when a record at offset or later is there.
func (p *partition) wakeAt(offset int64, w chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.next > offset {
		select {
		case w <- struct{}{}:
		default:
		}
		return
	}
	if !slices.Contains(p.waiters, w) {
		p.waiters = append(p.waiters, w)
	}
}
