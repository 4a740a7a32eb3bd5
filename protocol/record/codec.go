package record

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// A Codec is how the records of a batch are compressed.
type Codec int8

// The codecs that exist.
const (
	None Codec = iota
	Gzip
	Snappy
	LZ4
	Zstd
)

// Limits bounds what decompression may give. The zero value means the defaults.
type Limits struct {
	// Bytes is the most that one batch may unpack to; 64 MiB by default.
	Bytes int
	// Ratio is the most bytes out per byte in, beyond the first 4 MiB; 100 by default, any if it is negative. A batch of zeros
	// packs better than that and is honest, hence the free part.
	Ratio int
}

// StoredLimits are for batches that were admitted under the defaults: they may have been packed better since.
var StoredLimits = Limits{Ratio: -1}

const (
	defaultBytesMax = 64 << 20
	defaultRatioMax = 100
	ratioFree       = 4 << 20
)

// bytesMax returns how much n bytes may unpack to.
func (l Limits) bytesMax(n int) int {
	total, ratio := l.Bytes, l.Ratio
	if total == 0 {
		total = defaultBytesMax
	}
	if ratio < 0 {
		return total
	}
	if ratio == 0 {
		ratio = defaultRatioMax
	}
	return min(total, ratioFree+ratio*n)
}

// zstdDecoders is a bounded free list: a decoder holds tables worth keeping, but not one per request ever made.
var zstdDecoders = make(chan *zstd.Decoder, 8)

// xerialMagic begins the framing that Java clients put around snappy: then come 8 bytes of versions, and blocks of a
// big-endian int32 size and that much snappy.
var xerialMagic = []byte{0x82, 'S', 'N', 'A', 'P', 'P', 'Y', 0}

// xerialHeader is the magic and the versions.
const xerialHeader = 16

// Decompress returns the records of b unpacked; without compression they alias b. It never holds more than three times what
// limits allows. Errors are ErrCorrupt, ErrCodec and ErrBomb.
func Decompress(b Batch, limits Limits) ([]byte, error) {
	src := b.RecordBytes()
	most := limits.bytesMax(len(src))
	var out []byte
	var err error
	switch b.Codec() {
	case None:
		return src, nil
	case Gzip:
		var zr *gzip.Reader
		if zr, err = gzip.NewReader(bytes.NewReader(src)); err == nil {
			out, err = readAll(zr, len(src), most)
		}
	case Snappy:
		out, err = unsnappy(src, most)
	case LZ4:
		out, err = readAll(lz4.NewReader(bytes.NewReader(src)), len(src), most)
	case Zstd:
		out, err = unzstd(src, most)
	default:
		return nil, fmt.Errorf("codec %d: %w", b.Codec(), ErrCodec)
	}
	if err != nil && !errors.Is(err, ErrBomb) {
		err = fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	if err != nil {
		return nil, fmt.Errorf("unpack %d bytes of codec %d: %w", len(src), b.Codec(), err)
	}
	return out, nil
}

// readAll reads r to its end, growing as data comes rather than as anything claims.
func readAll(r io.Reader, srcLen, most int) ([]byte, error) {
	var out bytes.Buffer
	out.Grow(min(4*srcLen+bytes.MinRead, most+bytes.MinRead))
	n, err := out.ReadFrom(io.LimitReader(r, int64(most)+1))
	if n > int64(most) {
		return nil, ErrBomb
	}
	return out.Bytes(), err
}

func unsnappy(src []byte, most int) ([]byte, error) {
	if !bytes.HasPrefix(src, xerialMagic) {
		return appendSnappy(nil, src, most)
	}
	if len(src) < xerialHeader {
		return nil, io.ErrUnexpectedEOF
	}
	var out []byte
	var err error
	for src = src[xerialHeader:]; len(src) > 0; {
		if len(src) < 4 {
			return nil, io.ErrUnexpectedEOF
		}
		n := int64(binary.BigEndian.Uint32(src))
		if src = src[4:]; n > int64(len(src)) {
			return nil, io.ErrUnexpectedEOF
		}
		if out, err = appendSnappy(out, src[:n], most-len(out)); err != nil {
			return nil, err
		}
		src = src[n:]
	}
	return out, nil
}

// snappyRatioMax is above what snappy can reach (64 bytes from 3): a block that claims more lies.
const snappyRatioMax = 32

// appendSnappy unpacks one block, whose size is checked before memory is taken for it.
func appendSnappy(dst, block []byte, most int) ([]byte, error) {
	n, err := snappy.DecodedLen(block)
	if err != nil {
		return nil, err
	}
	if n > most {
		return nil, ErrBomb
	}
	if n > snappyRatioMax*len(block) {
		return nil, snappy.ErrCorrupt
	}
	at := len(dst)
	if cap(dst)-at < n {
		grown := make([]byte, at, max(at+n, min(2*cap(dst), at+most)))
		copy(grown, dst)
		dst = grown
	}
	if _, err := snappy.Decode(dst[at:at+n:at+n], block); err != nil {
		return nil, err
	}
	return dst[:at+n], nil
}

// zstdBlockMax is the most that one zstd block unpacks to.
const zstdBlockMax = 128 << 10

// unzstd decodes into a buffer that it grows fourfold at a time: the size that a frame claims is not believed, and no
// window is allocated. Without that claim the decoder does not say why it stopped short of a block's room, hence the slack.
func unzstd(src []byte, most int) ([]byte, error) {
	var d *zstd.Decoder
	select {
	case d = <-zstdDecoders:
	default:
		var err error
		if d, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecodeAllCapLimit(true)); err != nil {
			return nil, err
		}
	}
	defer func() {
		select {
		case zstdDecoders <- d:
		default:
			d.Close()
		}
	}()
	room := min(8*len(src)+zstdBlockMax, most)
	for {
		out, err := d.DecodeAll(src, make([]byte, 0, room+zstdBlockMax))
		full := errors.Is(err, zstd.ErrDecoderSizeExceeded) || err != nil && len(out) > room
		switch {
		case len(out) > most || full && room == most:
			return nil, ErrBomb
		case !full:
			return out, err
		}
		room = min(4*room, most)
	}
}
