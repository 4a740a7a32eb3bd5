package wal

import (
	"errors"
	"fmt"
)

// Outcomes on which callers act differently. Test with errors.Is.
var (
	// ErrFenced: a slot of this life holds something foreign, so its log has ended (W6). Drop the whole life: answer
	// everything above Committed as "not leader" and start again as a new life.
	ErrFenced = errors.New("wal: life is fenced")
	// ErrClosed: the writer takes no more entries, because Close was called or Run ended.
	ErrClosed = errors.New("wal: writer is closed")
	// ErrCorrupt: bytes are not what their format demands. Read again; if that does not help, quarantine the object.
	ErrCorrupt = errors.New("wal: corrupt object")
	// ErrQuarantine: a log cannot be judged, because a slot is damaged, foreign or missing where it must exist (S3). It
	// is never taken for the end of the log: a person has to look.
	ErrQuarantine = errors.New("wal: log needs a person")
	// ErrStale: the registry's state moved on since the caller read it. Load again.
	ErrStale = errors.New("wal: stream state has changed")
)

func corruptf(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrCorrupt}, args...)...)
}

// A FencedError says what was found in the slot that ended the life. It wraps ErrFenced.
type FencedError struct {
	Seq int64
	// Found is the header of the foreign object, zero if Cause says why there is none.
	Found Header
	Cause error
}

// Error describes the foreign slot.
func (e *FencedError) Error() string {
	if e.Cause != nil {
		return fmt.Sprintf("%v: slot %d is unreadable: %v", ErrFenced, e.Seq, e.Cause)
	}
	return fmt.Sprintf("%v: slot %d holds a %v of life %s by %q", ErrFenced, e.Seq, e.Found.Kind, e.Found.Life, e.Found.Author)
}

// Unwrap returns ErrFenced and the cause.
func (e *FencedError) Unwrap() []error { return []error{ErrFenced, e.Cause} }
