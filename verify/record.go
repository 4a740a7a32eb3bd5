package verify

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
)

// A value is
//
//	"TMV1" | run (8) | producer (4) | partition (4) | sequence (8) | filling | CRC-32C of all before (4)
//
// with big-endian numbers. The filling differs from record to record, so that no piece of one fits into another.
const (
	magic = "TMV1"
	// ValueBytesMin is the size of a value without filling.
	ValueBytesMin = len(magic) + 24 + 4
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Value makes the value of a record of size bytes, or of as many as it needs, and its sum.
func Value(run uint64, id ID, size int) (value []byte, sum uint32) {
	b := make([]byte, 0, max(size, ValueBytesMin)+8)
	b = append(b, magic...)
	b = binary.BigEndian.AppendUint64(b, run)
	b = binary.BigEndian.AppendUint32(b, uint32(id.Producer))
	b = binary.BigEndian.AppendUint32(b, uint32(id.Partition))
	b = binary.BigEndian.AppendUint64(b, uint64(id.Sequence))
	x := uint64(id.Sequence)<<24 ^ uint64(id.Producer)<<12 ^ uint64(id.Partition) | 1
	for len(b) < size-4 {
		x ^= x << 13 // xorshift
		x ^= x >> 7
		x ^= x << 17
		b = binary.BigEndian.AppendUint64(b, x)
	}
	b = b[:min(len(b), max(size, ValueBytesMin)-4)]
	sum = crc32.Checksum(b, castagnoli)
	return binary.BigEndian.AppendUint32(b, sum), sum
}

// A Record is one that a consumer read. What matters of its value is which record it is, and whether it is whole.
type Record struct {
	Offset int64
	ID
	Sum uint32
	// Damaged: the value is none that a producer of this run makes. Its ID is what it claims, or has producer -1.
	Damaged bool
}

// Read looks at the value of a record at an offset.
func Read(run uint64, offset int64, value []byte) Record {
	r := Record{Offset: offset, ID: ID{Producer: -1, Partition: -1, Sequence: -1}, Damaged: true}
	if len(value) < ValueBytesMin || string(value[:len(magic)]) != magic || binary.BigEndian.Uint64(value[len(magic):]) != run {
		r.Sum = crc32.Checksum(value, castagnoli)
		return r
	}
	body, head := value[:len(value)-4], value[len(magic)+8:]
	r.ID = ID{
		Producer: int32(binary.BigEndian.Uint32(head)), Partition: int32(binary.BigEndian.Uint32(head[4:])),
		Sequence: int64(binary.BigEndian.Uint64(head[8:])),
	}
	r.Sum = crc32.Checksum(body, castagnoli)
	r.Damaged = r.Sum != binary.BigEndian.Uint32(value[len(body):])
	return r
}

// same reports whether two reads of an offset returned the same record.
func (r Record) same(o Record) bool { return r.ID == o.ID && r.Sum == o.Sum && r.Damaged == o.Damaged }

func (r Record) String() string {
	switch {
	case r.Damaged && r.Producer < 0:
		return fmt.Sprintf("%d: a foreign value", r.Offset)
	case r.Damaged:
		return fmt.Sprintf("%d: a damaged value of %v", r.Offset, r.ID)
	default:
		return fmt.Sprintf("%d: %v", r.Offset, r.ID)
	}
}

// MarshalJSON makes a record a list of numbers: histories are made of little else.
func (r Record) MarshalJSON() ([]byte, error) {
	damaged := 0
	if r.Damaged {
		damaged = 1
	}
	return fmt.Appendf(nil, "[%d,%d,%d,%d,%d,%d]", r.Offset, r.Producer, r.Partition, r.Sequence, r.Sum, damaged), nil
}

// UnmarshalJSON reads the list.
func (r *Record) UnmarshalJSON(text []byte) error {
	var n []int64
	if err := json.Unmarshal(text, &n); err != nil {
		return err
	}
	if len(n) != 6 {
		return fmt.Errorf("verify: a record of %d numbers, want 6", len(n))
	}
	*r = Record{
		Offset: n[0], ID: ID{Producer: int32(n[1]), Partition: int32(n[2]), Sequence: n[3]}, Sum: uint32(n[4]), Damaged: n[5] != 0,
	}
	return nil
}
