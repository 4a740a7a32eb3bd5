package faultstore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"time"

	"github.com/tidemill/tidemill/objectstore"
)

var errInjected = errors.New("injected fault")

// A finding is what one request was dealt.
type finding struct {
	fault Fault
	rule  *rule  // nil: no rule applied
	draw  uint64 // this request's own random number
}

// begin finds the request's fault and waits its latency.
func (s *Store) begin(ctx context.Context, op Op, key string) (finding, error) {
	f := s.find(op, key)
	if f.rule == nil || f.rule.Latency+f.rule.Jitter == 0 {
		return f, nil
	}
	wait := f.rule.Latency
	if f.rule.Jitter > 0 {
		wait += time.Duration(f.draw % uint64(f.rule.Jitter))
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return f, nil
	case <-ctx.Done():
		return f, ctx.Err()
	}
}

func (s *Store) find(op Op, key string) finding {
	s.mu.Lock()
	defer s.mu.Unlock()
	pair := string(op) + " " + key
	nth := s.mu.seen[pair]
	s.mu.seen[pair]++
	for _, r := range s.mu.rules {
		if r.Op != Any && r.Op != op || r.Match != nil && !r.Match(key) {
			continue
		}
		r.matched++
		draw := draw(s.seed, uint64(r.index), nth, pair)
		if r.matched <= r.Skip || r.Limit > 0 && r.applied >= r.Limit || r.Chance > 0 && unit(draw) >= r.Chance {
			continue
		}
		r.applied++
		s.mu.faulted++
		return finding{fault: r.Fault, rule: r, draw: draw}
	}
	return finding{}
}

// draw is a stateless random number: the same request of the same seed always gets the same.
func draw(seed, index, nth uint64, pair string) uint64 {
	h := fnv.New64a()
	var b [24]byte
	binary.BigEndian.PutUint64(b[:], seed)
	binary.BigEndian.PutUint64(b[8:], index)
	binary.BigEndian.PutUint64(b[16:], nth)
	_, _ = h.Write(b[:]) // a hash never fails
	_, _ = h.Write([]byte(pair))
	// FNV leaves its low inputs in few bits; the finalizer of splitmix64 spreads them.
	x := h.Sum64()
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

func unit(draw uint64) float64 { return float64(draw>>11) / (1 << 53) }

// loses reports a fault after which a read has no answer.
func (f finding) loses() bool {
	return f.fault == Lost || f.fault == LostReply || f.fault == Late
}

func (f finding) fail(op Op, key string) error {
	switch {
	case f.rule.Err != nil:
		return fmt.Errorf("%s %s: injected: %w", op, key, f.rule.Err)
	case op == Put:
		return fmt.Errorf("%s %s: %w: %w", op, key, objectstore.ErrAmbiguous, errInjected)
	default:
		return fmt.Errorf("%s %s: %w", op, key, errInjected)
	}
}

func (f finding) flip(p []byte) {
	bit := f.draw % (8 * uint64(len(p)))
	p[bit/8] ^= 1 << (bit % 8)
}

// applyLate stores body, which it owns, after the caller was told that it failed.
func (s *Store) applyLate(ctx context.Context, f finding, key string, body []byte) {
	apply := func() { _ = s.below.Put(ctx, key, body) } // nobody is left to hear the answer
	if f.rule.Delay == 0 {
		s.mu.Lock()
		s.mu.held = append(s.mu.held, apply)
		s.mu.Unlock()
		return
	}
	s.late.Add(1)
	time.AfterFunc(f.rule.Delay, func() {
		defer s.late.Done()
		apply()
	})
}
