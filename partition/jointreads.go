package partition

import (
	"cmp"
	"context"
	"slices"
	"sort"
	"sync"

	"github.com/tidemill/tidemill/internal/crc32c"
	"github.com/tidemill/tidemill/internal/memory"
)

const (
	// jointBytes is about the memory of all joint reads that wait for their users at once, and over jointMost the oldest go. Each is smaller
	// the more objects there are, down to jointMin.
	jointBytes = 16 << 20
	jointMost  = 24 << 20
	jointMin   = 64 << 10
	// jointGap is how much that nobody wants may be taken along before a range, which costs less than a request; more than gapFree only if
	// the range is as large, because users may hold on to all of it.
	jointGap, gapFree = 16 << 10, 4 << 10
	// rangeMax is how large a range may be to be read with its neighbours: larger ones are worth a request of their own.
	rangeMax = 256 << 10
)

// A byteRange is a piece of an object.
type byteRange struct {
	objectID
	pos, len uint32
}

// jointReads read many small ranges of a few objects with few requests: one for what lies close together, made when the first of it is
// asked for. Who goes through many partitions that share segments, in the order in which they lie there, holds about one of each segment
// at a time. They may be used by several goroutines; nil has none.
type jointReads struct {
	set *Set
	of  map[objectID][]*jointRead // in order

	mu sync.Mutex
	// held are those that were loaded, in that order, some of them done with; bytes is the size of the others.
	held  []*jointRead
	bytes int64
}

// A jointRead is [from, to) of an object.
type jointRead struct {
	from, to uint32
	load     sync.Once
	// wanted is how many ranges have not been read yet, and block holds the bytes until then; nil if they could not be read or had to make
	// room. The mutex of jointReads guards both.
	wanted int
	block  *memory.Block
}

// newJointReads plans to read each of the ranges once.
func (s *Set) newJointReads(ranges []byteRange) *jointReads {
	ranges = slices.DeleteFunc(slices.Clone(ranges), func(r byteRange) bool { return r.len > rangeMax })
	slices.SortFunc(ranges, func(a, b byteRange) int {
		return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.life, b.life), cmp.Compare(a.seq, b.seq), cmp.Compare(a.pos, b.pos))
	})
	objects := 0 // with several ranges
	for i := 1; i < len(ranges); i++ {
		if ranges[i].objectID == ranges[i-1].objectID && (i == 1 || ranges[i].objectID != ranges[i-2].objectID) {
			objects++
		}
	}
	most := uint32(min(max(jointBytes/max(objects, 1), jointMin), pieceMax))
	j := &jointReads{set: s, of: map[objectID][]*jointRead{}}
	for _, r := range ranges {
		all := j.of[r.objectID]
		if n := len(all); n > 0 {
			last := all[n-1]
			if r.pos <= last.to+min(max(r.len, gapFree), jointGap) && r.pos+r.len-last.from <= most {
				last.to = max(last.to, r.pos+r.len)
				last.wanted++
				continue
			}
		}
		j.of[r.objectID] = append(all, &jointRead{from: r.pos, to: r.pos + r.len, wanted: 1})
	}
	for id, all := range j.of {
		j.of[id] = slices.DeleteFunc(all, func(s *jointRead) bool { return s.wanted == 1 })
	}
	return j
}

// read returns a range and the memory it lies in, which the caller releases. It returns nil if the range has no neighbours, or they could
// not be read together: then the caller reads it alone, and learns why.
func (j *jointReads) read(ctx context.Context, r byteRange) ([]byte, *memory.Block) {
	if j == nil {
		return nil, nil
	}
	s := j.find(r)
	if s == nil {
		return nil, nil
	}
	s.load.Do(func() { j.load(ctx, r.objectID, s) })
	j.mu.Lock()
	defer j.mu.Unlock()
	block := s.block
	if block == nil {
		return nil, nil
	}
	block.Retain()
	if s.wanted--; s.wanted == 0 {
		j.dropLocked(s)
	}
	return block.Bytes()[r.pos-s.from:][:r.len:r.len], block
}

// find returns the joint read that r is part of, nil if there is none.
func (j *jointReads) find(r byteRange) *jointRead {
	all := j.of[r.objectID]
	i := sort.Search(len(all), func(i int) bool { return all[i].to > r.pos })
	if i == len(all) || r.pos < all[i].from || r.pos+r.len > all[i].to {
		return nil
	}
	return all[i]
}

func (j *jointReads) load(ctx context.Context, id objectID, s *jointRead) {
	block := j.set.pool.Get(int(s.to - s.from))
	if _, err := j.set.readTogether(ctx, j.set.keyOf(id), block.Bytes(), int64(s.from), false); err != nil {
		block.Release()
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	s.block = block
	j.held = append(j.held, s)
	j.bytes += int64(s.to - s.from)
	for j.bytes > jointMost { // some ranges are never asked for, because a partition's merge failed
		j.dropLocked(j.held[0])
		j.held = j.held[1:]
	}
}

// dropLocked lets go of a joint read, if that was not done yet.
func (j *jointReads) dropLocked(s *jointRead) {
	if s.block == nil {
		return
	}
	s.block.Release()
	s.block = nil
	j.bytes -= int64(s.to - s.from)
}

// close lets go of what was loaded and not asked for. Nobody reads any more.
func (j *jointReads) close() {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, s := range j.held {
		j.dropLocked(s)
	}
}

// extent returns the bytes of e if they are part of a joint read and sound.
func (j *jointReads) extent(ctx context.Context, e *Extent) (loaded, bool) {
	data, block := j.read(ctx, e.byteRange())
	if block == nil {
		return loaded{}, false
	}
	if crc32c.Sum(data) != e.CRC {
		block.Release()
		return loaded{}, false
	}
	return loaded{Extent: *e, pieces: [][]byte{data}, held: block}, true
}
