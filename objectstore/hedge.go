package objectstore

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"time"
)

// HedgeOptions says when a second attempt is worth its price. The zero value uses the defaults.
type HedgeOptions struct {
	// DelayMin is the least wait before a second attempt; the wait is otherwise the 95th percentile of recent first
	// attempts of the same operation. Default 80 ms: a little more than a good PUT to S3 Standard takes, less than its
	// 95th percentile; a store that is quicker is merely busy below that, and asking twice adds load.
	DelayMin time.Duration
	// ConflictWait is how long a Put that met a conflict waits for its sibling to say that the object is its own. The
	// default, 50 ms, is about what the caller's read costs that a conflict otherwise asks for.
	ConflictWait time.Duration
	// ExtraMax bounds second attempts as a fraction of first ones. Default 0.1: half of it is what the 95th
	// percentile asks for, the rest is for hours when the store gets slower.
	ExtraMax float64
	// ErrorsMax is the fraction of failing attempts above which no second ones are sent, because a store in trouble
	// must not get more requests. Default 0.01, seen over the last 30 s.
	ErrorsMax float64
}

// hedged sends a late second attempt through another Store. See Hedge.
type hedged struct {
	first, second Store
	conflictWait  time.Duration
	budget        hedgeBudget
	put, get, at  hedgeWindow
}

// Hedge returns a Store that repeats a slow Put, Get or ReadAt of first through second, and answers with whichever
// succeeds sooner. Large ones are not repeated. Both must reach the same objects, by separate connections: a hung connection is what hedging is for.
//
// The two attempts of a Put carry identical bytes, so a conflict with the own sibling that was stored is success (W4).
// A loser is cancelled and waited for, so that no argument is kept after return; what it had sent may still land, even after
// the key was deleted, as with any Put whose outcome is unknown. List and Delete go to first alone.
func Hedge(first, second Store, o HedgeOptions) Store {
	o.DelayMin = cmp.Or(o.DelayMin, 80*time.Millisecond)
	o.ConflictWait = cmp.Or(o.ConflictWait, 50*time.Millisecond)
	o.ExtraMax = cmp.Or(o.ExtraMax, 0.1)
	o.ErrorsMax = cmp.Or(o.ErrorsMax, 0.01)
	h := &hedged{first: first, second: second, conflictWait: o.ConflictWait}
	h.budget.extraMax, h.budget.errorsMax = o.ExtraMax, o.ErrorsMax
	h.put.delayMin, h.get.delayMin, h.at.delayMin = o.DelayMin, o.DelayMin, o.DelayMin
	return h
}

// What is larger than a slot, or than a block of the read cache, is work in the background: to send it twice would cost more than its
// delay, and it would teach the windows nothing about the others.
const (
	hedgePutMax  = 10 << 20
	hedgeReadMax = 1 << 20
)

func (h *hedged) Put(ctx context.Context, key string, body []byte) error {
	if len(body) > hedgePutMax {
		return h.first.Put(ctx, key, body)
	}
	return h.racePut(ctx, func(ctx context.Context, s Store) error { return s.Put(ctx, key, body) })
}

func (h *hedged) PutBody(ctx context.Context, key string, body Body) error {
	if body.Size > hedgePutMax {
		return PutBody(ctx, h.first, key, body)
	}
	return h.racePut(ctx, func(ctx context.Context, s Store) error { return PutBody(ctx, s, key, body) })
}

func (h *hedged) racePut(ctx context.Context, put func(context.Context, Store) error) error {
	first, second, ran := h.race(ctx, &h.put, settledPut,
		func(ctx context.Context) error { return put(ctx, h.first) },
		func(ctx context.Context) error { return put(ctx, h.second) })
	if !ran {
		return first
	}
	return mergePut(first, second)
}

func (h *hedged) Get(ctx context.Context, key string) ([]byte, error) {
	var a, b []byte
	first, second, ran := h.race(ctx, &h.get, settledRead,
		func(ctx context.Context) (err error) { a, err = h.first.Get(ctx, key); return err },
		func(ctx context.Context) (err error) { b, err = h.second.Get(ctx, key); return err })
	if first == nil {
		return a, nil
	}
	if ran && settledRead(second) {
		return b, second
	}
	return nil, first
}

func (h *hedged) ReadAt(ctx context.Context, key string, p []byte, off int64) error {
	if len(p) > hedgeReadMax {
		return h.first.ReadAt(ctx, key, p, off)
	}
	var own []byte // the second attempt's: two attempts must not write one buffer
	first, second, ran := h.race(ctx, &h.at, settledRead,
		func(ctx context.Context) error { return h.first.ReadAt(ctx, key, p, off) },
		func(ctx context.Context) error {
			own = make([]byte, len(p))
			return h.second.ReadAt(ctx, key, own, off)
		})
	if first == nil || !ran || !settledRead(second) {
		return first
	}
	copy(p, own)
	return second
}

func (h *hedged) List(ctx context.Context, prefix, after string) iter.Seq2[Info, error] {
	return h.first.List(ctx, prefix, after)
}

func (h *hedged) Delete(ctx context.Context, keys ...string) error {
	return h.first.Delete(ctx, keys...)
}

type attempt func(context.Context) error

// race runs first, and second beside it once the window's delay has passed and the budget allows. A settled result of
// one cancels the other. It returns after both have ended; ran says whether second was sent.
func (h *hedged) race(ctx context.Context, w *hedgeWindow, settled func(error) bool, first, second attempt) (a, b error, ran bool) {
	ctxA, cancelA := context.WithCancel(ctx)
	defer cancelA()
	ctxB, cancelB := context.WithCancel(ctx)
	defer cancelB()

	h.budget.earn()
	started := time.Now()
	ended := make(chan struct{})
	timer := time.AfterFunc(w.delay(), func() {
		defer close(ended)
		if ctxB.Err() != nil || !h.budget.spend() {
			return
		}
		ran = true
		b = second(ctxB)
		h.budget.count(!failed(b) || ctxB.Err() != nil)
		if settled(b) {
			h.dismiss(b, cancelA)
		}
	})
	a = first(ctxA)
	// An attempt cut short by its sibling still tells that it took at least this long; without it a slow store would
	// look as quick as the hedges make it.
	w.add(time.Since(started))
	h.budget.count(!failed(a) || ctxA.Err() != nil)
	if timer.Stop() {
		return a, nil, false
	}
	if settled(a) {
		h.dismiss(a, cancelB)
	}
	<-ended
	return a, b, ran
}

// dismiss ends the sibling of an attempt that settled with err: at once, but after a conflict it may still claim the
// object.
func (h *hedged) dismiss(err error, cancel func()) {
	if errors.Is(err, ErrConflict) {
		time.AfterFunc(h.conflictWait, cancel)
		return
	}
	cancel()
}

// settledPut reports that a sibling can teach nothing more: stored, or taken.
func settledPut(err error) bool { return err == nil || errors.Is(err, ErrConflict) }

// settledRead reports an answer about the object rather than about the way to it.
func settledRead(err error) bool {
	return err == nil || errors.Is(err, ErrNotFound) || errors.Is(err, ErrRange)
}

func failed(err error) bool { return !settledPut(err) && !settledRead(err) }

// mergePut gives the outcome of two attempts with the same bytes: stored by either is stored, else a conflict must be
// read, else either may have landed, else none has.
func mergePut(a, b error) error {
	switch {
	case a == nil || b == nil:
		return nil
	case errors.Is(a, ErrConflict):
		return a
	case errors.Is(b, ErrConflict):
		return b
	case errors.Is(a, ErrAmbiguous):
		return a
	case errors.Is(b, ErrAmbiguous):
		return b
	default:
		return a
	}
}
