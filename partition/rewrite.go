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
}

func (u *unwritten) bytes() (n int64) {
	for i := range u.extents {
		n += int64(u.extents[i].Len)
	}
	return n
}

// rewrite copies what logs hold in slots into segments, a window of slots after the other, and lets the logs refer to them; behind tells
// that some is left. After an error some logs may have been rewritten, or a part of one. A log that fails waits for the next checkpoint:
// what it holds may be older than all else and more than a window, and must not be in the way of the others.
func (s *Set) rewrite(ctx context.Context, logs []*Log) error {
	var work []unwritten
	for _, l := range logs {
		if u := l.unwritten(); len(u.extents) > 0 {
			work = append(work, u)
		}
	}
	var errs []error
	for windows := 0; windows < windowsMax && len(work) > 0 && ctx.Err() == nil; {
		window := s.newSlotWindow(work)
		now, later := window.split(work)
		window.load(ctx)
		failed, err := s.rewriteWindow(ctx, now, window)
		window.release()
		if len(failed) < len(now) {
			windows++
		}
		work = slices.DeleteFunc(later, func(u unwritten) bool { return failed[u.log] })
		errs = append(errs, err)
	}
	s.behind = len(work) > 0 && ctx.Err() == nil // who is being closed asks for no more
	return errors.Join(errs...)
}

// rewriteWindow rewrites some extents of logs, ordered by partition, so that a partition's data lies together. It returns the logs that
// did not get all of them.
func (s *Set) rewriteWindow(ctx context.Context, work []unwritten, window *slotWindow) (failed map[*Log]bool, err error) {
	var own, shared []unwritten
	for _, u := range work {
		if u.bytes() >= ownMin {
			own = append(own, u)
		} else {
			shared = append(shared, u)
		}
	}
	slices.SortFunc(shared, func(a, b unwritten) int { return compareIDs(a.log.id, b.log.id) })
	w := s.newSegmentWriter(ctx)
	var errs []error
	for i, u := range slices.Concat(own, shared) {
		if err := s.copySlots(ctx, w, &u, window); err != nil {
			errs = append(errs, err)
		}
		if i < len(own) {
			w.flush()
		}
	}
	parts, err := w.wait()
	failed = map[*Log]bool{}
	for _, u := range work {
		p := parts[u.log.id]
		if len(p) == 0 {
			failed[u.log] = true
			continue
		}
		err := u.log.extend(p, u.extents)
		if err != nil || p[len(p)-1].Last < u.extents[len(u.extents)-1].Last {
			failed[u.log] = true
		}
		errs = append(errs, err)
	}
	w.settle()
	return failed, errors.Join(append(errs, err)...)
}

func compareIDs(a, b protocol.PartitionID) int {
	return cmp.Or(strings.Compare(string(a.Topic[:]), string(b.Topic[:])), cmp.Compare(a.Partition, b.Partition))
}

// copySlots lays a log's extents out. What it could not read ends the part; the rest is rewritten another time.
func (s *Set) copySlots(ctx context.Context, w *segmentWriter, u *unwritten, window *slotWindow) error {
	w.begin(u.log.id, u.extents[0].Base, false)
	defer w.end()
	src := s.newSource(ctx, u.extents)
	src.window = window
	return w.copyFrom(src)
}

// unwritten returns the committed extents behind the parts.
func (l *Log) unwritten() unwritten {
	l.mu.Lock()
	defer l.mu.Unlock()
	return unwritten{l, slices.Clone(l.recent[l.unwrittenLocked():])}
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
