package workload

import (
	"context"
	"time"

	"github.com/tidemill/tidemill/verify"
)

const (
	// probeEvery is how often somebody who takes no part looks at end offsets and committed offsets.
	probeEvery   = 250 * time.Millisecond
	probeTimeout = 5 * time.Second
	probeName    = "probe"
)

// probe looks until ctx ends.
func (w *Workload) probe(ctx context.Context) {
	for pause(ctx, probeEvery) {
		w.probeEnds(ctx)
		if w.o.Members > 0 {
			w.probeCommitted(ctx)
		}
	}
}

func (w *Workload) probeEnds(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	span := verify.Span{Begin: w.rec.now()}
	ends, err := w.admin.ListEndOffsets(ctx, w.o.Topic)
	span.End = w.rec.now()
	if err != nil {
		return // what is not answered contradicts nothing
	}
	w.rec.note(func(h *verify.History) {
		for partition, end := range ends[w.o.Topic] {
			if end.Err == nil && end.Offset >= 0 {
				h.EndOffsets = append(h.EndOffsets, verify.EndOffset{Span: span, Client: probeName, Partition: partition, Offset: end.Offset})
			}
		}
	})
}

func (w *Workload) probeCommitted(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	span := verify.Span{Begin: w.rec.now()}
	offsets, err := w.admin.FetchOffsets(ctx, w.o.Group)
	span.End = w.rec.now()
	if err != nil {
		return
	}
	w.rec.note(func(h *verify.History) {
		for partition := range w.o.Partitions {
			// Who asks for all offsets of a group gets those that there are.
			c := verify.Committed{Span: span, Group: w.o.Group, Client: probeName, Partition: partition, Offset: -1}
			if o, ok := offsets.Lookup(w.o.Topic, partition); ok {
				if o.Err != nil {
					continue
				}
				c.Offset = o.At
			}
			h.Committed = append(h.Committed, c)
		}
	})
}
