package partition

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/tidemill/tidemill/objectstore"
	"github.com/tidemill/tidemill/protocol"
)

const (
	// segmentMax is how large a checkpoint's segments get, whose batches lie in memory anyway, and segmentPuts how many are on their way.
	// Work in the background copies what it writes, so it has smaller ones, one at a time.
	segmentMax     = 32 << 20
	segmentPuts    = 3
	backgroundMax  = 16 << 20
	backgroundPuts = 1
)

// A segmentWriter cuts what it is given into segments and puts them, a few at a time, while the next is filled. It is owned by one
// goroutine.
type segmentWriter struct {
	set  *Set
	ctx  context.Context
	puts *errgroup.Group
	max  int64
	open *segmentBuilder
	all  []*segmentBuilder
	// id and sparse are those of the part that is open, base where it goes on in the next segment.
	id     protocol.PartitionID
	sparse bool
}

func (s *Set) newSegmentWriter(ctx context.Context) *segmentWriter {
	w := &segmentWriter{set: s, ctx: ctx, puts: &errgroup.Group{}, max: segmentMax}
	w.puts.SetLimit(segmentPuts)
	return w
}

func (s *Set) newBackgroundWriter(ctx context.Context) *segmentWriter {
	w := &segmentWriter{set: s, ctx: ctx, puts: &errgroup.Group{}, max: backgroundMax}
	w.puts.SetLimit(backgroundPuts)
	return w
}

// begin starts the part of a partition; its batches may begin behind base only if it is sparse.
func (w *segmentWriter) begin(id protocol.PartitionID, base int64, sparse bool) {
	w.id, w.sparse = id, sparse
	w.builder().begin(id, base, sparse)
}

func (w *segmentWriter) builder() *segmentBuilder {
	if w.open == nil {
		w.open = w.set.newSegmentBuilder()
	}
	return w.open
}

// room makes sure that n bytes fit, if need be in a new segment.
func (w *segmentWriter) room(n int) {
	if w.open == nil || !w.open.full(n, w.max) {
		return
	}
	next := w.open.next
	w.open.end()
	w.flush()
	w.begin(w.id, next, w.sparse)
}

// end ends the part.
func (w *segmentWriter) end() { w.open.end() }

// flush puts the open segment.
func (w *segmentWriter) flush() {
	g := w.open
	w.open = nil
	if g == nil {
		return
	}
	if len(g.built) == 0 {
		g.release()
		w.set.objects.abandon(g.id(), w.set.opts.Now())
		return
	}
	w.all = append(w.all, g)
	w.puts.Go(func() error {
		defer g.release()
		key, body := g.finish()
		if g.err = w.set.putBody(w.ctx, key, body); g.err != nil {
			g.err = storeError(fmt.Errorf("put %s: %w", key, g.err))
			return nil
		}
		w.set.objects.sized(g.id(), body.Size)
		w.set.metrics.segments.Inc()
		w.set.metrics.segmentBytes.Add(float64(body.Size))
		return nil
	})
}

// wait puts the open segment, waits for all and returns the durable parts by partition, in order: for each up to the first that
// failed. The error is the first one of a put. Once logs refer to the parts, settle is due.
func (w *segmentWriter) wait() (map[protocol.PartitionID][]Part, error) {
	w.flush()
	_ = w.puts.Wait() // each segment has its own error
	parts, failed := map[protocol.PartitionID][]Part{}, map[protocol.PartitionID]bool{}
	var first error
	for _, g := range w.all {
		if g.err != nil && first == nil {
			first = g.err
		}
		for i := range g.built {
			b := &g.built[i]
			if failed[b.index.Partition] = failed[b.index.Partition] || g.err != nil; !failed[b.index.Partition] {
				parts[b.index.Partition] = append(parts[b.index.Partition], b.part)
			}
		}
	}
	return parts, first
}

// settle gives up the segments that nobody refers to.
func (w *segmentWriter) settle() {
	for _, g := range w.all {
		w.set.objects.abandon(g.id(), w.set.opts.Now())
	}
}

func (g *segmentBuilder) id() objectID { return objectID{KindSegment, g.lifeID, g.seq} }

// newSegmentBuilder returns a builder for a segment with a number of its own.
func (s *Set) newSegmentBuilder() *segmentBuilder {
	g := newSegmentBuilder(s.opts.Life, s.life, s.segmentSeq.Add(1)-1, s.pool)
	s.objects.begin(g.id())
	return g
}

// putBody puts an object whose key nobody else uses. An unknown outcome is settled by the same bytes under the same key; what is found
// there must be them.
func (s *Set) putBody(ctx context.Context, key string, body objectstore.Body) error {
	var err error
	for range putAttempts {
		if err = s.putOnce(ctx, key, body); err == nil || ctx.Err() != nil || !errors.Is(err, objectstore.ErrAmbiguous) {
			return err
		}
	}
	return err
}

func (s *Set) putOnce(ctx context.Context, key string, body objectstore.Body) error {
	ctx, cancel := context.WithTimeout(ctx, s.opts.LoadTimeout)
	defer cancel()
	err := objectstore.PutBody(ctx, s.opts.Store, key, body)
	if !errors.Is(err, objectstore.ErrConflict) {
		return err
	}
	found, err := s.opts.Store.Get(ctx, key)
	if err == nil && !bytes.Equal(found, body.Bytes()) {
		return fmt.Errorf("%w: the key holds something else", ErrCorrupt)
	}
	return err
}

// copyFrom adds the extents of src to the open part of w as they are.
func (w *segmentWriter) copyFrom(src *source) error {
	defer src.close()
	for x, ok := src.read(); ok; x, ok = src.read() {
		if x.damaged && src.sound {
			x.err = corruptf("%v %d is damaged at offsets %d-%d", x.Kind, x.Seq, x.Base, x.Last)
		}
		if x.err != nil {
			x.release()
			return x.err
		}
		w.room(int(x.Len))
		if err := w.open.copyExtent(&x); err != nil {
			return err
		}
	}
	return nil
}
