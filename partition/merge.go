package partition

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/tidemill/tidemill/objectstore"
	"github.com/tidemill/tidemill/protocol"
)

const (
	// mergeFan is how many small parts a log may have in a row before they are merged.
	mergeFan = 8
	// mergeMost is how many of the parts that are read together with their neighbours become one, in a run of mergeLarge bytes: out of few
	// segments the partitions that share them are read in large pieces, for which such parts are rather written once more.
	mergeMost, mergeLarge = 16, 1 << 20
	// mergeAlways is how many there may be whatever their sizes are.
	mergeAlways = 32
	// mergeMin and mergeMax bound how large a part must be to stay as it is: see mergeAim.
	mergeMin, mergeMax = 4 << 20, 8 << 20
	// mergeParts is how many parts a log may have before larger ones are worth writing its data once more.
	mergeParts = 1024
	// mergeTogether bounds the runs whose results share segments before logs refer to them.
	mergeTogether = 256
)

// mergeAim returns how large parts must be to stay as they are. A checkpoint of a few busy partitions makes parts of 4 MiB or more, which
// nobody needs to read and write again; a log of many GB has so many that its manifests are worth being shorter.
func mergeAim(parts []Part) int64 {
	var total int64
	for i := range parts {
		total += parts[i].Bytes
	}
	return min(max(total/mergeParts, mergeMin), mergeMax)
}

// planMerge returns a run of parts that should become one: [from, to), empty when there is none. Where mergeFan or more parts smaller
// than mergeAim lie side by side, and none is larger than the others together, they become one, or as many of them as reach the aim.
// So a merge doubles the part that a record is in or is the record's last, and a record moves a bounded number of times. Otherwise the
// parts on either side of the large one are looked at. Sizes can be such that nothing merges for long: of mergeAlways parts the longer
// side becomes one whatever it holds. So a log has at most 32 parts for each 4 MiB, and in practice far fewer.
func planMerge(parts []Part) (from, to int) {
	aim := mergeAim(parts)
	for i := 0; i < len(parts); i++ {
		if parts[i].Bytes >= aim {
			continue
		}
		j := i
		for j < len(parts) && parts[j].Bytes < aim {
			j++
		}
		if from, to := planRun(parts, i, j, aim); from < to {
			return from, to
		}
		i = j
	}
	return 0, 0
}

// planRun plans within the small parts [from, to).
func planRun(parts []Part, from, to int, aim int64) (int, int) {
	if to-from < mergeFan {
		return 0, 0
	}
	largest, sum := from, int64(0)
	for i := from; i < to; i++ {
		sum += parts[i].Bytes
		if parts[i].Bytes > parts[largest].Bytes {
			largest = i
		}
	}
	if sum >= 2*parts[largest].Bytes {
		if sum >= mergeLarge && to-from > mergeMost {
			if a, b := planTiny(parts, from, to, aim); a < b {
				return a, b
			}
		}
		return from, fill(parts, from, to, aim)
	}
	if a, b := planRun(parts, from, largest, aim); a < b {
		return a, b
	}
	if a, b := planRun(parts, largest+1, to, aim); a < b || to-from < mergeAlways {
		return a, b
	}
	if largest-from > to-largest-1 {
		return from, fill(parts, from, largest, aim)
	}
	return largest + 1, fill(parts, largest+1, to, aim)
}

// planTiny plans within those of the small parts [from, to) that are read together with their neighbours.
func planTiny(parts []Part, from, to int, aim int64) (int, int) {
	tiny := func(i int) bool { return i < to && parts[i].Bytes <= rangeMax }
	for i := from; i < to; i++ {
		j := i
		for j-i < mergeMost && tiny(j) {
			j++
		}
		if a, b := planRun(parts, i, j, aim); a < b {
			return a, b
		}
		i = max(i, j-1)
	}
	return 0, 0
}

// fill returns where a merge that begins at from is large enough.
func fill(parts []Part, from, to int, aim int64) int {
	var sum int64
	for i := from; i < to; i++ {
		if sum += parts[i].Bytes; sum >= aim {
			return i + 1
		}
	}
	return to
}

// planWaste returns a run of small parts side by side of which some keep large objects alive that are hardly needed otherwise.
func (s *Set) planWaste(parts []Part) (from, to int) {
	for i := range parts {
		if !s.objects.wasteful(parts[i].object()) {
			continue
		}
		to = i + 1
		for to < len(parts) && s.objects.wasteful(parts[to].object()) {
			to++
		}
		return i, fill(parts, i, to, mergeAim(parts))
	}
	return 0, 0
}

// merging is a run of a log's parts that is being rewritten.
type merging struct {
	log   *Log
	parts []Part
	// extents are those of the parts, or err says why they are not known.
	extents []Extent
	err     error
}

// Merge rewrites runs of small parts, and parts of objects that are hardly needed otherwise, into larger ones. Metadata learns of it
// with the logs' next manifests; until then the old objects stay.
func (s *Set) Merge(ctx context.Context) error {
	if err := s.fencedError(); err != nil || s.trouble.Load() { // while metadata takes no manifests, what is merged would pile up
		return err
	}
	var failed []error
	stop := false // after an error, what is left has time until the next call
	for more := true; more && !stop && ctx.Err() == nil; {
		more = false
		logs := s.all()
		slices.SortFunc(logs, func(a, b *Log) int { return compareIDs(a.id, b.id) }) // as they lie in segments that they share
		for some := range slices.Chunk(logs, mergeTogether) {
			var runs []merging
			for _, l := range some {
				if parts := l.startMerge(); len(parts) > 0 {
					runs = append(runs, merging{log: l, parts: parts})
				}
			}
			err := s.merge(ctx, runs)
			failed, more = append(failed, err), more || len(runs) > 0
			stop = stop || err != nil
		}
	}
	return errors.Join(failed...)
}

// startMerge plans, and takes the log's parts in hand if there is something to do.
func (l *Log) startMerge() []Part {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended != nil || l.rewriting {
		return nil
	}
	parts := l.parts[findPart(l.parts, l.unmergeableTo):]
	from, to := planMerge(parts)
	if from == to {
		from, to = l.set.planWaste(parts)
	}
	if from == to {
		return nil
	}
	l.startRewriteLocked(parts[from:to:to])
	return parts[from:to:to]
}

// startRewriteLocked takes parts in hand: nobody else rewrites the log meanwhile, and this life deletes nothing that the parts lie in,
// whatever retention does. What lives before it wrote may go in a sweep of another broker, once metadata has heard of retention.
func (l *Log) startRewriteLocked(parts []Part) {
	l.rewriting = true
	for i := range parts {
		l.set.objects.retain(parts[i].hold())
	}
}

func (l *Log) endRewrite(parts []Part) {
	l.mu.Lock()
	l.rewriting = false
	l.mu.Unlock()
	refs := make([]reference, len(parts))
	for i := range parts {
		refs[i] = parts[i].hold()
	}
	l.set.objects.release(refs, l.set.opts.Now())
}

// giveUpMerging ends merges of parts that cannot be read, and of those before them, for this life: to try again and again would change
// nothing.
func (l *Log) giveUpMerging(parts []Part, err error) {
	if !errors.Is(err, ErrCorrupt) && !errors.Is(err, objectstore.ErrNotFound) || !l.refersTo(parts) {
		return
	}
	l.mu.Lock()
	l.unmergeableTo = parts[len(parts)-1].Last + 1
	l.mu.Unlock()
	l.set.opts.Logger.Error("small segments of a partition are not merged any more, because they cannot be read", "partition", l.id,
		"below_offset", parts[len(parts)-1].Last+1, "error", err)
}

// refersTo reports whether all parts, which are in hand, are the log's still. Those that retention dropped may be gone.
func (l *Log) refersTo(parts []Part) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ended == nil && len(l.parts) > 0 && l.parts[0].Base <= parts[0].Base
}

// merge rewrites runs and lets their logs refer to the results. Logs whose run failed stay as they are.
func (s *Set) merge(ctx context.Context, runs []merging) error {
	if len(runs) == 0 {
		return nil
	}
	var failed []error
	near := s.findExtents(ctx, runs)
	defer near.close()
	w := s.newBackgroundWriter(ctx)
	for _, m := range runs {
		if err := s.copyParts(ctx, w, m, near); err != nil {
			m.log.giveUpMerging(m.parts, err)
			failed = append(failed, fmt.Errorf("merge %v: %w", m.log.id, err))
		}
	}
	parts, err := w.wait()
	failed = append(failed, err)
	for _, m := range runs {
		if err := m.log.swap(m.parts, parts[m.log.id], true, s.metrics.merges.Inc); err != nil {
			m.log.giveUpMerging(m.parts, err)
			failed = append(failed, err)
		}
		m.log.endRewrite(m.parts)
	}
	w.settle()
	return errors.Join(failed...)
}

// findExtents looks up the runs' extents, and plans to read the small ones together. Indexes lie close together too.
func (s *Set) findExtents(ctx context.Context, runs []merging) *jointReads {
	var ranges []byteRange
	for _, m := range runs {
		for i := range m.parts {
			ranges = append(ranges, m.parts[i].indexRange())
		}
	}
	indexes := s.newJointReads(ranges)
	defer indexes.close()
	ranges = ranges[:0]
	for i := range runs {
		m, planned := &runs[i], len(ranges)
		for j := 0; j < len(m.parts) && m.err == nil; j++ {
			var extents []Extent
			extents, m.err = s.indexNear(ctx, indexes, m.log.id, &m.parts[j])
			if len(extents) == 1 {
				ranges = append(ranges, extents[0].byteRange())
			}
			m.extents = append(m.extents, extents...)
		}
		if m.err != nil {
			ranges = ranges[:planned]
		}
	}
	return s.newJointReads(ranges)
}

// indexNear is index, of what work in the background reads once.
func (s *Set) indexNear(ctx context.Context, near *jointReads, id protocol.PartitionID, p *Part) ([]Extent, error) {
	if data, block := near.read(ctx, p.indexRange()); block != nil {
		extents, err := p.extents(id, data)
		block.Release()
		if err == nil {
			return extents, nil
		}
	}
	return s.index(ctx, id, p) // and once more, in case it was the way here
}

func (s *Set) copyParts(ctx context.Context, w *segmentWriter, m merging, near *jointReads) error {
	if m.err != nil {
		return m.err
	}
	sparse := false
	for i := range m.parts {
		sparse = sparse || m.parts[i].Sparse
	}
	w.begin(m.log.id, m.parts[0].Base, sparse)
	defer w.end()
	src := s.newSource(ctx, m.extents)
	src.near, src.sound = near, true
	return w.copyFrom(src)
}

// swap lets the log refer to other parts in place of some it has, and marks it so that its next manifest says so. Parts of the old ones
// that retention has dropped meanwhile do not matter. It refuses new ones that do not cover the old ones, or, when all is to be
// conserved, do not hold each of their batches. A result that is not there, or not whole, changes nothing. also
// is called in the same critical section.
func (l *Log) swap(old, parts []Part, conserve bool, also func()) error {
	if len(parts) == 0 || parts[len(parts)-1].Last != old[len(old)-1].Last {
		return nil // it failed, and said why
	}
	var sum uint64
	for i := range old {
		sum += old[i].Sum
	}
	for i := range parts {
		sum -= parts[i].Sum
	}
	if parts[0].Base != old[0].Base || conserve && sum != 0 {
		return corruptf("segments of %v at offsets %d-%d do not hold what those before did", l.id, old[0].Base, old[len(old)-1].Last)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	from := findPart(l.parts, old[0].Base)
	to := findPart(l.parts, old[len(old)-1].Last)
	if l.ended != nil || to == len(l.parts) || l.parts[to] != old[len(old)-1] {
		return nil // deleted, or all of it behind the log start
	}
	l.replacePartsLocked(slices.Concat(l.parts[:from], parts, l.parts[to+1:]))
	also()
	l.markLocked()
	return nil
}

// markLocked puts the log on the list of those whose manifest is behind.
func (l *Log) markLocked() {
	if !l.dirty {
		l.dirty = true
		l.set.dirty.add([]*Log{l}, nil)
	}
}
