package wal

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"hash/crc32"
	"math"
)

// HeaderLen is the length of the fixed header in front of every slot object: the ranged read that tells a writer
// whose object its slot holds (W4).
const HeaderLen = 512

const (
	slotMagic     = "TIDESLOT"
	slotFormat    = 1
	clusterIDMax  = 32 // twice what a cluster id needs (22 characters)
	authorMax     = 64 // a host name and a process id
	headerCRCPos  = HeaderLen - 4
	digestPos     = 128
	authorPos     = 160
	headerUsedEnd = authorPos + authorMax
)

// MaxSeq bounds sequence numbers so that arithmetic on hostile ones cannot overflow.
const MaxSeq = math.MaxInt64 / 4

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Digest identifies the content of a slot: SHA-256 over its header (digest and CRC zero) and its directory, whose
// CRC32C cover the chunks.
type Digest = [sha256.Size]byte

// Cluster names the cluster that an object belongs to. The generation rises when a cluster is rebuilt from its bucket.
type Cluster struct {
	// ID has at most 32 bytes of printable ASCII.
	ID         string
	Generation uint64
}

// Kind tells what a slot object is.
type Kind uint8

// Kinds of slots. Seal and Close both end the log; Close was written by the owner (W8).
const (
	KindData Kind = iota + 1
	KindSeal
	KindClose
)

// String returns the kind's name.
func (k Kind) String() string {
	switch k {
	case KindData:
		return "data"
	case KindSeal:
		return "seal"
	case KindClose:
		return "close"
	}
	return "unknown"
}

// Ends reports whether a slot of this kind ends its log.
func (k Kind) Ends() bool { return k == KindSeal || k == KindClose }

// A Header is the decoded fixed header of a slot object.
type Header struct {
	Cluster Cluster
	Life    Life
	Seq     int64
	Kind    Kind
	// Prev is the digest of slot Seq-1: zero for slot 0, and in a Seal whose sealer could not read that slot any more.
	Prev Digest
	// BodyLen is the length of all chunks, which follow the header.
	BodyLen uint32
	// DirPos, DirLen and DirCount describe the chunk directory, which follows the chunks.
	DirPos   uint32
	DirLen   uint32
	DirCount uint32
	Digest   Digest
	// Author names who wrote a Seal, for people.
	Author string
}

// put writes h without digest and CRC into b[:HeaderLen], which must be zero.
func (h *Header) put(b []byte) {
	be := binary.BigEndian
	copy(b, slotMagic)
	be.PutUint16(b[8:], slotFormat)
	b[10] = byte(h.Kind)
	be.PutUint32(b[12:], uint32(h.Life.Broker))
	be.PutUint64(b[16:], h.Life.Epoch)
	copy(b[24:32], h.Life.Nonce[:])
	be.PutUint64(b[32:], uint64(h.Seq))
	be.PutUint64(b[40:], h.Cluster.Generation)
	copy(b[48:48+clusterIDMax], h.Cluster.ID)
	copy(b[80:112], h.Prev[:])
	be.PutUint32(b[112:], h.BodyLen)
	be.PutUint32(b[116:], h.DirPos)
	be.PutUint32(b[120:], h.DirLen)
	be.PutUint32(b[124:], h.DirCount)
	copy(b[authorPos:authorPos+authorMax], h.Author)
}

// finish computes the digest over a header whose fields are in place and the directory, and completes the header.
func (h *Header) finish(header, directory []byte) {
	h.Digest = slotDigest(header[:HeaderLen], directory)
	copy(header[digestPos:], h.Digest[:])
	binary.BigEndian.PutUint32(header[headerCRCPos:], crc32.Checksum(header[:headerCRCPos], castagnoli))
}

func slotDigest(header, directory []byte) Digest {
	var hd [HeaderLen]byte
	copy(hd[:], header)
	clear(hd[digestPos : digestPos+sha256.Size])
	clear(hd[headerCRCPos:])
	h := sha256.New()
	h.Write(hd[:])
	h.Write(directory)
	return Digest(h.Sum(nil))
}

// DecodeHeader decodes and validates the first HeaderLen bytes of a slot object. Errors wrap ErrCorrupt. The digest
// is checked by DecodeSlot only, since it covers the directory too.
func DecodeHeader(b []byte) (Header, error) {
	be := binary.BigEndian
	switch {
	case len(b) < HeaderLen:
		return Header{}, corruptf("slot of %d bytes is shorter than its header", len(b))
	case string(b[:8]) != slotMagic:
		return Header{}, corruptf("slot magic is %q", b[:8])
	case be.Uint32(b[headerCRCPos:]) != crc32.Checksum(b[:headerCRCPos], castagnoli):
		return Header{}, corruptf("slot header checksum mismatch")
	case be.Uint16(b[8:]) != slotFormat:
		return Header{}, corruptf("slot format is %d, want %d", be.Uint16(b[8:]), slotFormat)
	case b[11] != 0 || !allZero(b[headerUsedEnd:headerCRCPos]):
		return Header{}, corruptf("reserved bytes of the slot header are set")
	}
	id, ok1 := paddedString(b[48 : 48+clusterIDMax])
	author, ok2 := paddedString(b[authorPos:headerUsedEnd])
	if !ok1 || !ok2 {
		return Header{}, corruptf("slot header holds text that is not padded ASCII")
	}
	h := Header{
		Cluster:  Cluster{ID: id, Generation: be.Uint64(b[40:])},
		Life:     Life{Broker: int32(be.Uint32(b[12:])), Epoch: be.Uint64(b[16:]), Nonce: [8]byte(b[24:32])},
		Seq:      int64(be.Uint64(b[32:])),
		Kind:     Kind(b[10]),
		Prev:     Digest(b[80:112]),
		BodyLen:  be.Uint32(b[112:]),
		DirPos:   be.Uint32(b[116:]),
		DirLen:   be.Uint32(b[120:]),
		DirCount: be.Uint32(b[124:]),
		Digest:   Digest(b[digestPos : digestPos+sha256.Size]),
		Author:   author,
	}
	return h, h.check()
}

// check validates what one header says about itself.
func (h *Header) check() error {
	switch {
	case h.Kind < KindData || h.Kind > KindClose:
		return corruptf("slot kind is %d", h.Kind)
	case h.Seq < 0 || h.Seq > MaxSeq:
		return corruptf("slot sequence number is %d", h.Seq)
	case h.Seq == 0 && h.Prev != Digest{}:
		return corruptf("slot 0 names a predecessor")
	case uint64(h.DirPos) != HeaderLen+uint64(h.BodyLen):
		return corruptf("directory at %d does not follow %d bytes of chunks", h.DirPos, h.BodyLen)
	case uint64(h.DirLen) != uint64(h.DirCount)*chunkLen:
		return corruptf("directory of %d chunks has %d bytes", h.DirCount, h.DirLen)
	case h.Kind == KindData && (h.DirCount == 0 || h.BodyLen == 0):
		return corruptf("data slot is empty")
	case h.Kind != KindData && (h.DirCount != 0 || h.BodyLen != 0):
		return corruptf("%v slot holds data", h.Kind)
	}
	return nil
}

// paddedString returns NUL-padded printable ASCII as a string.
func paddedString(b []byte) (string, bool) {
	n := bytes.IndexByte(b, 0)
	if n < 0 {
		n = len(b)
	}
	for _, c := range b[:n] {
		if c < 0x20 || c > 0x7e {
			return "", false
		}
	}
	return string(b[:n]), allZero(b[n:])
}

// fitText makes s storable in a text field of n bytes.
func fitText(s string, n int) string {
	out := make([]byte, 0, n)
	for i := 0; i < len(s) && len(out) < n; i++ {
		c := s[i]
		if c < 0x20 || c > 0x7e {
			c = '?'
		}
		out = append(out, c)
	}
	return string(out)
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
