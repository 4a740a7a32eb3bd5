package objectstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
)

// ErrReadOnly means that the store was opened for reading.
var ErrReadOnly = errors.New("objectstore: opened read-only")

// ReadOnly returns s without its writes: Put and Delete change nothing and return ErrReadOnly. It closes s if that is an io.Closer.
func ReadOnly(s Store) Store { return readOnly{s} }

type readOnly struct{ store Store }

func (r readOnly) Put(_ context.Context, key string, _ []byte) error {
	return fmt.Errorf("put %s: %w", key, ErrReadOnly)
}

func (r readOnly) Get(ctx context.Context, key string) ([]byte, error) { return r.store.Get(ctx, key) }

func (r readOnly) ReadAt(ctx context.Context, key string, p []byte, off int64) error {
	return r.store.ReadAt(ctx, key, p, off)
}

func (r readOnly) List(ctx context.Context, prefix, after string) iter.Seq2[Info, error] {
	return r.store.List(ctx, prefix, after)
}

func (r readOnly) Delete(_ context.Context, keys ...string) error {
	return fmt.Errorf("delete %d objects: %w", len(keys), ErrReadOnly)
}

func (r readOnly) Close() error {
	if c, ok := r.store.(io.Closer); ok {
		return c.Close()
	}
	return nil
}
