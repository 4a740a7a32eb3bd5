package broker

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"math"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/snappy"
	"github.com/pierrec/lz4/v4"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/protocol/record"
)

// TestBadInputRecordsRules: batches that are not what they say.
func TestBadInputRecordsRules(t *testing.T) {
	a := besiege(t)
	c := a.dial(t)
	c.createTopic("compacted", 1, "cleanup.policy", "compact")
	a.stored["compacted-0"] = 0
	keyed := func() record.Batch {
		var b record.Builder
		b.Append(1, []byte("k"), []byte("v"))
		b.Append(2, []byte("l"), []byte("w"))
		return b.Build()
	}
	changed := func(change func(record.Batch)) record.Batch {
		b := keyed()
		change(b)
		return resealed(b)
	}
	count := func(n, last uint32) func(record.Batch) {
		return func(b record.Batch) {
			binary.BigEndian.PutUint32(b[57:], n)
			binary.BigEndian.PutUint32(b[23:], last)
		}
	}
	packed := func(codec record.Codec, change func(record.Batch)) record.Batch {
		b, err := record.Recompress(keyed(), codec, 3, record.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		change(b)
		return resealed(b)
	}
	legacy := func(magic byte) []byte {
		message := append([]byte{magic, 0}, make([]byte, 8*int(magic))...) // attributes and, in format 1, a timestamp
		message = append(message, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1, 'v')
		out := binary.BigEndian.AppendUint32(make([]byte, 8), uint32(4+len(message)))
		out = binary.BigEndian.AppendUint32(out, crc32.ChecksumIEEE(message))
		return append(out, message...)
	}
	tests := []struct {
		name  string
		topic string
		batch []byte
		want  protocol.ErrorCode
	}{
		{"wrong CRC", keptTopic, func() []byte { b := keyed(); b[17] ^= 1; return b }(), protocol.CodeCorruptMessage},
		{"a byte of a record changed", keptTopic, func() []byte { b := keyed(); b[len(b)-1] ^= 1; return b }(), protocol.CodeCorruptMessage},
		{"magic 0", keptTopic, legacy(0), protocol.CodeInvalidRecord},
		{"magic 1", keptTopic, legacy(1), protocol.CodeInvalidRecord},
		{"magic 0 in a batch of format 2", keptTopic, changed(func(b record.Batch) { b[16] = 0 }), protocol.CodeInvalidRecord},
		{"magic 1 in a batch of format 2", keptTopic, changed(func(b record.Batch) { b[16] = 1 }), protocol.CodeInvalidRecord},
		{"magic 3", keptTopic, changed(func(b record.Batch) { b[16] = 3 }), protocol.CodeCorruptMessage},
		{"magic -1", keptTopic, changed(func(b record.Batch) { b[16] = 0xff }), protocol.CodeCorruptMessage},
		{"no batch", keptTopic, []byte{}, protocol.CodeInvalidRecord},
		{"a batch without records", keptTopic, emptied(keyed()), protocol.CodeInvalidRecord},
		{"a batch that says it has none", keptTopic, changed(count(0, 0)), protocol.CodeInvalidRecord},
		{"more records than there are", keptTopic, changed(count(3, 2)), protocol.CodeInvalidRecord},
		{"fewer records than there are", keptTopic, changed(count(1, 0)), protocol.CodeInvalidRecord},
		{"count and last offset disagree", keptTopic, changed(count(2, 7)), protocol.CodeInvalidRecord},
		{"negative count", keptTopic, changed(count(math.MaxUint32, math.MaxUint32-1)), protocol.CodeInvalidRecord},
		{"2^31-1 records", keptTopic, changed(count(math.MaxInt32, math.MaxInt32-1)), protocol.CodeInvalidRecord},
	}
	for codec, name := range map[record.Codec]string{record.Gzip: "gzip", record.Snappy: "snappy", record.LZ4: "lz4", record.Zstd: "zstd"} {
		for _, topic := range []string{keptTopic, "compacted"} {
			more := packed(codec, count(3, 2))
			fewer := packed(codec, count(1, 0))
			tests = append(tests, []struct {
				name  string
				topic string
				batch []byte
				want  protocol.ErrorCode
			}{
				{"more records than there are, " + name + " to " + topic, topic, more, protocol.CodeInvalidRecord},
				{"fewer records than there are, " + name + " to " + topic, topic, fewer, protocol.CodeInvalidRecord},
			}...)
		}
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, version := range []int16{3, 8, 11} {
				if version == 3 && len(tt.batch) > 22 && tt.batch[22]&7 == byte(record.Zstd) {
					continue // refused for that
				}
				resp := ask[*kmsg.ProduceResponse](c, produceRequest(version, tt.topic, 0, tt.batch))
				wantCode(t, "produce", resp.Topics[0].Partitions[0].ErrorCode, tt.want)
			}
		})
	}
	a.checkUnharmed(t)
}

// emptied is a batch with its records gone, as compaction leaves them and clients must not send them.
func emptied(b record.Batch) record.Batch {
	b = b[:record.HeaderSize:record.HeaderSize]
	binary.BigEndian.PutUint32(b[8:], record.HeaderSize-12)
	binary.BigEndian.PutUint32(b[57:], 0)
	binary.BigEndian.PutUint32(b[23:], 0)
	return resealed(b)
}

// TestBadInputSequencesRules: sequence numbers and epochs that no producer has, and the wrap that it may have (P3, P4, P5).
func TestBadInputSequencesRules(t *testing.T) {
	a := besiege(t)
	c := a.dial(t)
	const last = math.MaxInt32
	type step struct {
		epoch    int16
		sequence int32
		records  int
		want     protocol.ErrorCode
	}
	for _, tt := range []struct {
		name  string
		steps []step
		kept  int64 // offsets that are taken
	}{
		{"sequence -1", []step{{0, -1, 1, protocol.CodeInvalidRecord}}, 0},
		{"sequence -2", []step{{0, -2, 1, protocol.CodeInvalidRecord}}, 0},
		{"the least sequence", []step{{0, math.MinInt32, 1, protocol.CodeInvalidRecord}}, 0},
		{"epoch -2", []step{{-2, 0, 1, protocol.CodeInvalidProducerEpoch}}, 0},
		{"a gap", []step{{0, 0, 1, protocol.CodeNone}, {0, 2, 1, protocol.CodeOutOfOrderSequenceNumber}}, 1},
		{"back again", []step{{0, 5, 3, protocol.CodeNone}, {0, 6, 1, protocol.CodeOutOfOrderSequenceNumber}}, 3},
		{"an older epoch", []step{{3, 0, 1, protocol.CodeNone}, {2, 1, 1, protocol.CodeInvalidProducerEpoch}}, 1},
		{"a new epoch not at 0", []step{{0, 0, 1, protocol.CodeNone}, {1, 1, 1, protocol.CodeOutOfOrderSequenceNumber}}, 1},
		{"wrap to 0", []step{{0, last, 1, protocol.CodeNone}, {0, 0, 1, protocol.CodeNone}}, 2},
		{"wrap within a batch", []step{{0, last - 1, 4, protocol.CodeNone}, {0, 2, 1, protocol.CodeNone}}, 5},
		{"wrap to 1", []step{{0, last, 1, protocol.CodeNone}, {0, 1, 1, protocol.CodeOutOfOrderSequenceNumber}}, 1},
		{"wrap to the least", []step{{0, last, 1, protocol.CodeNone}, {0, math.MinInt32, 1, protocol.CodeInvalidRecord}}, 1},
		{"after a wrap within a batch, as if it had not wrapped", []step{{0, last - 1, 4, protocol.CodeNone}, {0, last, 1, protocol.CodeOutOfOrderSequenceNumber}}, 4},
	} {
		t.Run(tt.name, func(t *testing.T) {
			init := kmsg.NewPtrInitProducerIDRequest()
			init.Version, init.ProducerID, init.ProducerEpoch = 4, -1, -1
			id := int64(-1)
			waitFor(t, "a producer id", func() bool {
				id = ask[*kmsg.InitProducerIDResponse](c, init).ProducerID
				return id >= 0
			})
			for i, s := range tt.steps {
				p := c.produce(keptTopic, 1, withProducer(batchOf(make([]string, s.records)...), id, s.epoch, s.sequence))
				wantCode(t, "produce", p.ErrorCode, s.want)
				if s.want != protocol.CodeNone && p.BaseOffset != -1 {
					t.Errorf("step %d: base offset %d with an error", i, p.BaseOffset)
				}
			}
			a.stored[keptTopic+"-1"] += tt.kept
			if got := endOf(c, keptTopic, 1); got != a.stored[keptTopic+"-1"] {
				t.Errorf("the end is %d, want %d", got, a.stored[keptTopic+"-1"])
				a.stored[keptTopic+"-1"] = got
			}
		})
	}
	a.checkUnharmed(t)
}

// bombs are 1 GiB of zeros in each codec, made of parts that are packed once.
func bombs(t *testing.T) map[string]record.Batch {
	t.Helper()
	const gib = 1 << 30
	batch := func(codec record.Codec, data []byte) record.Batch {
		b := append(bytes.Clone(batchOf("x")[:record.HeaderSize]), data...)
		binary.BigEndian.PutUint32(b[8:], uint32(len(b)-12))
		b[22] = byte(codec)
		return resealed(b)
	}
	var member bytes.Buffer // gzip takes members in a row
	gz := gzip.NewWriter(&member)
	mustWrite(t, gz, make([]byte, 16<<20))
	block := snappy.Encode(nil, make([]byte, 64<<10))
	framed := append(binary.BigEndian.AppendUint32(nil, uint32(len(block))), block...)
	var frame bytes.Buffer // of lz4: 7 bytes of header, a block, 4 bytes of end
	lz := lz4.NewWriter(&frame)
	if err := lz.Apply(lz4.BlockSizeOption(lz4.Block4Mb), lz4.ChecksumOption(false)); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, lz, make([]byte, 4<<20))
	head, one, end := frame.Bytes()[:7], frame.Bytes()[7:frame.Len()-4], frame.Bytes()[frame.Len()-4:]
	// zstd: magic, a window of 1 MiB, blocks that repeat one byte 128 KiB times, the last one marked.
	repeat := []byte{2 | 0x100000&0xff, 0x100000 >> 8 & 0xff, 0x100000 >> 16, 0}
	zs := append([]byte{0x28, 0xb5, 0x2f, 0xfd, 0, 0x50}, bytes.Repeat(repeat, gib/(128<<10))...)
	zs[len(zs)-4] |= 1
	return map[string]record.Batch{
		"gzip":   batch(record.Gzip, bytes.Repeat(member.Bytes(), gib/(16<<20))),
		"snappy": batch(record.Snappy, append([]byte("\x82SNAPPY\x00\x00\x00\x00\x01\x00\x00\x00\x01"), bytes.Repeat(framed, gib/(64<<10))...)),
		"lz4":    batch(record.LZ4, append(append(bytes.Clone(head), bytes.Repeat(one, gib/(4<<20))...), end...)),
		"zstd":   batch(record.Zstd, zs),
	}
}

func mustWrite(t *testing.T, w interface {
	Write(p []byte) (int, error)
	Close() error
}, data []byte) {
	t.Helper()
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestBadInputBombs: 1 GiB of zeros in any codec is refused without being unpacked.
func TestBadInputBombs(t *testing.T) {
	a := besiege(t)
	a.relieve() // its work would be counted
	c := a.dial(t)
	topics := map[string][]string{
		"plain":    {"max.message.bytes", "100000000"},
		"repacked": {"max.message.bytes", "100000000", "compression.type", "uncompressed"},
	}
	for topic, configs := range topics {
		c.createTopic(topic, 1, configs...)
		a.stored[topic+"-0"] = 0
	}
	for name, bomb := range bombs(t) {
		t.Run(name+" by size", func(t *testing.T) {
			if len(bomb) > 1<<20 {
				wantCode(t, "produce", c.produce(keptTopic, 0, bomb).ErrorCode, protocol.CodeMessageTooLarge)
			}
		})
		for topic := range topics {
			t.Run(name+" to "+topic, func(t *testing.T) {
				before := allocatedSoFar()
				p := c.produce(topic, 0, bomb)
				if code := protocol.ErrorCode(p.ErrorCode); code != protocol.CodeInvalidRecord && code != protocol.CodeMessageTooLarge {
					t.Errorf("got %v, want INVALID_RECORD or MESSAGE_TOO_LARGE", code)
				}
				if n := allocatedSoFar() - before; n > 1<<29 {
					t.Errorf("%d MiB were allocated for a batch of %d KiB", n>>20, len(bomb)>>10)
				}
			})
		}
	}
	a.checkUnharmed(t)
}
