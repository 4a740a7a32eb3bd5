package objectstore_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemill/tidemill/objectstore"
	"github.com/tidemill/tidemill/objectstore/memstore"
	"github.com/tidemill/tidemill/objectstore/storetest"
)

func TestHedgeContract(t *testing.T) {
	storetest.Run(t, func(*testing.T) objectstore.Store {
		m := memstore.New()
		return objectstore.Hedge(m, m, objectstore.HedgeOptions{DelayMin: 1, ConflictWait: time.Minute, ExtraMax: 1, ErrorsMax: 1})
	})
}

// A reply is what a scripted attempt answers, and when. It ends earlier, ambiguously, with its context.
type reply struct {
	after time.Duration
	err   error
	fill  byte
}

const hangs = 365 * 24 * time.Hour

// scripted answers every request with its reply, and counts them.
type scripted struct {
	objectstore.Store
	reply          reply
	calls, running atomic.Int64
}

func (s *scripted) run(ctx context.Context) error {
	s.calls.Add(1)
	s.running.Add(1)
	defer s.running.Add(-1)
	timer := time.NewTimer(s.reply.after)
	defer timer.Stop()
	select {
	case <-timer.C:
		return s.reply.err
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", objectstore.ErrAmbiguous, ctx.Err())
	}
}

func (s *scripted) Put(ctx context.Context, _ string, _ []byte) error { return s.run(ctx) }

func (s *scripted) Get(ctx context.Context, _ string) ([]byte, error) {
	if err := s.run(ctx); err != nil {
		return nil, err
	}
	return []byte{s.reply.fill}, nil
}

func (s *scripted) ReadAt(ctx context.Context, _ string, p []byte, _ int64) error {
	p[0] = s.reply.fill
	return s.run(ctx)
}

var eager = objectstore.HedgeOptions{DelayMin: 150 * time.Millisecond, ExtraMax: 1}

func TestHedgePut(t *testing.T) {
	const ms = time.Millisecond
	for _, c := range []struct {
		name          string
		first, second reply
		want          error
		took          time.Duration
		hedged        int64
	}{
		{"quick", reply{after: 149 * ms}, reply{}, nil, 149 * ms, 0},
		{"quick failure is the caller's", reply{10 * ms, objectstore.ErrAmbiguous, 0}, reply{}, objectstore.ErrAmbiguous, 10 * ms, 0},
		{"first hangs", reply{after: hangs}, reply{after: 5 * ms}, nil, 155 * ms, 1},
		{"first wins late", reply{after: 200 * ms}, reply{after: hangs}, nil, 200 * ms, 1},
		{"conflict with the own sibling", reply{after: 180 * ms}, reply{5 * ms, objectstore.ErrConflict, 0}, nil, 180 * ms, 1},
		{"conflict with the own hedge", reply{160 * ms, objectstore.ErrConflict, 0}, reply{after: 30 * ms}, nil, 180 * ms, 1},
		{"conflict while the sibling hangs", reply{after: hangs}, reply{5 * ms, objectstore.ErrConflict, 0}, objectstore.ErrConflict, 205 * ms, 1},
		{"conflict with another", reply{160 * ms, objectstore.ErrConflict, 0}, reply{20 * ms, objectstore.ErrConflict, 0}, objectstore.ErrConflict, 170 * ms, 1},
		{"first fails, second lands", reply{160 * ms, objectstore.ErrAmbiguous, 0}, reply{after: 30 * ms}, nil, 180 * ms, 1},
		{"second fails, first lands", reply{after: 200 * ms}, reply{5 * ms, objectstore.ErrDenied, 0}, nil, 200 * ms, 1},
		{"denied beside unknown is unknown", reply{160 * ms, objectstore.ErrDenied, 0}, reply{30 * ms, objectstore.ErrAmbiguous, 0}, objectstore.ErrAmbiguous, 180 * ms, 1},
		{"both denied", reply{160 * ms, objectstore.ErrDenied, 0}, reply{30 * ms, objectstore.ErrDenied, 0}, objectstore.ErrDenied, 180 * ms, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				first, second := &scripted{reply: c.first}, &scripted{reply: c.second}
				started := time.Now()
				err := objectstore.Hedge(first, second, eager).Put(t.Context(), "key", nil)
				if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
					t.Errorf("got error %v, want %v", err, c.want)
				}
				if took := time.Since(started); took != c.took {
					t.Errorf("took %v, want %v", took, c.took)
				}
				if got := second.calls.Load(); got != c.hedged {
					t.Errorf("sent %d second attempts, want %d", got, c.hedged)
				}
				if first.running.Load()+second.running.Load() != 0 {
					t.Error("an attempt runs on and may still use the body")
				}
			})
		})
	}
}

func TestHedgeReads(t *testing.T) {
	const ms = time.Millisecond
	for _, c := range []struct {
		name          string
		first, second reply
		want          error
		fill          byte
	}{
		{"first", reply{10 * ms, nil, 1}, reply{0, nil, 2}, nil, 1},
		{"second", reply{hangs, nil, 1}, reply{10 * ms, nil, 2}, nil, 2},
		{"first, late", reply{200 * ms, nil, 1}, reply{hangs, nil, 2}, nil, 1},
		{"second knows it is absent", reply{hangs, nil, 1}, reply{10 * ms, objectstore.ErrNotFound, 2}, objectstore.ErrNotFound, 0},
		{"second knows the end", reply{hangs, nil, 1}, reply{10 * ms, objectstore.ErrRange, 2}, objectstore.ErrRange, 0},
		{"second fails", reply{200 * ms, nil, 1}, reply{10 * ms, objectstore.ErrDenied, 2}, nil, 1},
		{"first fails", reply{160 * ms, objectstore.ErrDenied, 1}, reply{30 * ms, nil, 2}, nil, 2},
		{"both fail", reply{160 * ms, objectstore.ErrNoBucket, 1}, reply{30 * ms, objectstore.ErrDenied, 2}, objectstore.ErrNoBucket, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := objectstore.Hedge(&scripted{reply: c.first}, &scripted{reply: c.second}, eager)
				got, err := h.Get(t.Context(), "key")
				if !errors.Is(err, c.want) || err == nil && got[0] != c.fill {
					t.Errorf("get: got %v, error %v; want %v, error %v", got, err, c.fill, c.want)
				}
				p := make([]byte, 1)
				err = h.ReadAt(t.Context(), "key", p, 0)
				if !errors.Is(err, c.want) || err == nil && p[0] != c.fill {
					t.Errorf("read: got %v, error %v; want %v, error %v", p, err, c.fill, c.want)
				}
			})
		})
	}
}

func TestHedgeEndsWithItsCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, second := &scripted{reply: reply{after: hangs}}, &scripted{reply: reply{after: hangs}}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := objectstore.Hedge(first, second, eager).Put(ctx, "key", nil)
		if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, objectstore.ErrAmbiguous) {
			t.Errorf("got error %v, want %v and %v", err, context.DeadlineExceeded, objectstore.ErrAmbiguous)
		}
		if second.calls.Load() != 1 || first.running.Load()+second.running.Load() != 0 {
			t.Errorf("got %d second attempts, %d running", second.calls.Load(), first.running.Load()+second.running.Load())
		}
	})
}

func TestHedgeBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, second := &scripted{reply: reply{after: 10 * time.Millisecond}}, &scripted{reply: reply{after: hangs}}
		h := objectstore.Hedge(first, second, objectstore.HedgeOptions{ExtraMax: 0.02})
		for i := range 1000 {
			first.reply.after = 10 * time.Millisecond
			// Twice as often as the budget allows, and seldom enough to stay out of the percentile that is waited for:
			// in it, the wait and the put would end at the same instant.
			if i%25 == 0 {
				first.reply.after = 10 * time.Second
			}
			if err := h.Put(t.Context(), "key", nil); err != nil {
				t.Fatalf("put: %v", err)
			}
		}
		if got := second.calls.Load(); got > 20 || got < 15 {
			t.Errorf("1000 puts sent %d second attempts, want about 2%% and no more", got)
		}
	})
}

func TestHedgeStopsWhileTheStoreFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, second := &scripted{}, &scripted{}
		h := objectstore.Hedge(first, second, eager)
		send := func(r reply) int64 {
			first.reply = r
			before := second.calls.Load()
			_ = h.Put(t.Context(), "key", nil) // how it ends is tested above
			return second.calls.Load() - before
		}
		if send(reply{after: hangs}) != 1 {
			t.Error("a slow put of a good store was not sent again")
		}
		for range 3 {
			send(reply{err: objectstore.ErrAmbiguous})
		}
		if send(reply{after: time.Second}) != 0 {
			t.Error("a slow put of a failing store was sent again")
		}
		<-time.After(31 * time.Second) // of the bubble's clock
		if send(reply{after: hangs}) != 1 {
			t.Error("a slow put was not sent again after the store had recovered")
		}
	})
}

func TestHedgeDelayFollowsTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, second := &scripted{}, &scripted{reply: reply{after: hangs}}
		h := objectstore.Hedge(first, second, eager)
		for i := range 64 {
			first.reply.after = 400 * time.Millisecond
			if i%8 == 0 {
				first.reply.after = 500 * time.Millisecond
			}
			if err := h.Put(t.Context(), "key", nil); err != nil {
				t.Fatalf("put: %v", err)
			}
		}
		if got := second.calls.Load(); got > 24 {
			t.Errorf("64 puts as slow as ever sent %d second attempts, want those before the window filled", got)
		}
		first.reply.after, second.reply.after = hangs, 0
		started := time.Now()
		if err := h.Put(t.Context(), "key", nil); err != nil || time.Since(started) != 500*time.Millisecond {
			t.Errorf("put: error %v after %v, want a second attempt at the 95th percentile, 500ms", err, time.Since(started))
		}
	})
}

// TestHedgeLeavesLargeBodiesAlone: a segment is not worth sending twice, nor a read of several blocks.
func TestHedgeLeavesLargeBodiesAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow, quick := &scripted{reply: reply{after: time.Minute}}, &scripted{}
		s := objectstore.Hedge(slow, quick, objectstore.HedgeOptions{DelayMin: time.Millisecond, ExtraMax: 1, ErrorsMax: 1})
		if err := s.Put(t.Context(), "segment", make([]byte, 11<<20)); err != nil {
			t.Error(err)
		}
		if err := s.ReadAt(t.Context(), "segment", make([]byte, 2<<20), 0); err != nil {
			t.Error(err)
		}
		if n := quick.calls.Load(); n != 0 {
			t.Errorf("%d second attempts", n)
		}
	})
}
