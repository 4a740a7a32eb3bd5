package partition

import (
	"context"
	"errors"
	"fmt"
)

// deleteBatch is how many objects are deleted at a time.
const deleteBatch = 256

// deleteDue deletes the objects that nobody has referred to for long enough (G2, G5), many at a time. What cannot be deleted is tried
// again another time, behind the others.
func (s *Set) deleteDue(ctx context.Context) error {
	var batch []doomed
	var failed []error
	keys := 0
	for _, d := range s.objects.due(s.opts.Now().Add(-s.opts.DeleteDelay)) {
		for d.seq < d.until {
			part := d
			part.until = min(d.until, d.seq+int64(deleteBatch-keys))
			batch, keys, d.seq = append(batch, part), keys+int(part.until-part.seq), part.until
			if keys == deleteBatch {
				failed = append(failed, s.deleteAll(ctx, batch))
				batch, keys = nil, 0
			}
		}
	}
	if keys > 0 {
		failed = append(failed, s.deleteAll(ctx, batch))
	}
	if err := errors.Join(failed...); err != nil {
		return fmt.Errorf("delete unreferenced objects: %w", err)
	}
	return nil
}

// deleteAll deletes objects in one request. If that fails, perhaps for one of them only, it goes on one by one until another fails.
func (s *Set) deleteAll(ctx context.Context, batch []doomed) error {
	if s.deleteKeys(ctx, batch...) == nil {
		return nil
	}
	var failed []error
	for i, d := range batch {
		for one := d; one.seq < d.until; one.seq++ {
			if len(failed) > 1 || ctx.Err() != nil {
				one.until = d.until
				s.objects.putBack(append([]doomed{one}, batch[i+1:]...), s.opts.Now())
				return errors.Join(failed...)
			}
			one.until = one.seq + 1
			if err := s.deleteKeys(ctx, one); err != nil {
				failed = append(failed, err)
				s.objects.putBack([]doomed{one}, s.opts.Now())
			}
		}
	}
	return errors.Join(failed...)
}

// deleteKeys makes one request.
func (s *Set) deleteKeys(ctx context.Context, batch ...doomed) error {
	ctx, cancel := context.WithTimeout(ctx, s.opts.LoadTimeout)
	defer cancel()
	var keys []string
	for _, d := range batch {
		for seq := d.seq; seq < d.until; seq++ {
			keys = append(keys, s.keyOf(objectID{d.kind, d.life, seq}))
		}
	}
	if err := s.opts.Store.Delete(ctx, keys...); err != nil {
		return errors.Join(ErrStorage, err)
	}
	s.metrics.deleted.Add(float64(len(keys)))
	return nil
}
