package audit

import (
	"context"
	"sync"

	"github.com/tidemill/tidemill/partition"
	"github.com/tidemill/tidemill/wal"
)

// checkPart reads a part's index and, unless that was done before, its blocks.
func (a *attempt) checkPart(ctx context.Context, p *partition.Part) error {
	key := partition.SegmentKey(a.m.Lives[p.Life], p.Seq)
	size := a.objects.refer(key)
	if size >= 0 && int64(p.Pos)+int64(p.Len) > size {
		a.at(p.Base, p.Last, Damaged, key, "the part's index lies at %d+%d of %d bytes", p.Pos, p.Len, size)
		return nil
	}
	data := make([]byte, p.Len)
	bad, err := a.sum(ctx, key, data, int64(p.Pos), p.CRC)
	if class, message, ok := absence(err); ok {
		a.at(p.Base, p.Last, class, key, "%s", message)
		return nil
	}
	if err != nil {
		return err
	}
	if bad != nil {
		a.at(p.Base, p.Last, Damaged, key, "index: %v", bad)
		return nil
	}
	index, bad := p.DecodeIndex(a.st.ID, data)
	if bad != nil {
		a.at(p.Base, p.Last, Mismatch, key, "index at %d: %v", p.Pos, bad)
		return nil
	}
	a.report.count(func(r *Report) { r.Parts++ })
	if well, _ := a.objects.partSeen(key, p.Pos); well || a.opts.SkipData {
		return nil
	}
	before := len(a.problems)
	for i := range index.Extents {
		if err := a.checkBlock(ctx, key, &index.Extents[i], int64(p.Pos)); err != nil {
			return err
		}
	}
	a.parts = append(a.parts, checkedPart{key, p.Pos, len(a.problems) == before})
	return nil
}

// checkBlock reads a block of a segment whose blocks end before the position limit.
func (a *attempt) checkBlock(ctx context.Context, key string, e *partition.Extent, limit int64) error {
	if int64(e.Pos) < partition.SegmentHeaderLen || int64(e.Pos)+int64(e.Len) > limit {
		a.at(e.Base, e.Last, Mismatch, key, "the block at %d+%d is not among the segment's blocks, which end before %d", e.Pos, e.Len, limit)
		return nil
	}
	r := batchRun{Extent: *e, epochs: a.epochs, sum: true}
	n, w, err := a.readRun(ctx, key, &r)
	a.report.count(func(r *Report) { r.Batches += n })
	if w != nil {
		a.at(e.Base, e.Last, w.class, key, "block at %d: %s", e.Pos, w.message)
	}
	return err
}

// readRun reads and checks the bytes of an extent.
func (r reader) readRun(ctx context.Context, key string, run *batchRun) (n int64, w *wrong, err error) {
	data := make([]byte, run.Len)
	bad, err := r.sum(ctx, key, data, int64(run.Pos), run.CRC)
	if class, message, ok := absence(err); ok {
		return 0, &wrong{class, message}, nil
	}
	if err != nil {
		return 0, nil, err
	}
	if bad != nil {
		return 0, &wrong{Damaged, bad.Error()}, nil
	}
	n, w = run.check(data)
	return n, w, nil
}

// checkSlotExtent holds an extent in a slot against the slot's directory, and reads its batches.
func (a *attempt) checkSlotExtent(ctx context.Context, e *partition.Extent) error {
	life := a.m.Lives[e.Life]
	key := wal.SlotKey(life, e.Seq)
	size := a.objects.refer(key)
	st, known, err := a.life(ctx, life)
	if err != nil {
		return err
	}
	if !known || st.Phase == wal.PhaseSealed && e.Seq >= st.N {
		a.at(e.Base, e.Last, Log, key, "the manifest refers to a slot behind the end of the log, or of a life that metadata does not know")
		return nil
	}
	chunks, w, err := a.directory(ctx, key, life, e.Seq)
	if err != nil {
		return err
	}
	if w != nil {
		a.at(e.Base, e.Last, w.class, key, "%s", w.message)
		return nil
	}
	epoch, found := int32(-1), false
	for i := range chunks {
		c := &chunks[i]
		if c.Partition == a.st.ID && c.BaseOffset == e.Base {
			found = c.LastOffset == e.Last && c.Pos == e.Pos && c.Len == e.Len && c.CRC == e.CRC && c.MaxTimestamp == e.MaxTimestamp
			epoch = c.LeaderEpoch
		}
	}
	if !found || size >= 0 && int64(e.Pos)+int64(e.Len) > size {
		a.at(e.Base, e.Last, Mismatch, key, "the slot's directory has no such chunk at %d+%d", e.Pos, e.Len)
		return nil
	}
	if want, exact := epochAt(a.epochs, e.Base); exact && epoch != want {
		a.at(e.Base, e.Last, Epochs, key, "the chunk has leader epoch %d, the history says %d", epoch, want)
	}
	if a.opts.SkipData {
		return nil
	}
	n, w, err := a.readRun(ctx, key, &batchRun{Extent: *e, epochs: a.epochs, sum: true})
	a.report.count(func(r *Report) { r.Batches += n })
	if w != nil {
		a.at(e.Base, e.Last, w.class, key, "chunk at %d: %s", e.Pos, w.message)
	}
	return err
}

// slotCacheLen bounds the directories at hand: the partitions of a checkpoint have extents in the same slots.
const slotCacheLen = 128

// slotCache keeps the newest directories.
type slotCache struct {
	mu    sync.Mutex
	byKey map[string][]wal.Chunk
	order []string
}

func (s *slotCache) init() { s.byKey = map[string][]wal.Chunk{} }

func (s *slotCache) get(key string) ([]wal.Chunk, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	chunks, ok := s.byKey[key]
	return chunks, ok
}

func (s *slotCache) put(key string, chunks []wal.Chunk) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.byKey[key]; known {
		return
	}
	if len(s.order) >= slotCacheLen {
		delete(s.byKey, s.order[0])
		s.order = s.order[1:]
	}
	s.byKey[key] = chunks
	s.order = append(s.order, key)
}

// directory returns the directory of a slot.
func (c *checker) directory(ctx context.Context, key string, life wal.Life, seq int64) ([]wal.Chunk, *wrong, error) {
	if chunks, ok := c.slots.get(key); ok {
		return chunks, nil, nil
	}
	s, bad, err := c.slot(ctx, key, false)
	if class, message, ok := absence(err); ok {
		return nil, &wrong{class, message}, nil
	}
	if err != nil {
		return nil, nil, err
	}
	if bad == nil {
		bad = c.identify(key, life, seq, &s)
	}
	if bad != nil {
		return nil, &wrong{Damaged, bad.Error()}, nil
	}
	c.slots.put(key, s.chunks)
	return s.chunks, nil, nil
}
