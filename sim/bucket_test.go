package sim

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tidemill/tidemill/objectstore"
)

// attemptLimit is when the network gives a request up, whose effect may come later.
const attemptLimit = 5 * time.Second

// bucket is a write-once store whose requests are lost, late, doubled and of unknown outcome.
type bucket struct {
	w       *world
	objects map[string][]byte
}

// apply is the instant at which a PUT takes effect.
func (s *bucket) apply(key string, body []byte) error {
	if _, taken := s.objects[key]; taken {
		return objectstore.ErrConflict
	}
	s.objects[key] = body
	s.w.truth.idle[key] = s.w.now()
	s.w.trace("stored", "%s", key)
	return nil
}

// put stores body and calls done once.
func (s *bucket) put(key string, body []byte, done func(error)) {
	w, c := s.w, &s.w.cfg
	there, back := w.delay(), w.delay()
	apply := func() error { return s.apply(key, body) }
	unknown := func() { done(fmt.Errorf("simulated: %w", objectstore.ErrAmbiguous)) }
	switch {
	case w.faulty(c.putLost):
		w.after(there+back, unknown)
	case w.faulty(c.putApplied):
		w.after(there, func() { _ = apply() })
		w.after(there+back, unknown)
	case w.faulty(c.putLate):
		w.after(attemptLimit+w.between(0, [...]time.Duration{time.Second, 20 * time.Second, 5 * time.Minute}[w.rng.IntN(3)]),
			func() { w.trace("late put", "%s", key); _ = apply() })
		w.after(attemptLimit, unknown)
	case w.faulty(c.putTwice):
		w.after(there+w.between(0, time.Minute), func() { _ = apply() })
		s.twoWay(there, back, apply, done)
	default:
		s.twoWay(there, back, apply, done)
	}
}

// twoWay takes effect after there and answers after back, or says "unknown" at the limit.
func (s *bucket) twoWay(there, back time.Duration, effect func() error, done func(error)) {
	if there+back > attemptLimit {
		s.w.after(there, func() { _ = effect() })
		s.w.after(attemptLimit, func() { done(objectstore.ErrAmbiguous) })
		return
	}
	s.w.after(there, func() {
		err := effect()
		s.w.after(back, func() { done(err) })
	})
}

// read runs effect at one instant between call and answer.
func (s *bucket) read(effect func() error, done func(error)) {
	there, back := s.w.delay(), s.w.delay()
	if s.w.faulty(s.w.cfg.getError) || there+back > attemptLimit {
		s.w.after(min(there+back, attemptLimit), func() { done(objectstore.ErrAmbiguous) })
		return
	}
	s.w.look(there, back, func() func() {
		err := effect()
		return func() { done(err) }
	})
}

// delete removes keys, perhaps long after it was given up.
func (s *bucket) delete(keys []string, done func(error)) {
	if s.w.faulty(s.w.cfg.putLate) {
		s.w.after(attemptLimit+s.w.between(0, time.Minute), func() { s.remove(keys) })
		s.w.after(attemptLimit, func() { done(objectstore.ErrAmbiguous) })
		return
	}
	there, back := s.w.delay(), s.w.delay()
	if s.w.faulty(s.w.cfg.getError) {
		s.w.after(min(there+back, attemptLimit), func() { done(objectstore.ErrAmbiguous) })
		return
	}
	s.twoWay(there, back, func() error { s.remove(keys); return nil }, done)
}

func (s *bucket) remove(keys []string) {
	for _, key := range keys {
		if _, ok := s.objects[key]; ok {
			s.w.trace("deleted", "%s", key)
			s.w.truth.deleted(key)
			delete(s.objects, key)
		}
	}
}

// store is the bucket as a process sees it.
type store struct{ p *process }

var _ objectstore.BodyStore = (*store)(nil)

func (c *store) Put(ctx context.Context, key string, body []byte) error {
	return c.put(ctx, key, bytes.Clone(body))
}

func (c *store) PutBody(ctx context.Context, key string, body objectstore.Body) error {
	return c.put(ctx, key, slices.Concat(body.Pieces...))
}

func (c *store) put(ctx context.Context, key string, body []byte) error {
	var out error
	err := c.p.ask(ctx, "put "+key, func(done func()) {
		c.p.w.bucket.put(key, body, func(err error) { out = err; done() })
	})
	if err != nil {
		return fmt.Errorf("put %s: %w: %w", key, objectstore.ErrAmbiguous, err)
	}
	return out
}

func (c *store) Get(ctx context.Context, key string) ([]byte, error) { return c.get(ctx, key, "") }

func (c *store) get(ctx context.Context, key, part string) ([]byte, error) {
	var object []byte
	var out error
	err := c.p.ask(ctx, "get "+key+part, func(done func()) {
		c.p.w.bucket.read(func() error {
			found, ok := c.p.w.bucket.objects[key]
			if !ok {
				return objectstore.ErrNotFound
			}
			object = found
			return nil
		}, func(err error) { out = err; done() })
	})
	if err == nil {
		err = out // only then nobody writes to it any more
	}
	if err != nil {
		return nil, err
	}
	return object, nil // immutable
}

func (c *store) ReadAt(ctx context.Context, key string, p []byte, off int64) error {
	object, err := c.get(ctx, key, " at "+strconv.FormatInt(off, 10)+"+"+strconv.Itoa(len(p)))
	if err != nil {
		return err
	}
	if off+int64(len(p)) > int64(len(object)) {
		return objectstore.ErrRange
	}
	copy(p, object[off:])
	return nil
}

func (c *store) Delete(ctx context.Context, keys ...string) error {
	keys = slices.Clone(keys)
	var out error
	err := c.p.ask(ctx, "delete "+keys[0], func(done func()) {
		c.p.w.bucket.delete(keys, func(err error) { out = err; done() })
	})
	if err != nil {
		return err
	}
	return out
}

func (c *store) List(ctx context.Context, prefix, after string) iter.Seq2[objectstore.Info, error] {
	return func(yield func(objectstore.Info, error) bool) {
		var found []objectstore.Info
		var out error
		err := c.p.ask(ctx, "list "+prefix, func(done func()) {
			c.p.w.bucket.read(func() error {
				for key, object := range c.p.w.bucket.objects {
					if strings.HasPrefix(key, prefix) && key > after {
						found = append(found, objectstore.Info{Key: key, Size: int64(len(object))})
					}
				}
				return nil
			}, func(err error) { out = err; done() })
		})
		if err == nil {
			err = out
		}
		if err != nil {
			yield(objectstore.Info{}, err)
			return
		}
		slices.SortFunc(found, func(a, b objectstore.Info) int { return strings.Compare(a.Key, b.Key) })
		for _, info := range found {
			if !yield(info, nil) {
				return
			}
		}
	}
}
