package coordinator

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"iter"
)

// The format is drawn in docs/formats/coordinator.md. Tombstones are never in a snapshot: what they removed is not there.
const (
	snapshotMagic   = "TMCS"
	snapshotVersion = 1
	snapshotHeader  = len(snapshotMagic) + 1
)

var (
	errSnapshot = errors.New("corrupt coordinator snapshot")
	castagnoli  = crc32.MakeTable(crc32.Castagnoli)
)

// encodeSnapshot returns the blob of the records.
func encodeSnapshot(records iter.Seq[Record]) []byte {
	b := append([]byte(snapshotMagic), snapshotVersion)
	for r := range records {
		b = appendBytes(appendBytes(b, r.Key), r.Value)
	}
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func appendBytes(b, p []byte) []byte {
	return append(binary.AppendUvarint(b, uint64(len(p))), p...)
}

// decodeSnapshot calls fn for each record of the blob. The records share the memory of the blob. An empty blob has
// none.
func decodeSnapshot(blob []byte, fn func(Record) error) error {
	if len(blob) == 0 {
		return nil
	}
	if len(blob) < snapshotHeader+4 || string(blob[:len(snapshotMagic)]) != snapshotMagic {
		return fmt.Errorf("%w: no header", errSnapshot)
	}
	if v := blob[len(snapshotMagic)]; v != snapshotVersion {
		return fmt.Errorf("%w: version %d", errSnapshot, v)
	}
	body, sum := blob[:len(blob)-4], binary.BigEndian.Uint32(blob[len(blob)-4:])
	if got := crc32.Checksum(body, castagnoli); got != sum {
		return fmt.Errorf("%w: checksum %08x, want %08x", errSnapshot, got, sum)
	}
	for rest := body[snapshotHeader:]; len(rest) > 0; {
		var r Record
		var ok1, ok2 bool
		r.Key, rest, ok1 = cutBytes(rest)
		r.Value, rest, ok2 = cutBytes(rest)
		if !ok1 || !ok2 {
			return fmt.Errorf("%w: record cut short", errSnapshot)
		}
		if err := fn(r); err != nil {
			return err
		}
	}
	return nil
}

func cutBytes(b []byte) (p, rest []byte, ok bool) {
	n, w := binary.Uvarint(b)
	if w <= 0 || n > uint64(len(b)-w) {
		return nil, nil, false
	}
	end := w + int(n)
	return b[w:end:end], b[end:], true
}
