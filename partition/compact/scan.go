package compact

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/tidemill/tidemill/protocol/record"
)

// check holds the header's fields against each other as far as this package relies on them. A batch of which cleaning left only
// the header passes.
func check(b record.Batch) error {
	n := b.NumRecords()
	switch {
	case n < 0 || b.LastOffsetDelta() < 0:
		return fmt.Errorf("record count %d, last offset delta %d: %w", n, b.LastOffsetDelta(), record.ErrInvalid)
	case b.BaseOffset() < 0 || b.BaseOffset() > math.MaxInt64-1-math.MaxInt32:
		return fmt.Errorf("base offset %d: %w", b.BaseOffset(), record.ErrInvalid)
	case n == 0 && len(b) > record.HeaderSize:
		return fmt.Errorf("no records in %d bytes: %w", len(b)-record.HeaderSize, record.ErrInvalid)
	}
	return nil
}

// unpack returns the records of b.
func unpack(b record.Batch, limits record.Limits) ([]byte, error) {
	if b.NumRecords() == 0 {
		return nil, nil
	}
	return record.Decompress(b, limits)
}

// A scanner walks over records as bytes. All its positions index data, whose lengths it does not trust.
type scanner struct {
	data []byte
	// from and end are those of the record at hand, its length included.
	from, end int
	timeDelta int64
	// offsetDelta rises from record to record, up to lastDelta.
	offsetDelta, lastDelta int64
	// key is nil if it is null.
	key       []byte
	tombstone bool
	left      int32
}

func (s *scanner) reset(b record.Batch, data []byte) {
	*s = scanner{data: data, offsetDelta: -1, lastDelta: int64(b.LastOffsetDelta()), left: b.NumRecords()}
}

// next takes the next record. It returns false behind the last one, or with an ErrInvalid.
func (s *scanner) next() (bool, error) {
	if s.left == 0 {
		if s.end != len(s.data) {
			return false, fmt.Errorf("%d bytes after the last record: %w", len(s.data)-s.end, record.ErrInvalid)
		}
		return false, nil
	}
	s.left--
	n, i := varint(s.data, s.end)
	if n < 0 || i > len(s.data) || n > int64(len(s.data)-i) {
		return false, fmt.Errorf("record of %d bytes at %d of %d: %w", n, s.end, len(s.data), record.ErrInvalid)
	}
	s.from, s.end = s.end, i+int(n)
	b := s.data[:s.end]
	s.timeDelta, i = varint(b, i+1)
	delta, i := varint(b, i)
	keyLen, i := varint(b, i)
	key := i
	i = skip(b, i, keyLen)
	valueLen, j := varint(b, i)
	s.tombstone = valueLen < 0
	j = skip(b, j, valueLen)
	if headers, k := varint(b, j); headers != 0 {
		j = skipHeaders(b, k, headers)
	} else {
		j = k
	}
	if j != s.end || delta <= s.offsetDelta || delta > s.lastDelta {
		return false, fmt.Errorf("record at %d, offset delta %d after %d: %w", s.from, delta, s.offsetDelta, record.ErrInvalid)
	}
	s.offsetDelta = delta
	if s.key = nil; keyLen >= 0 {
		s.key = b[key:i:i]
	}
	return true, nil
}

// windowSize is how many records are taken together. Their places in a KeyMap are far apart in memory: asked for one after the
// other without work in between, they are fetched at the same time.
const windowSize = 64

// A window is a scanner that takes several records at a time.
type window struct {
	scan  scanner
	items [windowSize]item
}

// An item is what is needed of a record.
type item struct {
	hash              keyHash
	offset, timestamp int64
	// from and end are its place in the data.
	from, end       int
	null, tombstone bool
}

// next returns the next records of b, with the hashes of their keys; none behind the last one.
func (w *window) next(b record.Batch) ([]item, error) {
	offset, time := b.BaseOffset(), b.BaseTimestamp()
	s := &w.scan
	for i := range w.items {
		ok, err := s.next()
		if err != nil {
			return nil, err
		}
		if !ok {
			return w.items[:i], nil
		}
		x := &w.items[i]
		x.offset, x.timestamp = offset+s.offsetDelta, time+s.timeDelta
		x.from, x.end = s.from, s.end
		x.null, x.tombstone = s.key == nil, s.tombstone
		if s.key != nil {
			x.hash = hashOf(s.key)
		}
	}
	return w.items[:], nil
}

// beyond is a position that no record reaches: what is read there is 0 and ends there.
const beyond = math.MaxInt

// varint returns the number at b[i:] and where it ends, or beyond. It has a way of its own for one byte, which most numbers of
// a record take.
func varint(b []byte, i int) (int64, int) {
	if uint(i) < uint(len(b)) && b[i] < 0x80 {
		return int64(b[i]>>1) ^ -int64(b[i]&1), i + 1
	}
	return longVarint(b, i)
}

func longVarint(b []byte, i int) (int64, int) {
	if i > len(b)-2 {
		return 0, beyond
	}
	if b[i+1] < 0x80 {
		u := uint64(b[i]&0x7f) | uint64(b[i+1])<<7
		return int64(u>>1) ^ -int64(u&1), i + 2
	}
	v, n := binary.Varint(b[i:])
	if n <= 0 {
		return 0, beyond
	}
	return v, i + n
}

// skip returns where n bytes at i end, or beyond. A negative n is null and takes none.
func skip(b []byte, i int, n int64) int {
	if n <= 0 {
		return i
	}
	if i > len(b) || n > int64(len(b)-i) {
		return beyond
	}
	return i + int(n)
}

// skipHeaders returns where n headers at i end, or beyond.
func skipHeaders(b []byte, i int, n int64) int {
	if n < 0 {
		return beyond
	}
	for ; n > 0 && i < len(b); n-- {
		size, at := varint(b, i)
		if size < 0 {
			return beyond // a header's key cannot be null
		}
		size, at = varint(b, skip(b, at, size))
		i = skip(b, at, size)
	}
	if n > 0 {
		return beyond
	}
	return i
}
