package objectstore

import (
	"context"
	"slices"
)

// A Body is an object's bytes in pieces: what lies in many places in memory need not be gathered to be stored.
type Body struct {
	// Pieces are the bytes in order. None is empty unless the body is.
	Pieces [][]byte
	// Size is the sum of their lengths.
	Size int64
	// CRC32C is their checksum (Castagnoli), for stores that verify it.
	CRC32C uint32
}

// Bytes returns the body in one piece, copied if it is in more.
func (b Body) Bytes() []byte {
	if len(b.Pieces) == 1 {
		return b.Pieces[0]
	}
	return slices.Concat(b.Pieces...)
}

// A BodyStore is a Store that can take a body as it lies.
type BodyStore interface {
	Store
	// PutBody is Put. It keeps neither the pieces nor the slice of them after it returns.
	PutBody(ctx context.Context, key string, body Body) error
}

// PutBody stores body as s can: as it lies, or in one piece.
func PutBody(ctx context.Context, s Store, key string, body Body) error {
	if b, ok := s.(BodyStore); ok {
		return b.PutBody(ctx, key, body)
	}
	return s.Put(ctx, key, body.Bytes())
}
