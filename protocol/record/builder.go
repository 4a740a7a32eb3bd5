package record

import (
	"encoding/binary"
)

// A Builder makes one uncompressed batch. The zero value is ready. It is not safe for concurrent use.
type Builder struct {
	// buf holds the records.
	buf    []byte
	body   []byte
	baseTS int64
	maxTS  int64
	count  int32
}

// Append adds a record. Nil keys and values are null. It keeps none of its arguments.
func (b *Builder) Append(timestamp int64, key, value []byte, headers ...Header) {
	if b.count == 0 {
		b.baseTS, b.maxTS = timestamp, timestamp
	}
	b.maxTS = max(b.maxTS, timestamp)
	body := append(b.body[:0], 0)
	body = binary.AppendVarint(body, timestamp-b.baseTS)
	body = binary.AppendVarint(body, int64(b.count))
	body = appendBytes(body, key)
	body = appendBytes(body, value)
	body = binary.AppendVarint(body, int64(len(headers)))
	for _, h := range headers {
		body = binary.AppendVarint(body, int64(len(h.Key)))
		body = append(body, h.Key...)
		body = appendBytes(body, h.Value)
	}
	b.body = body
	b.buf = binary.AppendVarint(b.buf, int64(len(body)))
	b.buf = append(b.buf, body...)
	b.count++
}

func appendBytes(dst, b []byte) []byte {
	if b == nil {
		return binary.AppendVarint(dst, -1)
	}
	dst = binary.AppendVarint(dst, int64(len(b)))
	return append(dst, b...)
}

// Len returns the number of records so far.
func (b *Builder) Len() int { return int(b.count) }

// Size returns how many bytes the batch would have now.
func (b *Builder) Size() int { return HeaderSize + len(b.buf) }

// Build returns the batch, complete with its CRC, in memory of its own, and empties the builder. Its base offset is 0, its
// leader epoch -1, and it has no producer. Without records it returns nil.
func (b *Builder) Build() Batch {
	if b.count == 0 {
		return nil
	}
	out := newBatch(b.Size())
	out = append(out, b.buf...)
	binary.BigEndian.PutUint32(out[23:], uint32(b.count-1))
	binary.BigEndian.PutUint64(out[27:], uint64(b.baseTS))
	binary.BigEndian.PutUint64(out[35:], uint64(b.maxTS))
	binary.BigEndian.PutUint32(out[57:], uint32(b.count))
	batch := Batch(out)
	batch.setCRC()
	b.buf, b.count = b.buf[:0], 0
	return batch
}

// newBatch returns a header for a batch of size bytes: no producer, no leader epoch, and no records yet.
func newBatch(size int) []byte {
	h := make([]byte, HeaderSize, size)
	binary.BigEndian.PutUint32(h[8:], uint32(size-lengthOverhead))
	binary.BigEndian.PutUint32(h[12:], ^uint32(0))
	h[16] = 2
	binary.BigEndian.PutUint64(h[43:], ^uint64(0))
	binary.BigEndian.PutUint16(h[51:], ^uint16(0))
	binary.BigEndian.PutUint32(h[53:], ^uint32(0))
	return h
}
