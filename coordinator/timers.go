package coordinator

import (
	"container/heap"
	"time"
)

// Timers keeps one deadline per key and gives the keys back in the order of their deadlines, those of one deadline in
// the order in which they were set. The zero value is empty. It has no clock and no lock.
type Timers[K comparable] struct {
	heap  timerHeap[K]
	byKey map[K]*timer[K]
	set   uint64
}

type timer[K comparable] struct {
	key   K
	at    time.Time
	order uint64 // breaks ties: what was set first fires first
	index int    // in the heap
}

// Set makes key due at the given time, instead of any time set before.
func (t *Timers[K]) Set(key K, at time.Time) {
	t.set++
	if e, ok := t.byKey[key]; ok {
		e.at, e.order = at, t.set
		heap.Fix(&t.heap, e.index)
		return
	}
	if t.byKey == nil {
		t.byKey = make(map[K]*timer[K])
	}
	e := &timer[K]{key: key, at: at, order: t.set}
	t.byKey[key] = e
	heap.Push(&t.heap, e)
}

// Cancel makes key never due.
func (t *Timers[K]) Cancel(key K) {
	if e, ok := t.byKey[key]; ok {
		heap.Remove(&t.heap, e.index)
		delete(t.byKey, key)
	}
}

// Next returns the earliest deadline, and false if there is none.
func (t *Timers[K]) Next() (time.Time, bool) {
	if len(t.heap) == 0 {
		return time.Time{}, false
	}
	return t.heap[0].at, true
}

// Pop removes and returns the first key that is due at now, and false if there is none.
func (t *Timers[K]) Pop(now time.Time) (key K, due bool) {
	if len(t.heap) == 0 || t.heap[0].at.After(now) {
		return key, false
	}
	e := heap.Pop(&t.heap).(*timer[K])
	delete(t.byKey, e.key)
	return e.key, true
}

// Len returns how many keys have a deadline.
func (t *Timers[K]) Len() int { return len(t.heap) }

type timerHeap[K comparable] []*timer[K]

func (h timerHeap[K]) Len() int { return len(h) }

func (h timerHeap[K]) Less(i, j int) bool {
	if c := h[i].at.Compare(h[j].at); c != 0 {
		return c < 0
	}
	return h[i].order < h[j].order
}

func (h timerHeap[K]) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

func (h *timerHeap[K]) Push(x any) {
	e := x.(*timer[K])
	e.index = len(*h)
	*h = append(*h, e)
}

func (h *timerHeap[K]) Pop() any {
	old := *h
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return e
}
