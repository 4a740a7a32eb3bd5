package partition

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/tidemill/tidemill/protocol"
)

// ownMin is how much of a partition is worth a segment of its own. What is less shares one, so that the number of PUTs does not grow
// with the number of partitions.
const ownMin = 8 << 20

// unwritten is what a log holds in slots only.
type unwritten struct {
	log     *Log
	extents []Extent
	bytes   int64
}

// rewrite copies what logs hold in slots into segments, from memory as far as it is there, and lets the logs refer to them. Ordered by
// partition, so that a partition's data lies together. After an error some logs may have been rewritten, or a part of one.
func (s *Set) rewrite(ctx context.Context, logs []*Log) error {
	var own, shared []unwritten
	for _, l := range logs {
		u := l.unwritten()
		switch {
		case len(u.extents) == 0:
		case u.bytes >= ownMin:
			own = append(own, u)
		default:
			shared = append(shared, u)
		}
	}
	if len(own)+len(shared) == 0 {
		return nil
	}
	slices.SortFunc(shared, func(a, b unwritten) int { return compareIDs(a.log.id, b.log.id) })
	w := s.newSegmentWriter(ctx)
	var failed []error
	for i, u := range slices.Concat(own, shared) {
		if err := s.copySlots(ctx, w, &u); err != nil {
			failed = append(failed, err)
		}
		if i < len(own) {
			w.flush()
		}
	}
	parts, err := w.wait()
	for _, u := range slices.Concat(own, shared) {
		if p := parts[u.log.id]; len(p) > 0 {
			failed = append(failed, u.log.extend(p, u.extents))
		}
	}
	w.settle()
	return errors.Join(append(failed, err)...)
}

func compareIDs(a, b protocol.PartitionID) int {
	return cmp.Or(strings.Compare(string(a.Topic[:]), string(b.Topic[:])), cmp.Compare(a.Partition, b.Partition))
}

// copySlots lays a log's extents out. What it could not read ends the part; the rest is rewritten another time.
func (s *Set) copySlots(ctx context.Context, w *segmentWriter, u *unwritten) error {
	w.begin(u.log.id, u.extents[0].Base, false)
	defer w.end()
	return w.copyFrom(s.newSource(ctx, u.extents))
}

// unwritten returns the committed extents behind the parts.
func (l *Log) unwritten() unwritten {
	l.mu.Lock()
	defer l.mu.Unlock()
	u := unwritten{log: l, extents: slices.Clone(l.recent[l.unwrittenLocked():])}
	for i := range u.extents {
		u.bytes += int64(u.extents[i].Len)
	}
	return u
}

// unwrittenLocked returns the index of the first recent extent that lies behind the parts.
func (l *Log) unwrittenLocked() int {
	if len(l.parts) == 0 {
		return 0
	}
	return findExtent(l.recent, l.parts[len(l.parts)-1].Last+1)
}

// extend lets the log refer to parts, which hold what the extents did, or their beginning. It refuses parts that do not hold each of
// their batches.
func (l *Log) extend(parts []Part, extents []Extent) error {
	last := parts[len(parts)-1].Last
	var sum uint64
	for _, e := range extents {
		if e.Last <= last {
			sum += e.Sum
		}
	}
	for i := range parts {
		sum -= parts[i].Sum
	}
	if sum != 0 {
		return corruptf("segments of %v up to offset %d do not hold the batches that its slots did", l.id, last)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	first := l.recent[min(l.unwrittenLocked(), len(l.recent)):]
	if l.gone || len(first) == 0 || first[0].Base != parts[0].Base {
		return nil // gone, or all of it, meanwhile
	}
	l.replacePartsLocked(slices.Concat(l.parts, parts))
	l.trimRecentLocked()
	return nil
}
