package wal

import "sync"

// windowMemory is how many finished requests of one connection pass before its learned window may shrink: long enough
// to see the pipeline full once, short enough to follow a producer that slowed down.
const windowMemory = 32

// Windows learns, per producer connection, how many produce requests it keeps outstanding, and so tells when no more
// bytes can arrive before something is acknowledged. All methods may be called concurrently.
type Windows struct {
	mu    sync.Mutex
	conns map[uint64]*producerWindow
	// active counts connections with something outstanding; full counts those whose learned window is used up.
	active int
	full   int
}

type producerWindow struct {
	outstanding int
	learned     int
	peak        int
	finished    int
}

func (w *producerWindow) isFull() bool { return w.outstanding > 0 && w.outstanding >= w.learned }

// Enter notes that a produce request of the connection was admitted, and reports whether it is the first: then Forget is to
// be called when the connection closes.
func (w *Windows) Enter(conn uint64) (first bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.conns == nil {
		w.conns = map[uint64]*producerWindow{}
	}
	c := w.conns[conn]
	if first = c == nil; first {
		c = &producerWindow{learned: 1}
		w.conns[conn] = c
	}
	w.change(c, func() {
		c.outstanding++
		c.peak = max(c.peak, c.outstanding)
		c.learned = max(c.learned, c.peak)
	})
	return first
}

// Leave notes that such a request was answered.
func (w *Windows) Leave(conn uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := w.conns[conn]
	if c == nil || c.outstanding == 0 {
		return
	}
	w.change(c, func() {
		c.outstanding--
		c.finished++
		if c.finished >= windowMemory {
			c.learned, c.peak, c.finished = max(c.peak, 1), c.outstanding, 0
		}
	})
}

// Forget drops a connection that was closed.
func (w *Windows) Forget(conn uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if c := w.conns[conn]; c != nil {
		w.change(c, func() { c.outstanding = 0 })
		delete(w.conns, conn)
	}
}

// Full reports whether some connection waits and every waiting connection has used up its window.
func (w *Windows) Full() bool {
	if w == nil {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.active > 0 && w.active == w.full
}

// change runs f, which changes c, and keeps the counts right. w.mu is held.
func (w *Windows) change(c *producerWindow, f func()) {
	w.count(c, -1)
	f()
	w.count(c, 1)
}

func (w *Windows) count(c *producerWindow, by int) {
	if c.outstanding > 0 {
		w.active += by
	}
	if c.isFull() {
		w.full += by
	}
}
