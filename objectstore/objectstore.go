// Package objectstore is the one way to shared storage: immutable objects under flat keys, created if absent.
package objectstore

import (
	"context"
	"errors"
	"iter"
	"time"
)

// A Store holds immutable objects under flat keys. An object is written once, whole, and never changes; a reader that
// starts after a Put returned nil sees it. A Store does not retry. All methods may be called concurrently, keep no
// argument after they return, and stop early with ctx.Err() wrapped when ctx ends.
type Store interface {
	// Put creates key with body if key is absent. nil: durable. ErrConflict: key holds something, perhaps these very
	// bytes from an earlier attempt. ErrAmbiguous: unknown, also after ctx ended; the object may appear later.
	Put(ctx context.Context, key string, body []byte) error

	// Get returns the whole object. ErrNotFound when absent.
	Get(ctx context.Context, key string) ([]byte, error)

	// ReadAt fills p with the object's bytes from off, or fails: never a short read. ErrNotFound when absent, ErrRange
	// when the object ends before off+len(p).
	ReadAt(ctx context.Context, key string, p []byte, off int64) error

	// List yields objects whose key starts with prefix and sorts after `after`, in key order. Not needed for safety.
	List(ctx context.Context, prefix, after string) iter.Seq2[Info, error]

	// Delete removes keys; an absent key is not an error.
	Delete(ctx context.Context, keys ...string) error
}

// Info describes a stored object.
type Info struct {
	Key      string
	Size     int64
	Modified time.Time
}

// Outcomes on which callers act differently. Test with errors.Is.
var (
	// ErrNotFound: the object does not exist (now: an ambiguous Put may still create it).
	ErrNotFound = errors.New("objectstore: object not found")
	// ErrConflict: the key is taken. Read it to learn by whom.
	ErrConflict = errors.New("objectstore: object exists")
	// ErrAmbiguous: the outcome of a write is unknown. Write the same bytes again or read.
	ErrAmbiguous = errors.New("objectstore: outcome unknown")
	// ErrRange: a read beyond the end of an object. Objects are immutable, so this means corruption or a wrong index.
	ErrRange = errors.New("objectstore: read beyond the end of the object")
	// ErrDenied: credentials are missing, wrong or expired; this attempt changed nothing.
	ErrDenied = errors.New("objectstore: access denied")
	// ErrNoBucket: the bucket or folder is missing, or out of space or quota; a person has to act.
	ErrNoBucket = errors.New("objectstore: bucket unavailable")
)
