package audit

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tidemill/tidemill/internal/crc32c"
	"github.com/tidemill/tidemill/objectstore"
	"github.com/tidemill/tidemill/wal"
)

const (
	// readAttempts and readPause bound how long trouble of the store is waited out.
	readAttempts = 4
	readPause    = 250 * time.Millisecond
)

// reader reads objects and tells apart what they hold from trouble on the way.
type reader struct{ store objectstore.Store }

// unreachable reports an error that says nothing about the object.
func unreachable(err error) bool {
	for _, known := range []error{objectstore.ErrDenied, objectstore.ErrNoBucket, context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, known) {
			return true
		}
	}
	return false
}

// tells reports an answer about the object, good or bad.
func tells(err error) bool {
	return err == nil || errors.Is(err, objectstore.ErrNotFound) || errors.Is(err, objectstore.ErrRange)
}

func (r reader) retry(ctx context.Context, read func() error) error {
	var err error
	for attempt := range readAttempts {
		if err = read(); tells(err) || unreachable(err) {
			return err
		}
		t := time.NewTimer(readPause << attempt)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		}
	}
	return err
}

// readAt fills p. Errors: ErrNotFound, ErrRange, or trouble.
func (r reader) readAt(ctx context.Context, key string, p []byte, off int64) error {
	return r.retry(ctx, func() error { return r.store.ReadAt(ctx, key, p, off) })
}

// get returns a whole object. Errors: ErrNotFound or trouble.
func (r reader) get(ctx context.Context, key string) (b []byte, err error) {
	err = r.retry(ctx, func() error {
		b, err = r.store.Get(ctx, key)
		return err
	})
	return b, err
}

// checked fills p and reads it again if check refuses it: a flipped bit on the way is not damage. bad is what check said at last, err
// what readAt did.
func (r reader) checked(ctx context.Context, key string, p []byte, off int64, check func() error) (bad, err error) {
	for range 2 {
		if err := r.readAt(ctx, key, p, off); err != nil {
			return nil, err
		}
		if bad = check(); bad == nil {
			return nil, nil
		}
	}
	return bad, nil
}

// sum fills p, which should have this checksum.
func (r reader) sum(ctx context.Context, key string, p []byte, off int64, want uint32) (bad, err error) {
	return r.checked(ctx, key, p, off, func() error {
		if got := crc32c.Sum(p); got != want {
			return fmt.Errorf("checksum of %d bytes at %d is %08x, want %08x", len(p), off, got, want)
		}
		return nil
	})
}

// absence turns an answer about the object into words and a class; ok is false for trouble.
func absence(err error) (class Class, message string, ok bool) {
	switch {
	case errors.Is(err, objectstore.ErrNotFound):
		return Missing, "the object is missing", true
	case errors.Is(err, objectstore.ErrRange):
		return Damaged, "the object is too short: " + err.Error(), true
	}
	return "", "", false
}

// storedSlot is a slot as it was read: whole, or its header and directory.
type storedSlot struct {
	header wal.Header
	chunks []wal.Chunk
	size   int64
	// object is nil when only header and directory were read.
	object []byte
}

// slot reads and verifies a slot, with or without its chunks. bad says what is wrong with its bytes.
func (r reader) slot(ctx context.Context, key string, whole bool) (s storedSlot, bad, err error) {
	for range 2 {
		if whole {
			s, bad, err = r.slotOnce(ctx, key)
		} else {
			s, bad, err = r.directoryOnce(ctx, key)
		}
		if bad == nil || err != nil {
			break
		}
	}
	return s, bad, err
}

func (r reader) slotOnce(ctx context.Context, key string) (s storedSlot, bad, err error) {
	if s.object, err = r.get(ctx, key); err != nil {
		return s, nil, err
	}
	s.size = int64(len(s.object))
	s.header, s.chunks, bad = wal.DecodeSlot(s.object)
	return s, bad, nil
}

func (r reader) directoryOnce(ctx context.Context, key string) (s storedSlot, bad, err error) {
	head := make([]byte, wal.HeaderLen)
	if err = r.readAt(ctx, key, head, 0); err != nil {
		return s, nil, err
	}
	h, bad := wal.DecodeHeader(head)
	if bad != nil {
		return s, bad, nil
	}
	directory := make([]byte, h.DirLen)
	if len(directory) > 0 {
		if err = r.readAt(ctx, key, directory, int64(h.DirPos)); err != nil {
			return s, nil, err
		}
	}
	s.size = int64(h.DirPos) + int64(h.DirLen)
	s.header, s.chunks, bad = wal.DecodeDirectory(head, directory)
	return s, bad, nil
}
