package partition

import (
	"context"
	"errors"
	"fmt"

	"github.com/tidemill/tidemill/objectstore"
	"github.com/tidemill/tidemill/protocol/record"
)

// view is a log's committed extents at one moment.
type view struct {
	parts           []Part
	recent          []Extent
	logStart, limit int64
}

func (l *Log) view() (view, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.gone {
		return view{}, l.ended
	}
	// recent is only appended to in place, so its present elements may be read without the lock.
	return view{parts: l.parts, recent: l.recent[l.unwrittenLocked():len(l.recent):len(l.recent)], logStart: l.logStart, limit: l.hw}, nil
}

// each calls fn for the extents at or behind the log start with a timestamp of at least ts, in order, until fn returns false.
func (l *Log) each(ctx context.Context, v view, ts int64, fn func(*Extent) (bool, error)) error {
	visit := func(extents []Extent) (bool, error) {
		for i := range extents {
			if e := &extents[i]; e.Last >= v.logStart && e.MaxTimestamp >= ts {
				if more, err := fn(e); err != nil || !more {
					return false, err
				}
			}
		}
		return true, nil
	}
	for i := range v.parts {
		if p := &v.parts[i]; p.Last < v.logStart || p.MaxTimestamp < ts {
			continue
		}
		extents, err := l.set.index(ctx, l.id, &v.parts[i])
		if err != nil {
			return err
		}
		if more, err := visit(extents); err != nil || !more {
			return err
		}
	}
	_, err := visit(v.recent)
	return err
}

// OffsetsForTime returns the timestamp and offset of the first record at or behind the log start whose timestamp is at least ts, and
// (-1, -1) when there is none (L2). Errors are those of Read.
func (l *Log) OffsetsForTime(ctx context.Context, ts int64) (timestamp, offset int64, err error) {
	timestamp, offset, err = l.offsetsForTime(ctx, ts)
	if errors.Is(err, objectstore.ErrNotFound) { // rewritten and deleted meanwhile
		timestamp, offset, err = l.offsetsForTime(ctx, ts)
	}
	return timestamp, offset, err
}

func (l *Log) offsetsForTime(ctx context.Context, ts int64) (timestamp, offset int64, err error) {
	v, err := l.view()
	if err != nil {
		return -1, -1, err
	}
	timestamp, offset = -1, -1
	err = l.each(ctx, v, ts, func(e *Extent) (bool, error) {
		err := l.records(ctx, e, v.logStart, ts, func(r record.Record) bool {
			if r.Timestamp < ts {
				return true
			}
			timestamp, offset = r.Timestamp, r.Offset
			return false
		})
		return offset < 0, err
	})
	if err != nil {
		return -1, -1, fmt.Errorf("look up time %d in %v: %w", ts, l.id, err)
	}
	return timestamp, offset, nil
}

// MaxTimestamp returns the largest record timestamp and the offset of the first record that has it, (-1, -1) when the log is empty
// (L1). Errors are those of Read.
func (l *Log) MaxTimestamp(ctx context.Context) (timestamp, offset int64, err error) {
	timestamp, offset, err = l.maxTimestamp(ctx)
	if errors.Is(err, objectstore.ErrNotFound) {
		timestamp, offset, err = l.maxTimestamp(ctx)
	}
	return timestamp, offset, err
}

func (l *Log) maxTimestamp(ctx context.Context) (timestamp, offset int64, err error) {
	v, err := l.view()
	if err != nil {
		return -1, -1, err
	}
	timestamp, offset = -1, -1
	floor := v.floor()
	err = l.each(ctx, v, floor, func(e *Extent) (bool, error) {
		least := floor
		if offset >= 0 {
			least = timestamp + 1
		}
		if e.MaxTimestamp < least {
			return true, nil
		}
		return true, l.records(ctx, e, v.logStart, least, func(r record.Record) bool {
			if offset < 0 || r.Timestamp > timestamp {
				timestamp, offset = r.Timestamp, r.Offset
			}
			return true
		})
	})
	if err != nil {
		return -1, -1, fmt.Errorf("look up the largest time in %v: %w", l.id, err)
	}
	return timestamp, offset, nil
}

// floor returns a timestamp that the largest one is not below: the largest of the extents and parts that lie wholly behind the log
// start. Without such, it is the smallest possible.
func (v *view) floor() int64 {
	floor := int64(minTimestamp)
	for i := range v.parts {
		if p := &v.parts[i]; p.Base >= v.logStart {
			floor = max(floor, p.MaxTimestamp)
		}
	}
	for i := range v.recent {
		if e := &v.recent[i]; e.Base >= v.logStart {
			floor = max(floor, e.MaxTimestamp)
		}
	}
	return floor
}

// records calls fn for the records of e at or behind offset, batch by batch where the batch's largest timestamp is at least ts, until
// fn returns false.
func (l *Log) records(ctx context.Context, e *Extent, offset, ts int64, fn func(record.Record) bool) error {
	r, err := l.set.openChunk(ctx, e)
	if err != nil {
		return err
	}
	defer r.release()
	var bad error
	err = r.walk(ctx, offset, func(b record.Batch, _ uint32) bool {
		if b.MaxTimestamp() < ts {
			return true
		}
		var more bool
		more, bad = l.set.recordsOf(ctx, b, offset, fn)
		return more
	})
	if bad != nil {
		return bad
	}
	return err
}

// recordsOf calls fn for the records of b at or behind offset until fn returns false. Compressed ones wait for their turn to be unpacked.
func (s *Set) recordsOf(ctx context.Context, b record.Batch, offset int64, fn func(record.Record) bool) (more bool, err error) {
	if b.Codec() != record.None {
		if err := acquire(ctx, s.opts.Unpacking); err != nil {
			return false, err
		}
		defer func() { <-s.opts.Unpacking }()
	}
	for rec, err := range record.Records(b, record.StoredLimits) {
		if err != nil {
			return false, corruptf("records at offset %d: %w", b.BaseOffset(), err)
		}
		if rec.Offset >= offset && !fn(rec) {
			return false, nil
		}
	}
	return true, nil
}
