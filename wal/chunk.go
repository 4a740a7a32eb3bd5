package wal

import (
	"encoding/binary"
	"hash/crc32"

	"github.com/tidemill/tidemill/protocol"
)

// chunkLen is the length of one directory entry.
const chunkLen = 72

// chunkInline says that the chunk's bytes are in this object. Other values are kept for chunks that refer to bytes in
// another life's slot.
const chunkInline = 0

// Check reports whether b are the bytes that the chunk describes. Errors wrap ErrCorrupt.
func (c *Chunk) Check(b []byte) error {
	if uint64(len(b)) != uint64(c.Len) {
		return corruptf("chunk of %s at offset %d has %d bytes, want %d", c.Partition, c.BaseOffset, len(b), c.Len)
	}
	if crc := crc32.Checksum(b, castagnoli); crc != c.CRC {
		return corruptf("chunk of %s at offset %d: checksum is %08x, want %08x", c.Partition, c.BaseOffset, crc, c.CRC)
	}
	return nil
}

// put writes the directory entry into b[:chunkLen], which must be zero.
func (c *Chunk) put(b []byte) {
	be := binary.BigEndian
	copy(b, c.Partition.Topic[:])
	be.PutUint32(b[16:], uint32(c.Partition.Partition))
	be.PutUint32(b[20:], uint32(c.LeaderEpoch))
	be.PutUint64(b[24:], uint64(c.BaseOffset))
	be.PutUint64(b[32:], uint64(c.LastOffset))
	be.PutUint64(b[40:], uint64(c.MaxTimestamp))
	be.PutUint64(b[48:], uint64(c.PrevSlot))
	be.PutUint32(b[56:], c.Pos)
	be.PutUint32(b[60:], c.Len)
	be.PutUint32(b[64:], c.CRC)
	b[68] = chunkInline
}

// decodeChunk decodes a directory entry of slot seq.
func decodeChunk(b []byte, seq int64) (Chunk, error) {
	be := binary.BigEndian
	c := Chunk{
		Partition:    protocol.PartitionID{Topic: protocol.TopicID(b[:16]), Partition: int32(be.Uint32(b[16:]))},
		LeaderEpoch:  int32(be.Uint32(b[20:])),
		BaseOffset:   int64(be.Uint64(b[24:])),
		LastOffset:   int64(be.Uint64(b[32:])),
		MaxTimestamp: int64(be.Uint64(b[40:])),
		PrevSlot:     int64(be.Uint64(b[48:])),
		Pos:          be.Uint32(b[56:]),
		Len:          be.Uint32(b[60:]),
		CRC:          be.Uint32(b[64:]),
	}
	switch {
	case b[68] != chunkInline || !allZero(b[69:chunkLen]):
		return c, corruptf("chunk of %s is of unknown kind %d", c.Partition, b[68])
	case c.Partition.Partition < 0:
		return c, corruptf("chunk of partition %s", c.Partition)
	case c.BaseOffset < 0 || c.LastOffset < c.BaseOffset:
		return c, corruptf("chunk of %s spans offsets %d to %d", c.Partition, c.BaseOffset, c.LastOffset)
	case c.PrevSlot < -1 || c.PrevSlot > seq:
		return c, corruptf("chunk of %s in slot %d names slot %d as its predecessor", c.Partition, seq, c.PrevSlot)
	case c.Len == 0:
		return c, corruptf("chunk of %s is empty", c.Partition)
	}
	return c, nil
}
