package objectstore

import (
	"context"
	"hash/crc32"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// A SummedStore is a Store that can sum up what it reads while that is in the processor's caches: reading a large range and summing it
// up afterwards fetches it from memory twice.
type SummedStore interface {
	Store
	// ReadSummed is ReadAt, and returns the CRC-32C (Castagnoli) of p.
	ReadSummed(ctx context.Context, key string, p []byte, off int64) (uint32, error)
}

// ReadSummed reads as s can, and returns the CRC-32C of p.
func ReadSummed(ctx context.Context, s Store, key string, p []byte, off int64) (uint32, error) {
	if summed, ok := s.(SummedStore); ok {
		return summed.ReadSummed(ctx, key, p, off)
	}
	if err := s.ReadAt(ctx, key, p, off); err != nil {
		return 0, err
	}
	return crc32.Checksum(p, castagnoli), nil
}
