package record

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// xerialBlock is how much Java clients put into one snappy block.
const xerialBlock = 32 << 10

// Recompress returns b with its records packed by codec. Everything else stays: timestamps, headers, producer fields and
// order. level is the codec's own; the ones of kafkaconfig are within its bounds. limits bound the unpacking of b, and of what it
// becomes: if that would be a bomb to its readers, b itself is returned.
func Recompress(b Batch, codec Codec, level int, limits Limits) (Batch, error) {
	data, err := Decompress(b, limits)
	if err != nil {
		return nil, err
	}
	out := bytes.NewBuffer(make([]byte, 0, len(b)))
	out.Write(b[:HeaderSize])
	if err := compress(out, data, codec, level); err != nil {
		return nil, fmt.Errorf("pack %d bytes with codec %d: %w", len(data), codec, err)
	}
	packed := Batch(out.Bytes())
	if len(data) > limits.bytesMax(len(packed)-HeaderSize) {
		return b, nil
	}
	binary.BigEndian.PutUint32(packed[8:], uint32(len(packed)-lengthOverhead))
	binary.BigEndian.PutUint16(packed[21:], uint16(packed.Attributes()&^AttrCodec|int16(codec)))
	packed.setCRC()
	return packed, nil
}

func compress(out *bytes.Buffer, data []byte, codec Codec, level int) error {
	switch codec {
	case None:
		_, err := out.Write(data)
		return err
	case Gzip:
		w, err := gzip.NewWriterLevel(out, level)
		if err != nil {
			return err
		}
		return writeAll(w, data)
	case Snappy:
		appendXerial(out, data)
		return nil
	case LZ4:
		w := lz4.NewWriter(out)
		if err := w.Apply(lz4.BlockSizeOption(lz4.Block64Kb), lz4.CompressionLevelOption(lz4Level(level))); err != nil {
			return err
		}
		return writeAll(w, data)
	case Zstd:
		w, err := zstd.NewWriter(out, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.EncoderLevelFromZstd(level)))
		if err != nil {
			return err
		}
		return writeAll(w, data)
	}
	return ErrCodec
}

func writeAll(w io.WriteCloser, data []byte) error {
	if _, err := w.Write(data); err != nil {
		return err
	}
	return w.Close()
}

// lz4Level maps Kafka's 1 to 17 to what the library has: fast, and nine levels of high compression.
func lz4Level(level int) lz4.CompressionLevel {
	if level < 3 {
		return lz4.Fast
	}
	return lz4.CompressionLevel(1 << (8 + min(level-2, 9)))
}

// appendXerial writes data in the framing that Java clients read.
func appendXerial(out *bytes.Buffer, data []byte) {
	out.Write(xerialMagic)
	out.Write([]byte{0, 0, 0, 1, 0, 0, 0, 1}) // version and the oldest that can read it
	for len(data) > 0 {
		n := min(len(data), xerialBlock)
		block := snappy.Encode(nil, data[:n])
		out.Write(binary.BigEndian.AppendUint32(nil, uint32(len(block))))
		out.Write(block)
		data = data[n:]
	}
}
