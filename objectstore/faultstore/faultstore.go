// Package faultstore wraps an object store with the faults that real ones have, for tests.
//
// Invariants: without rules it behaves as the store below; a fault is drawn from (seed, rule, operation, key, how often
// that operation saw that key), so that it does not depend on scheduling; stored bytes are never altered, only answers.
package faultstore

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/tidemill/tidemill/objectstore"
)

// Op names a method of objectstore.Store; the zero value stands for all.
type Op string

// The operations that rules can name.
const (
	Any    Op = ""
	Put    Op = "put"
	Get    Op = "get"
	ReadAt Op = "read_at"
	List   Op = "list"
	Delete Op = "delete"
)

// A Fault says what happens to a request.
type Fault int

const (
	// Slow only adds the rule's latency.
	Slow Fault = iota
	// Lost does not apply the request and answers with an error.
	Lost
	// LostReply applies the request and answers with an error.
	LostReply
	// Late answers a Put with an error and applies it later: after Rule.Delay, or at Release. Other operations: Lost.
	Late
	// Twice applies a Put, loses the answer, and applies it again as a retrying transport would: the caller sees the
	// second answer, a conflict with its own object. Other operations run twice.
	Twice
	// Conflict answers a Put with ErrConflict although the key is free. Other operations: Slow.
	Conflict
	// Taken stores another writer's bytes first (Rule.Body), so that a Put conflicts. Other operations: Slow.
	Taken
	// Truncate cuts what Get returns, and fails ReadAt as a short body would be found to. Other operations: Slow.
	Truncate
	// Flip inverts one bit of what Get or ReadAt returns. Other operations: Slow.
	Flip
)

// A Rule applies its fault to the requests that match all its conditions. The zero conditions match everything.
type Rule struct {
	Op    Op
	Match func(key string) bool // nil: every key; must not block
	Fault Fault

	Skip   int     // let this many matching requests pass first
	Limit  int     // then fault at most this many; 0: no limit
	Chance float64 // then fault with this probability; 0: always

	Err     error         // what Lost, LostReply and Late answer; nil: ErrAmbiguous for writes, a plain error for reads
	Latency time.Duration // added before the request; ends early with its context
	Jitter  time.Duration // at most this is added to Latency
	Delay   time.Duration // Late: when to apply; 0: at Release
	Body    []byte        // Taken: what the other writer stored
}

// A Store injects faults into another. It is safe for concurrent use.
type Store struct {
	below objectstore.Store
	seed  uint64
	late  sync.WaitGroup

	mu struct {
		sync.Mutex
		rules   []*rule
		held    []func()          // Late puts waiting for Release
		seen    map[string]uint64 // requests by operation and key: how often a pair was drawn for
		faulted int
	}
}

type rule struct {
	Rule
	index   int
	matched int // requests that met Op and Match; owned by Store.mu
	applied int // requests faulted; owned by Store.mu
}

var _ objectstore.BodyStore = (*Store)(nil)

// New wraps below with rules; the first that applies to a request decides it.
func New(below objectstore.Store, seed uint64, rules ...Rule) *Store {
	s := &Store{below: below, seed: seed}
	s.mu.seen = make(map[string]uint64)
	s.SetRules(rules...)
	return s
}

// SetRules replaces all rules; SetRules() heals the store. Puts held by Late stay held.
func (s *Store) SetRules(rules ...Rule) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.rules = nil
	for i, r := range rules {
		s.mu.rules = append(s.mu.rules, &rule{Rule: r, index: i})
	}
}

// Rules returns the rules as they were set.
func (s *Store) Rules() []Rule {
	s.mu.Lock()
	defer s.mu.Unlock()
	rules := make([]Rule, 0, len(s.mu.rules))
	for _, r := range s.mu.rules {
		rules = append(rules, r.Rule)
	}
	return rules
}

// Faulted returns how many requests were given a fault.
func (s *Store) Faulted() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.faulted
}

// Release applies the Puts that Late holds, in the order they were sent, and returns how many there were.
func (s *Store) Release() int {
	s.mu.Lock()
	held := s.mu.held
	s.mu.held = nil
	s.mu.Unlock()
	for _, apply := range held {
		apply()
	}
	return len(held)
}

// Wait returns when every Put that Late applies after a Delay has been applied.
func (s *Store) Wait() { s.late.Wait() }

// Put implements objectstore.Store.
func (s *Store) Put(ctx context.Context, key string, body []byte) error {
	return s.put(ctx, key, func(ctx context.Context) error { return s.below.Put(ctx, key, body) },
		func() []byte { return slices.Clone(body) })
}

// PutBody implements objectstore.BodyStore, so that a store below gets the pieces as they lie, faults or not.
func (s *Store) PutBody(ctx context.Context, key string, body objectstore.Body) error {
	return s.put(ctx, key, func(ctx context.Context) error { return objectstore.PutBody(ctx, s.below, key, body) },
		func() []byte { return slices.Concat(body.Pieces...) })
}

// put applies a fault to a Put: apply does it below, and clone returns a body to keep.
func (s *Store) put(ctx context.Context, key string, apply func(context.Context) error, clone func() []byte) error {
	f, err := s.begin(ctx, Put, key)
	if err != nil {
		return fmt.Errorf("put %s: %w: %w", key, objectstore.ErrAmbiguous, err)
	}
	switch f.fault {
	case Lost:
		return f.fail(Put, key)
	case LostReply:
		_ = apply(ctx) // the caller is not to learn it
		return f.fail(Put, key)
	case Late:
		s.applyLate(context.WithoutCancel(ctx), f, key, clone())
		return f.fail(Put, key)
	case Twice:
		_ = apply(ctx) // its answer is what gets lost
	case Conflict:
		return fmt.Errorf("put %s: injected: %w", key, objectstore.ErrConflict)
	case Taken:
		if err := s.below.Put(ctx, key, f.rule.Body); err != nil {
			return err
		}
	}
	return apply(ctx)
}

// Get implements objectstore.Store.
func (s *Store) Get(ctx context.Context, key string) ([]byte, error) {
	f, err := s.begin(ctx, Get, key)
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", key, err)
	}
	body, err := s.below.Get(ctx, key)
	if f.loses() {
		return nil, f.fail(Get, key)
	}
	if err == nil && len(body) > 0 {
		switch f.fault {
		case Truncate:
			body = body[:f.draw%uint64(len(body))]
		case Flip:
			f.flip(body)
		}
	}
	return body, err
}

// ReadAt implements objectstore.Store.
func (s *Store) ReadAt(ctx context.Context, key string, p []byte, off int64) error {
	f, err := s.begin(ctx, ReadAt, key)
	if err != nil {
		return fmt.Errorf("read %s: %w", key, err)
	}
	err = s.below.ReadAt(ctx, key, p, off)
	if f.loses() || f.fault == Truncate {
		return f.fail(ReadAt, key)
	}
	if err == nil && len(p) > 0 && f.fault == Flip {
		f.flip(p)
	}
	return err
}

// List implements objectstore.Store.
func (s *Store) List(ctx context.Context, prefix, after string) iter.Seq2[objectstore.Info, error] {
	return func(yield func(objectstore.Info, error) bool) {
		f, err := s.begin(ctx, List, prefix)
		if err == nil && f.loses() {
			err = f.fail(List, prefix)
		}
		if err != nil {
			yield(objectstore.Info{}, err)
			return
		}
		s.below.List(ctx, prefix, after)(yield)
	}
}

// Delete implements objectstore.Store. Rules match each key by itself; the first fault decides for all.
func (s *Store) Delete(ctx context.Context, keys ...string) error {
	for _, key := range keys {
		f, err := s.begin(ctx, Delete, key)
		if err != nil {
			return fmt.Errorf("delete %s: %w", key, err)
		}
		switch f.fault {
		case Lost, Late:
			return f.fail(Delete, key)
		case LostReply:
			_ = s.below.Delete(ctx, keys...) // the caller is not to learn it
			return f.fail(Delete, key)
		}
	}
	return s.below.Delete(ctx, keys...)
}
