package wal

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/tidemill/tidemill/objectstore"
	"github.com/tidemill/tidemill/protocol"
)

const (
	recoveryMagic     = "TIDERCVR"
	recoveryFormat    = 1
	recoveryHeaderLen = 256
	recoveryUsedEnd   = 208
	recoveryCRCPos    = recoveryHeaderLen - 4
	recoveredChunkLen = chunkLen + 16
)

// A Recovery says how the log of an ended life ended and what its untrimmed part holds. It is decided once: all
// sealers of a life return the same N and Digest.
type Recovery struct {
	Cluster Cluster
	Life    Life
	// N is the number of slots: slots below N are the log.
	N int64
	// Digest is that of slot N-1; zero when N is 0, or when that slot was trimmed and deleted before the life ended.
	Digest Digest
	// Trim is where the index begins: slots below it are in committed manifests.
	Trim int64
	// Sealer names who wrote the recovery object, for people.
	Sealer string
	// Chunks is every chunk of the slots in [Trim, N), in log order.
	Chunks []RecoveredChunk
}

// A RecoveredChunk is a chunk of an ended life's log, with the slot that holds it.
type RecoveredChunk struct {
	Seq int64
	// ObjectLen is the length of the slot object.
	ObjectLen uint32
	Chunk
}

// Ends returns the offset after the last batch of each partition that the recovery holds.
func (r *Recovery) Ends() map[protocol.PartitionID]int64 {
	ends := make(map[protocol.PartitionID]int64)
	for i := range r.Chunks {
		ends[r.Chunks[i].Partition] = r.Chunks[i].LastOffset + 1
	}
	return ends
}

// Encode returns the recovery object's bytes.
func (r *Recovery) Encode() []byte {
	be := binary.BigEndian
	b := make([]byte, recoveryHeaderLen+len(r.Chunks)*recoveredChunkLen+4)
	copy(b, recoveryMagic)
	be.PutUint16(b[8:], recoveryFormat)
	be.PutUint32(b[12:], uint32(r.Life.Broker))
	be.PutUint64(b[16:], r.Life.Epoch)
	copy(b[24:32], r.Life.Nonce[:])
	be.PutUint64(b[32:], uint64(r.N))
	be.PutUint64(b[40:], uint64(r.Trim))
	be.PutUint64(b[48:], r.Cluster.Generation)
	copy(b[56:56+clusterIDMax], r.Cluster.ID)
	copy(b[88:120], r.Digest[:])
	be.PutUint32(b[120:], uint32(len(r.Chunks)))
	copy(b[144:recoveryUsedEnd], fitText(r.Sealer, authorMax))
	be.PutUint32(b[recoveryCRCPos:], crc32.Checksum(b[:recoveryCRCPos], castagnoli))
	p := b[recoveryHeaderLen:]
	for i := range r.Chunks {
		c := &r.Chunks[i]
		be.PutUint64(p, uint64(c.Seq))
		be.PutUint32(p[8:], c.ObjectLen)
		c.Chunk.put(p[16:])
		p = p[recoveredChunkLen:]
	}
	be.PutUint32(p, crc32.Checksum(b[:len(b)-4], castagnoli))
	return b
}

// DecodeRecovery decodes and validates a recovery object in time and memory linear in len(b). Errors wrap ErrCorrupt.
func DecodeRecovery(b []byte) (Recovery, error) {
	r, count, err := decodeRecoveryHeader(b)
	if err != nil {
		return Recovery{}, err
	}
	be := binary.BigEndian
	want := uint64(recoveryHeaderLen) + count*recoveredChunkLen + 4
	if uint64(len(b)) != want {
		return Recovery{}, corruptf("recovery of %d chunks has %d bytes, want %d", count, len(b), want)
	}
	if be.Uint32(b[len(b)-4:]) != crc32.Checksum(b[:len(b)-4], castagnoli) {
		return Recovery{}, corruptf("recovery checksum mismatch")
	}
	if count > 0 {
		r.Chunks = make([]RecoveredChunk, 0, count)
	}
	last := r.Trim
	for p := b[recoveryHeaderLen : len(b)-4]; len(p) > 0; p = p[recoveredChunkLen:] {
		c := RecoveredChunk{Seq: int64(be.Uint64(p)), ObjectLen: be.Uint32(p[8:])}
		if c.Seq < last || c.Seq >= r.N || !allZero(p[12:16]) {
			return Recovery{}, corruptf("recovery of slots %d to %d holds slot %d after %d", r.Trim, r.N, c.Seq, last)
		}
		last = c.Seq
		if c.Chunk, err = decodeChunk(p[16:recoveredChunkLen], c.Seq); err != nil {
			return Recovery{}, err
		}
		if c.Pos < HeaderLen || uint64(c.Pos)+uint64(c.Len) > uint64(c.ObjectLen) {
			return Recovery{}, corruptf("chunk at %d+%d in a slot of %d bytes", c.Pos, c.Len, c.ObjectLen)
		}
		r.Chunks = append(r.Chunks, c)
	}
	return r, nil
}

func decodeRecoveryHeader(b []byte) (Recovery, uint64, error) {
	be := binary.BigEndian
	switch {
	case len(b) < recoveryHeaderLen+4:
		return Recovery{}, 0, corruptf("recovery of %d bytes is shorter than its header", len(b))
	case string(b[:8]) != recoveryMagic:
		return Recovery{}, 0, corruptf("recovery magic is %q", b[:8])
	case be.Uint32(b[recoveryCRCPos:]) != crc32.Checksum(b[:recoveryCRCPos], castagnoli):
		return Recovery{}, 0, corruptf("recovery header checksum mismatch")
	case be.Uint16(b[8:]) != recoveryFormat:
		return Recovery{}, 0, corruptf("recovery format is %d, want %d", be.Uint16(b[8:]), recoveryFormat)
	case !allZero(b[10:12]) || !allZero(b[124:144]) || !allZero(b[recoveryUsedEnd:recoveryCRCPos]):
		return Recovery{}, 0, corruptf("reserved bytes of the recovery header are set")
	}
	id, ok1 := paddedString(b[56 : 56+clusterIDMax])
	sealer, ok2 := paddedString(b[144:recoveryUsedEnd])
	if !ok1 || !ok2 {
		return Recovery{}, 0, corruptf("recovery header holds text that is not padded ASCII")
	}
	r := Recovery{
		Cluster: Cluster{ID: id, Generation: be.Uint64(b[48:])},
		Life:    Life{Broker: int32(be.Uint32(b[12:])), Epoch: be.Uint64(b[16:]), Nonce: [8]byte(b[24:32])},
		N:       int64(be.Uint64(b[32:])),
		Trim:    int64(be.Uint64(b[40:])),
		Digest:  Digest(b[88:120]),
		Sealer:  sealer,
	}
	if r.N < 0 || r.N > MaxSeq || r.Trim < 0 || r.Trim > r.N || r.N == 0 && r.Digest != (Digest{}) {
		return Recovery{}, 0, corruptf("recovery of slots %d to %d", r.Trim, r.N)
	}
	return r, uint64(be.Uint32(b[120:])), nil
}

// LoadRecovery reads the recovery object under key. It reads twice before it believes in corruption.
func LoadRecovery(ctx context.Context, store objectstore.Store, key string) (Recovery, error) {
	var bad error
	for range 2 {
		b, err := store.Get(ctx, key)
		if err != nil {
			return Recovery{}, fmt.Errorf("get %s: %w", key, err)
		}
		r, err := DecodeRecovery(b)
		if err == nil {
			return r, nil
		}
		bad = err
	}
	return Recovery{}, fmt.Errorf("decode %s: %w", key, bad)
}
