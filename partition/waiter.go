package partition

import "sync/atomic"

// A Waiter waits for bytes on many logs at once (F1). It needs no goroutine and misses nothing: what was committed between a read and
// its Watch counts. Use: read all partitions, NewWaiter, Watch each from where its read ended, select on C, Close, read once more
// and answer what is there.
type Waiter struct {
	c chan struct{}
	// need is how many bytes are missing; the one who brings it to zero wakes.
	need atomic.Int64
	// watches are owned by the goroutine that owns the waiter.
	watches []*watch
}

// watch is a waiter's entry in a log's list.
type watch struct {
	w   *Waiter
	log *Log
	// index is the position in log.watches, guarded by its mutex.
	index int
}

// NewWaiter returns a waiter for at least minBytes more bytes than its caller has read.
func NewWaiter(minBytes int) *Waiter {
	w := &Waiter{c: make(chan struct{}, 1)}
	w.need.Store(int64(minBytes))
	if minBytes <= 0 {
		w.signal()
	}
	return w
}

// C is signalled once, when enough bytes are committed in the watched logs, or one of them is deleted or fenced. Chunks are counted
// whole: it may come early when a watch begins inside a chunk, never late.
func (w *Waiter) C() <-chan struct{} { return w.c }

// Close ends all watches. It must be called, by the goroutine that called Watch.
func (w *Waiter) Close() {
	for _, x := range w.watches {
		x.log.unwatch(x)
	}
	w.watches = nil
}

// add counts n more bytes and reports whether they were the ones that were missing.
func (w *Waiter) add(n int64) bool {
	left := w.need.Add(-n)
	return left <= 0 && left+n > 0
}

func (w *Waiter) signal() {
	select {
	case w.c <- struct{}{}:
	default:
	}
}

// Watch adds the log to w: bytes from offset on count, those already there at once. It is called from the goroutine that owns w.
func (l *Log) Watch(w *Waiter, offset int64) {
	x := &watch{w: w, log: l}
	w.watches = append(w.watches, x)
	l.mu.Lock()
	x.index = len(l.watches)
	l.watches = append(l.watches, x)
	wake := w.add(l.bytesFromLocked(offset)) || l.ended != nil
	l.mu.Unlock()
	if wake {
		w.signal()
	}
}

func (l *Log) unwatch(x *watch) {
	l.mu.Lock()
	defer l.mu.Unlock()
	last := len(l.watches) - 1
	l.watches[x.index] = l.watches[last]
	l.watches[x.index].index = x.index
	l.watches[last] = nil
	l.watches = l.watches[:last]
	if last == 0 {
		l.watches = nil
	}
}

// bytesFromLocked returns the bytes of the chunks that hold committed records from offset on. Behind what is in slots parts are counted
// whole.
func (l *Log) bytesFromLocked(offset int64) int64 {
	var n int64
	for i := len(l.recent) - 1; i >= 0 && l.recent[i].Last >= offset; i-- {
		n += int64(l.recent[i].Len)
	}
	if len(l.recent) > 0 && l.recent[0].Base <= offset {
		return n
	}
	for i := len(l.parts) - 1; i >= 0 && l.parts[i].Last >= offset; i-- {
		if len(l.recent) == 0 || l.parts[i].Base < l.recent[0].Base { // else it is counted
			n += l.parts[i].Bytes
		}
	}
	return n
}
