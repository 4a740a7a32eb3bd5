package wal

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tidemill/tidemill/objectstore"
)

// A Writer appends to the log of one life. All methods may be called concurrently; Run is called once.
type Writer struct {
	life  Life
	store objectstore.Store
	sink  Sink
	opts  Options

	inbox struct {
		sync.Mutex
		entries []Entry
		bytes   int64
		err     error
	}
	committed atomic.Int64
}

// NewWriter returns a writer for a life that the registry holds as OPEN (W1). It starts nothing: call Run. store
// should hedge slow PUTs; the writer retries by itself.
func NewWriter(life Life, store objectstore.Store, sink Sink, o Options) *Writer {
	w := &Writer{life: life, store: store, sink: sink, opts: o.withDefaults()}
	w.committed.Store(-1)
	return w
}

// Run writes slots until the writer is closed (nil), fenced (ErrFenced) or ctx ends (its error: like a crash, nothing
// more is acknowledged).
func (w *Writer) Run(ctx context.Context) error { return errors.ErrUnsupported }

// Append adds entries to the open slot, in order and all or none. It never blocks on I/O. Entries' data must not
// change until their slot is committed. Follow the appends of a request by Nudge.
func (w *Writer) Append(entries ...Entry) error { return errors.ErrUnsupported }

// Nudge tells that a request's appends are complete: an idle log sends them at once.
func (w *Writer) Nudge() {}

// Backlog returns the bytes that are not cut yet and the age of the oldest slot that is not committed.
func (w *Writer) Backlog() (openBytes int64, oldest time.Duration) { return 0, 0 }

// Stalled reports whether produce requests should not be admitted now (W7).
func (w *Writer) Stalled() bool { return false }

// Trouble returns the error of the latest attempt on the oldest slot while that needs a person (ErrDenied,
// ErrNoBucket), else nil.
func (w *Writer) Trouble() error { return nil }

// Committed returns the sequence number of the last committed slot, or -1.
func (w *Writer) Committed() int64 { return w.committed.Load() }

// Close ends the log (W8): it takes no more entries, waits until all are committed and writes CLOSE behind them. It
// returns what Registry.FinishSeal wants next. ErrFenced when someone else ended the log first.
func (w *Writer) Close(ctx context.Context) (n int64, digest Digest, err error) {
	return 0, Digest{}, errors.ErrUnsupported
}
