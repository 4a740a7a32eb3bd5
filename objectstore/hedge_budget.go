package objectstore

import (
	"slices"
	"sync"
	"time"
)

// tokensMax bounds a burst of second attempts after a quiet time.
const tokensMax = 8

// A hedgeBudget limits second attempts to a fraction of first ones, and to none while attempts fail.
type hedgeBudget struct {
	extraMax, errorsMax float64

	mu struct {
		sync.Mutex
		tokens float64
		slots  [outcomeSlots]outcomes // ring over time; slot i holds the span s with s % outcomeSlots == i
	}
}

// Outcomes are kept for 10 spans of 3 s: long enough to see a fault of 1% at tens of requests a second, short enough
// to hedge again soon after it.
const (
	outcomeSlots = 10
	outcomeSpan  = 3 * time.Second
)

type outcomes struct {
	span          int64
	total, errors int
}

// earn credits one first attempt.
func (b *hedgeBudget) earn() {
	b.mu.Lock()
	b.mu.tokens = min(b.mu.tokens+b.extraMax, tokensMax)
	b.mu.Unlock()
}

// count notes how an attempt ended; one cancelled by its sibling counts as good.
func (b *hedgeBudget) count(ok bool) {
	span := time.Now().UnixNano() / int64(outcomeSpan)
	b.mu.Lock()
	defer b.mu.Unlock()
	slot := &b.mu.slots[span%outcomeSlots]
	if slot.span != span {
		*slot = outcomes{span: span}
	}
	slot.total++
	if !ok {
		slot.errors++
	}
}

// spend takes a token if there is one and the store is well.
func (b *hedgeBudget) spend() bool {
	span := time.Now().UnixNano() / int64(outcomeSpan)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.mu.tokens < 1 {
		return false
	}
	total, errors := 0, 0
	for _, slot := range b.mu.slots {
		if span-slot.span < outcomeSlots {
			total += slot.total
			errors += slot.errors
		}
	}
	// Below 100 attempts one error would already be more than 1%: a lone error says nothing about the store.
	if float64(errors) > b.errorsMax*float64(max(total, 100)) {
		return false
	}
	b.mu.tokens--
	return true
}

// windowSize attempts make a percentile steady to about its own fifth; sorting them is microseconds, done each
// windowStride attempts.
const (
	windowSize   = 256
	windowStride = 16
)

// A hedgeWindow gives the delay before a second attempt from the latencies of recent first ones.
type hedgeWindow struct {
	delayMin time.Duration

	mu struct {
		sync.Mutex
		ring  [windowSize]time.Duration
		added int
		p95   time.Duration
	}
}

func (w *hedgeWindow) add(took time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mu.ring[w.mu.added%windowSize] = took
	w.mu.added++
	if w.mu.added%windowStride == 0 {
		recent := slices.Clone(w.mu.ring[:min(w.mu.added, windowSize)])
		slices.Sort(recent)
		w.mu.p95 = recent[len(recent)*95/100]
	}
}

func (w *hedgeWindow) delay() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return max(w.delayMin, w.mu.p95)
}
