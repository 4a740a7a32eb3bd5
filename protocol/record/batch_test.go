package record

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// buildBatch returns a batch of n records with keys, timestamps 1000, 1001, ...
func buildBatch(n int) Batch {
	var b Builder
	for i := range n {
		b.Append(1000+int64(i), []byte{'k', byte(i)}, []byte("value"), Header{Key: "h", Value: []byte{byte(i)}})
	}
	return b.Build()
}

// edited returns a copy of b changed by f, with the right CRC.
func edited(b Batch, f func(b Batch)) Batch {
	c := Batch(bytes.Clone(b))
	f(c)
	c.setCRC()
	return c
}

// A batch put together by hand from Kafka's format: one record, key "k", value "v", timestamp 5, header a=null.
const golden = "0000000000000000" + "0000003d" + "ffffffff" + "02" + "ded5ff02" + "0000" + "00000000" +
	"0000000000000005" + "0000000000000005" + "ffffffffffffffff" + "ffff" + "ffffffff" + "00000001" +
	"16" + "00" + "00" + "00" + "026b" + "0276" + "02" + "0261" + "01"

func TestBuilderGoldenBytes(t *testing.T) {
	var b Builder
	b.Append(5, []byte("k"), []byte("v"), Header{Key: "a"})
	size := b.Size()
	got := b.Build()
	want, err := hex.DecodeString(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, []byte(got)); diff != "" {
		t.Errorf("batch (-want +got):\n%s", diff)
	}
	if size != len(got) {
		t.Errorf("Size: got %d, want %d", size, len(got))
	}
	if b.Len() != 0 || b.Build() != nil {
		t.Error("the builder is not empty after Build")
	}
}

// kmsg reads the header that the builder wrote, and the accessors read the same.
func TestAccessorsAgreeWithKmsg(t *testing.T) {
	b := buildBatch(3)
	b.SetBaseOffset(1 << 40)
	b.SetPartitionLeaderEpoch(7)
	b = edited(b, func(b Batch) {
		binary.BigEndian.PutUint16(b[21:], uint16(AttrTransactional))
		binary.BigEndian.PutUint64(b[43:], 99)
		binary.BigEndian.PutUint16(b[51:], 3)
		binary.BigEndian.PutUint32(b[53:], math.MaxInt32-1)
	})
	var k kmsg.RecordBatch
	if err := k.ReadFrom(b); err != nil {
		t.Fatal(err)
	}
	got := kmsg.RecordBatch{
		FirstOffset: b.BaseOffset(), Length: int32(len(b) - 12), PartitionLeaderEpoch: b.PartitionLeaderEpoch(),
		Magic: b.Magic(), CRC: int32(b.CRC()), Attributes: b.Attributes(), LastOffsetDelta: b.LastOffsetDelta(),
		FirstTimestamp: b.BaseTimestamp(), MaxTimestamp: b.MaxTimestamp(), ProducerID: b.ProducerID(),
		ProducerEpoch: b.ProducerEpoch(), FirstSequence: b.BaseSequence(), NumRecords: b.NumRecords(), Records: b.RecordBytes(),
	}
	if diff := cmp.Diff(k, got); diff != "" {
		t.Errorf("header (-kmsg +ours):\n%s", diff)
	}
	if err := Check(b); err != nil {
		t.Error(err)
	}
	if b.LastSequence() != 0 || b.LastOffset() != 1<<40+2 || !b.IsTransactional() || b.IsControl() {
		t.Errorf("last sequence %d, last offset %d, transactional %v, control %v", b.LastSequence(), b.LastOffset(), b.IsTransactional(), b.IsControl())
	}
}

func TestStampsOutsideTheCRC(t *testing.T) {
	b := buildBatch(2)
	crc := b.CRC()
	b.SetBaseOffset(math.MaxInt64 - 5)
	b.SetPartitionLeaderEpoch(12)
	if b.BaseOffset() != math.MaxInt64-5 || b.PartitionLeaderEpoch() != 12 || b.CRC() != crc {
		t.Error("a stamp was lost or changed the checksum")
	}
	if err := Check(b); err != nil {
		t.Error(err)
	}
}

func TestTimestampType(t *testing.T) {
	b := buildBatch(2)
	b.SetLogAppendTime(5000)
	if err := Check(b); err != nil || b.MaxTimestamp() != 5000 || !b.IsLogAppendTime() {
		t.Fatalf("after SetLogAppendTime: %v, max timestamp %d", err, b.MaxTimestamp())
	}
	for r, err := range Records(b, Limits{}) {
		if err != nil || r.Timestamp != 5000 {
			t.Errorf("record: timestamp %d, error %v, want 5000", r.Timestamp, err)
		}
	}
	b.SetCreateTime(1001)
	if err := Check(b); err != nil || b.MaxTimestamp() != 1001 || b.IsLogAppendTime() {
		t.Fatalf("after SetCreateTime: %v, max timestamp %d", err, b.MaxTimestamp())
	}
}

// P4: after 2^31-1 comes 0.
func TestSequenceWraps(t *testing.T) {
	tests := []struct{ seq, n, want int32 }{
		{0, 1, 1}, {math.MaxInt32, 0, math.MaxInt32}, {math.MaxInt32, 1, 0}, {math.MaxInt32 - 1, 3, 1}, {5, math.MaxInt32, 4},
	}
	for _, tt := range tests {
		if got := AddSequence(tt.seq, tt.n); got != tt.want {
			t.Errorf("%d + %d: got %d, want %d", tt.seq, tt.n, got, tt.want)
		}
		if got := SubSequence(tt.want, tt.n); got != tt.seq {
			t.Errorf("%d - %d: got %d, want %d", tt.want, tt.n, got, tt.seq)
		}
	}
	if got := buildBatch(2).LastSequence(); got != -1 {
		t.Errorf("batch without a producer: last sequence %d, want -1", got)
	}
}

func TestFirst(t *testing.T) {
	one := buildBatch(1)
	magic := func(m byte) Batch { return edited(one, func(b Batch) { b[16] = m }) }
	length := func(n int32) Batch {
		return edited(one, func(b Batch) { binary.BigEndian.PutUint32(b[8:], uint32(n)) })
	}
	tests := []struct {
		name string
		in   []byte
		want error
	}{
		{"one batch", one, nil},
		{"empty", nil, ErrInvalid},
		{"shorter than its length", one[:len(one)-1], ErrInvalid},
		{"only its length", one[:12], ErrInvalid},
		{"two batches", append(bytes.Clone(one), one...), ErrInvalid},
		{"trailing bytes of less than a batch", append(bytes.Clone(one), one[:len(one)-1]...), nil},
		{"magic 0", magic(0), ErrInvalid},
		{"magic 1", magic(1), ErrInvalid},
		{"magic 3", magic(3), ErrCorrupt},
		{"magic -1", magic(0xff), ErrCorrupt},
		{"negative length", length(-1), ErrCorrupt},
		{"length below any format", length(13), ErrCorrupt},
		{"length below this format", length(HeaderSize - 13), ErrCorrupt},
		{"largest length", length(math.MaxInt32), ErrInvalid},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b, err := First(tt.in)
			if !errors.Is(err, tt.want) {
				t.Fatalf("got %v, want %v", err, tt.want)
			}
			if err == nil && !bytes.Equal(b, one) {
				t.Errorf("got %d bytes, want %d", len(b), len(one))
			}
		})
	}
}

func TestNext(t *testing.T) {
	one, two := buildBatch(1), buildBatch(2)
	buf := append(append(bytes.Clone(one), two...), one[:30]...)
	var counts []int32
	for {
		b, rest, err := Next(buf)
		if err != nil {
			t.Fatal(err)
		}
		if b == nil {
			break
		}
		counts, buf = append(counts, b.NumRecords()), rest
	}
	if diff := cmp.Diff([]int32{1, 2}, counts); diff != "" {
		t.Error(diff)
	}
	if _, _, err := Next(edited(one, func(b Batch) { b[16] = 1 })); !errors.Is(err, ErrCorrupt) {
		t.Errorf("magic 1: got %v, want ErrCorrupt", err)
	}
}

func TestCheckHeader(t *testing.T) {
	tests := []struct {
		name string
		edit func(b Batch)
		want error
	}{
		{"good", func(Batch) {}, nil},
		{"reserved attributes pass", func(b Batch) { b[21] = 0xff; b[22] = 0x40 }, nil},
		{"no records", func(b Batch) { binary.BigEndian.PutUint32(b[57:], 0) }, ErrInvalid},
		{"negative count and delta", func(b Batch) {
			binary.BigEndian.PutUint32(b[57:], ^uint32(0))
			binary.BigEndian.PutUint32(b[23:], ^uint32(1))
		}, ErrInvalid},
		{"delta is not count - 1", func(b Batch) { binary.BigEndian.PutUint32(b[23:], 2) }, ErrInvalid},
		{"delta overflows", func(b Batch) {
			binary.BigEndian.PutUint32(b[23:], math.MaxInt32)
			binary.BigEndian.PutUint32(b[57:], 1<<31)
		}, ErrInvalid},
		{"producer without sequence", func(b Batch) { binary.BigEndian.PutUint64(b[43:], 0) }, ErrInvalid},
		{"codec 5", func(b Batch) { b[22] = 5 }, ErrCodec},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := Check(edited(buildBatch(2), tt.edit)); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
	if err := CheckClient(edited(buildBatch(1), func(b Batch) { b[22] = byte(AttrControl) })); !errors.Is(err, ErrInvalid) {
		t.Errorf("control batch: got %v, want ErrInvalid", err)
	}
	for i := 17; i < len(buildBatch(1)); i++ {
		b := buildBatch(1)
		if b[i] ^= 0x10; !errors.Is(Check(b), ErrCorrupt) {
			t.Errorf("byte %d flipped: not ErrCorrupt", i)
		}
	}
}

func BenchmarkCheck64KiB(b *testing.B) {
	var bld Builder
	value := make([]byte, 1000)
	for range 64 {
		bld.Append(1, nil, value)
	}
	batch := bld.Build()
	b.SetBytes(int64(len(batch)))
	b.ReportAllocs()
	for b.Loop() {
		if err := Check(batch); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCheckRecords64KiB(b *testing.B) {
	var bld Builder
	value := make([]byte, 1000)
	for range 64 {
		bld.Append(1, []byte("k"), value)
	}
	batch := bld.Build()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := CheckRecords(batch, Limits{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPatch(b *testing.B) {
	batch := buildBatch(1)
	for i := int64(0); b.Loop(); i++ {
		batch.SetBaseOffset(i)
		batch.SetPartitionLeaderEpoch(int32(i))
	}
}
