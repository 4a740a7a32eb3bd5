package wal

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	"github.com/tidemill/tidemill/objectstore"
)

var (
	simLife    = Life{Broker: 7, Epoch: 3, Nonce: [8]byte{1, 2, 3, 4, 5, 6, 7, 8}}
	simCluster = Cluster{ID: "simulated-cluster-0001", Generation: 2}
)

const attemptLimit = 5 * time.Second

// simStore is a write-once store whose requests are lost, late, doubled, refused and damaged.
type simStore struct {
	w       *world
	objects map[string][]byte
	// data remembers the first data slot stored under each key, whatever was deleted since.
	data map[string][]byte
}

// apply is the instant at which a PUT takes effect.
func (s *simStore) apply(key string, body []byte) error {
	if _, taken := s.objects[key]; taken {
		return objectstore.ErrConflict
	}
	s.objects[key] = body
	if strings.HasPrefix(key, "wal/") {
		h, _, err := DecodeSlot(body)
		if err != nil {
			s.w.violate("format", "stored %s: %v", key, err)
		}
		s.w.trace("stored "+h.Kind.String(), h.Seq, 0)
		if old, known := s.data[key]; known && h.Kind == KindData && !bytes.Equal(old, body) {
			s.w.violate("immutable", "slot %d changed its bytes (W2)", h.Seq)
		} else if known {
			s.w.trace("re-created", h.Seq, 0)
		} else if h.Kind == KindData {
			s.data[key] = body
		}
	}
	return nil
}

// put stores body and calls done once, at the latest after limit.
func (s *simStore) put(key string, body []byte, done func(error)) {
	w, c := s.w, &s.w.cfg
	there, back := w.delay(), w.delay()
	reply := func(after time.Duration, f func() error) { s.reply(after, f, done) }
	failed := func() error { return fmt.Errorf("simulated: %w", objectstore.ErrAmbiguous) }
	apply := func() error { return s.apply(key, body) }
	switch {
	case w.faulty(c.putLost), w.faulty(c.putConflict409):
		reply(there+back, failed)
	case w.faulty(c.putDenied):
		reply(there+back, func() error { return objectstore.ErrDenied })
	case w.faulty(c.putAppliedError):
		w.after(there, func() { _ = apply() })
		reply(there+back, failed)
	case w.faulty(c.putLate):
		// Applied when the caller has given up long ago, perhaps after the object was deleted.
		w.after(attemptLimit+w.between(0, [...]time.Duration{time.Second, time.Minute, 6 * time.Minute}[w.rng.IntN(3)]),
			func() { w.trace("late put", 0, 0); _ = apply() })
		reply(attemptLimit, failed)
	case w.faulty(c.putTwice):
		w.after(there+w.between(0, 5*time.Minute), func() { _ = apply() })
		s.twoWay(there, back, apply, done)
	case w.faulty(c.putSelfConflict):
		w.after(there/2, func() { _ = apply() })
		s.twoWay(there, back, apply, done)
	default:
		s.twoWay(there, back, apply, done)
	}
}

// twoWay takes effect after there and answers after back, or says "unknown" at the limit.
func (s *simStore) twoWay(there, back time.Duration, effect func() error, done func(error)) {
	if there+back > attemptLimit {
		s.w.after(there, func() { _ = effect() })
		s.reply(attemptLimit, func() error { return objectstore.ErrAmbiguous }, done)
		return
	}
	s.w.after(there, func() {
		err := effect()
		s.w.after(back, func() { done(err) })
	})
}

func (s *simStore) reply(after time.Duration, f func() error, done func(error)) {
	s.w.after(after, func() { done(f()) })
}

// get reads an object: as it is at one instant between call and answer.
func (s *simStore) get(key string, done func([]byte, error)) {
	w, c := s.w, &s.w.cfg
	var object []byte
	there, back := w.delay(), w.delay()
	if w.faulty(c.getError) {
		w.after(min(there+back, attemptLimit), func() { done(nil, objectstore.ErrAmbiguous) })
		return
	}
	s.twoWay(there, back, func() error {
		o, ok := s.objects[key]
		if !ok {
			return objectstore.ErrNotFound
		}
		object = s.damage(o)
		return nil
	}, func(err error) { done(object, err) })
}

// damage truncates or flips what a reader gets.
func (s *simStore) damage(object []byte) []byte {
	w, c := s.w, &s.w.cfg
	switch {
	case w.faulty(c.getTruncated):
		w.trace("truncated read", 0, 0)
		return object[:w.rng.IntN(len(object))]
	case w.faulty(c.getFlipped):
		w.trace("flipped read", 0, 0)
		bad := bytes.Clone(object)
		bad[w.rng.IntN(len(bad))] ^= 1 << w.rng.IntN(8)
		return bad
	}
	return object
}

// header reads the first bytes of an object, as ReadAt does.
func (s *simStore) header(key string, done func([]byte, error)) {
	s.get(key, func(object []byte, err error) {
		if err == nil && len(object) < HeaderLen {
			err = objectstore.ErrRange
		}
		if err != nil {
			done(nil, err)
			return
		}
		done(object[:HeaderLen], nil)
	})
}

// remove deletes slot seq, as GC does.
func (s *simStore) remove(seq int64) {
	key := SlotKey(simLife, seq)
	if _, ok := s.objects[key]; ok {
		s.w.trace("deleted", seq, 0)
		delete(s.objects, key)
	}
}

// simRegistry is one stream's state behind ambiguous, delayed transactions.
type simRegistry struct {
	w     *world
	state StreamState
}

// txn runs f at one instant, or never, and answers what f returned, or an error.
func (r *simRegistry) txn(f func() error, done func(StreamState, error)) {
	w, c := r.w, &r.w.cfg
	var after StreamState
	effect := func() error {
		err := f()
		after = r.state
		return err
	}
	there, back := w.delay(), w.delay()
	switch {
	case w.faulty(c.regLost):
		w.after(there+back, func() { done(StreamState{}, errUnknownTxn) })
	case w.faulty(c.regAppliedError):
		w.after(there, func() { _ = effect() })
		w.after(there+back, func() { done(StreamState{}, errUnknownTxn) })
	case w.faulty(c.regLate):
		w.after(attemptLimit+w.between(0, time.Minute), func() { _ = effect() })
		w.after(attemptLimit, func() { done(StreamState{}, errUnknownTxn) })
	default:
		w.store.twoWay(there, back, effect, func(err error) { done(after, err) })
	}
}

var errUnknownTxn = fmt.Errorf("simulated: transaction outcome unknown")

func (r *simRegistry) load(done func(StreamState, error)) {
	r.txn(func() error { return nil }, done)
}

func (r *simRegistry) beginSeal(rev int64, name string, done func(StreamState, error)) {
	r.txn(func() error {
		r.move(r.state.BeginSeal(rev, name))
		return nil
	}, done)
}

func (r *simRegistry) finishSeal(n int64, digest Digest, key string, done func(StreamState, error)) {
	r.txn(func() error {
		r.move(r.state.FinishSeal(n, digest, key))
		return nil
	}, done)
}

func (r *simRegistry) move(next StreamState, ok bool) {
	if ok {
		next.Rev++
		r.state = next
		r.w.trace("phase", int64(next.Phase), next.N)
	}
}

func (r *simRegistry) trim(rev, t int64, done func(StreamState, error)) {
	r.txn(func() error {
		if err := r.state.CheckTrim(rev, t); err != nil && !(r.w.cfg.trimAlways && t > r.state.Trim) {
			return err
		}
		r.state.Trim = t
		r.w.trace("trim", t, 0)
		return nil
	}, done)
}
