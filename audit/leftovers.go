package audit

import (
	"context"
	"errors"
	"fmt"

	"github.com/tidemill/tidemill/objectstore"
	"github.com/tidemill/tidemill/partition"
	"github.com/tidemill/tidemill/wal"
)

// checkObjects reads what no walk has come by: objects that nothing refers to, and what lies in the others besides what is referred to.
// Nothing is lost when an object that nobody needs is damaged; but storage that damages one is not to be trusted with the others.
func (c *checker) checkObjects(ctx context.Context) error {
	return each(ctx, c.opts.Concurrency, c.objects.all(), func(ctx context.Context, o *object) error {
		if o.done {
			return nil
		}
		var err error
		switch o.kind {
		case kindSlot:
			err = c.checkSlotObject(ctx, o)
		case kindSegment:
			err = c.checkSegment(ctx, o)
		case kindManifest:
			err = c.checkManifestObject(ctx, o)
		case kindRecovery:
			var bad error
			if _, bad, err = c.readRecovery(ctx, o.key, o.life); bad != nil {
				c.damaged(o, bad)
			}
		}
		if errors.Is(err, objectstore.ErrNotFound) {
			return nil // deleted since the bucket was listed, or reported already
		}
		if errors.Is(err, objectstore.ErrRange) {
			c.damaged(o, fmt.Errorf("the object is too short: %w", err))
			return nil
		}
		return err
	})
}

// damaged reports an object, unless it has been already.
func (c *checker) damaged(o *object, bad error) {
	if c.report.told(o.key) {
		return
	}
	note := ""
	if !o.referenced {
		note = "; nothing refers to it"
	}
	c.report.add(Problem{Class: Damaged, Key: o.key, Message: bad.Error() + note})
}

func (c *checker) checkSlotObject(ctx context.Context, o *object) error {
	s, bad, err := c.slot(ctx, o.key, !c.opts.SkipData)
	if err != nil {
		return err
	}
	if bad == nil {
		bad = c.identify(o.key, o.life, o.seq, &s)
	}
	if bad != nil {
		c.damaged(o, bad)
	}
	return nil
}

// checkSegment holds header, blocks and indexes to each other, and reads the blocks of parts that nothing refers to.
func (c *checker) checkSegment(ctx context.Context, o *object) error {
	s, bad, err := c.segment(ctx, o.key, o.life, o.seq)
	if err != nil {
		return err
	}
	if bad != nil {
		c.damaged(o, bad)
		return nil
	}
	if c.opts.SkipData {
		return nil
	}
	for _, x := range s.indexes {
		if _, seen := c.objects.partSeen(o.key, x.pos); seen {
			continue
		}
		for i := range x.Extents {
			e := &x.Extents[i]
			n, w, err := c.readRun(ctx, o.key, &batchRun{Extent: *e, sum: true})
			if err != nil {
				return err
			}
			c.report.count(func(r *Report) { r.Batches += n })
			if w != nil && w.class != Missing {
				c.damaged(o, fmt.Errorf("block at %d: %s", e.Pos, w.message))
			}
		}
	}
	return nil
}

// storedIndex is an index and where it lies.
type storedIndex struct {
	partition.Index
	pos uint32
}

// storedSegment is a segment without its blocks.
type storedSegment struct {
	header  partition.SegmentHeader
	indexes []storedIndex
}

// segment reads header and indexes of a segment, and checks that blocks and indexes fill it. bad says what is wrong; what could be read
// is returned all the same.
func (c *checker) segment(ctx context.Context, key string, life wal.Life, seq int64) (s storedSegment, bad, err error) {
	s, bad, err = c.readSegment(ctx, key)
	if bad != nil || err != nil {
		return s, bad, err
	}
	listed := c.objects.size(key)
	switch h := &s.header; {
	case h.Life != life || h.Seq != seq:
		bad = fmt.Errorf("it holds segment %d of life %s", h.Seq, h.Life)
	case listed >= 0 && listed != h.Size:
		bad = fmt.Errorf("it has %d bytes, its header says %d", listed, h.Size)
	default:
		bad = s.tiles()
	}
	return s, bad, nil
}

// readSegment reads header and indexes, twice if they are damaged.
func (r reader) readSegment(ctx context.Context, key string) (s storedSegment, bad, err error) {
	head := make([]byte, partition.SegmentHeaderLen)
	bad, err = r.checked(ctx, key, head, 0, func() (bad error) {
		s.header, bad = partition.DecodeSegmentHeader(head)
		return bad
	})
	if bad != nil || err != nil {
		return s, bad, err
	}
	data := make([]byte, s.header.Size-s.header.IndexPos)
	bad, err = r.checked(ctx, key, data, s.header.IndexPos, func() error {
		s.indexes = s.indexes[:0]
		pos, rest := s.header.IndexPos, data
		for len(rest) > 0 {
			x, more, err := partition.DecodeIndex(rest)
			if err != nil {
				return fmt.Errorf("index at %d: %w", pos, err)
			}
			s.indexes = append(s.indexes, storedIndex{x, uint32(pos)})
			pos, rest = pos+int64(len(rest)-len(more)), more
		}
		return nil
	})
	return s, bad, err
}

// tiles checks that the blocks of all parts, in their order, lie side by side from the header to the indexes.
func (s *storedSegment) tiles() error {
	if len(s.indexes) != s.header.Parts {
		return fmt.Errorf("it has %d indexes, its header says %d", len(s.indexes), s.header.Parts)
	}
	next := int64(partition.SegmentHeaderLen)
	for _, x := range s.indexes {
		for i := range x.Extents {
			e := &x.Extents[i]
			if int64(e.Pos) != next {
				return fmt.Errorf("a block of %v lies at %d, want %d", x.Partition, e.Pos, next)
			}
			next += int64(e.Len)
		}
	}
	if next != s.header.IndexPos {
		return fmt.Errorf("its blocks end at %d, its indexes begin at %d", next, s.header.IndexPos)
	}
	return nil
}

// storedManifest is a manifest and where it lies. Err says why it could not be decoded.
type storedManifest struct {
	*partition.Manifest
	pos, len int
	bad      error
}

// checkManifestObject reads a whole manifest object: what no head points at was once a manifest too.
func (c *checker) checkManifestObject(ctx context.Context, o *object) error {
	if c.report.told(o.key) {
		return nil
	}
	bad, err := c.manifests(ctx, o.key, func(h partition.ManifestHeader, all []storedManifest, size int64) error {
		switch {
		case h.Life != o.life || h.Seq != o.seq:
			return fmt.Errorf("it holds manifest object %d of life %s", h.Seq, h.Life)
		case h.Size != size:
			return fmt.Errorf("it has %d bytes, its header says %d", size, h.Size)
		}
		for _, m := range all {
			if m.bad != nil {
				return fmt.Errorf("manifest at %d: %w", m.pos, m.bad)
			}
		}
		return nil
	})
	if bad != nil {
		c.damaged(o, bad)
	}
	return err
}

// manifests reads a manifest object and passes what it holds to check; what that refuses is read twice.
func (r reader) manifests(ctx context.Context, key string, check func(h partition.ManifestHeader, all []storedManifest, size int64) error) (bad, err error) {
	for range 2 {
		b, err := r.get(ctx, key)
		if err != nil {
			return nil, err
		}
		h, all, err := decodeManifests(b)
		if bad = err; bad == nil {
			bad = check(h, all, int64(len(b)))
		}
		if bad == nil {
			return nil, nil
		}
	}
	return bad, nil
}

func decodeManifests(b []byte) (h partition.ManifestHeader, all []storedManifest, err error) {
	if h, err = partition.DecodeManifestHeader(b); err != nil {
		return h, nil, err
	}
	pos, rest := partition.ManifestHeaderLen, b[partition.ManifestHeaderLen:]
	for len(rest) > 0 {
		one, more, err := partition.NextManifest(rest)
		if err != nil {
			return h, append(all, storedManifest{pos: pos, len: len(rest), bad: err}), nil
		}
		x := storedManifest{pos: pos, len: len(one)}
		x.Manifest, x.bad = partition.DecodeManifest(one)
		all = append(all, x)
		pos, rest = pos+len(one), more
	}
	return h, all, nil
}
