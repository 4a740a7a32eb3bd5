package record

import (
	"encoding/binary"
	"fmt"
	"iter"
)

// A Header is a key and a value that travel with a record. A null value is nil.
type Header struct {
	Key   string
	Value []byte
}

// A Record is one record of a batch. Null keys and values are nil, empty ones are not.
type Record struct {
	Offset int64
	// Timestamp is in ms; in a batch with log append time it is the batch's.
	Timestamp int64
	Key       []byte
	Value     []byte
	Headers   []Header
}

// Records iterates over the records of b, unpacking them if need be. An error is the last thing yielded; it is ErrInvalid
// for records that are not what their lengths and counts say, ErrCorrupt for data that does not unpack, ErrCodec or ErrBomb.
// Keys and values alias b, or, if b is compressed, a buffer of the iteration's own; the Headers slice is reused at the next step.
func Records(b Batch, limits Limits) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		data, err := Decompress(b, limits)
		if err != nil {
			yield(Record{}, err)
			return
		}
		r := reader{src: data}
		var headers []Header
		for i := range b.NumRecords() {
			rec, err := r.record(b, headers[:0], int64(i))
			if err != nil {
				yield(Record{}, err)
				return
			}
			headers = rec.Headers
			if len(rec.Headers) == 0 {
				rec.Headers = nil
			}
			if !yield(rec, nil) {
				return
			}
		}
		if len(r.src) > 0 {
			yield(Record{}, fmt.Errorf("%d bytes after the last record: %w", len(r.src), ErrInvalid))
		}
	}
}

// A reader takes records apart. Once bad is set, it reads zeros.
type reader struct {
	src []byte
	bad bool
}

// varint has a way of its own for one byte, which most numbers of a record take.
func (r *reader) varint() int64 {
	if len(r.src) == 0 || r.src[0] >= 0x80 {
		return r.longVarint()
	}
	b := r.src[0]
	r.src = r.src[1:]
	return int64(b>>1) ^ -int64(b&1)
}

func (r *reader) longVarint() int64 {
	if len(r.src) > 1 && r.src[1] < 0x80 {
		u := uint64(r.src[0]&0x7f) | uint64(r.src[1])<<7
		r.src = r.src[2:]
		return int64(u>>1) ^ -int64(u&1)
	}
	v, n := binary.Varint(r.src)
	if n <= 0 {
		r.bad, r.src = true, nil
		return 0
	}
	r.src = r.src[n:]
	return v
}

// bytes reads a length and that many bytes; a negative length is null.
func (r *reader) bytes() []byte {
	n := r.varint()
	if n < 0 {
		return nil
	}
	return r.span(n)
}

func (r *reader) span(n int64) []byte {
	if n < 0 || n > int64(len(r.src)) {
		r.bad, r.src = true, nil
		return nil
	}
	b := r.src[:n:n]
	r.src = r.src[n:]
	return b
}

// enter reads a record's length and returns a reader of exactly that record.
func (r *reader) enter() (reader, error) {
	n := r.varint()
	body := r.span(n)
	if r.bad {
		return reader{}, fmt.Errorf("record length exceeds the batch: %w", ErrInvalid)
	}
	return reader{src: body}, nil
}

func (r *reader) record(b Batch, headers []Header, index int64) (Record, error) {
	in, err := r.enter()
	if err != nil {
		return Record{}, fmt.Errorf("record %d: %w", index, err)
	}
	in.span(1) // attributes, all reserved
	rec := Record{Timestamp: b.BaseTimestamp() + in.varint(), Offset: b.BaseOffset() + in.varint(), Headers: headers}
	if b.IsLogAppendTime() {
		rec.Timestamp = b.MaxTimestamp()
	}
	rec.Key, rec.Value = in.bytes(), in.bytes()
	n := in.varint()
	if n < 0 || n > int64(len(in.src)/2) {
		in.bad = true // a header takes at least two bytes
	}
	for i := int64(0); i < n && !in.bad; i++ {
		keyLen := in.varint()
		rec.Headers = append(rec.Headers, Header{Key: string(in.span(keyLen)), Value: in.bytes()})
	}
	if in.bad || len(in.src) > 0 {
		return Record{}, fmt.Errorf("record %d: fields do not fill its length: %w", index, ErrInvalid)
	}
	return rec, nil
}

// A Summary is what CheckRecords learned on its way.
type Summary struct {
	// MaxTimestamp and MinTimestamp are the records' own, in ms.
	MaxTimestamp, MinTimestamp int64
	// NullKeys holds the indexes of the first records without a key, at most three: a compacted topic refuses them.
	NullKeys []int32
	// HasNullKey says that there was at least one.
	HasNullKey bool
}

// nullKeysMax is how many records Kafka lists in an error message.
const nullKeysMax = 3

// CheckRecords walks over the records without keeping them and holds them against the header: count, lengths, and offset
// deltas 0, 1, 2, ... (3.2 rules 8 and 9). Compressed records are unpacked within limits; Kafka then does not check the
// lengths of fields inside a record (3.13), and neither does this. Errors are those of Records.
func CheckRecords(b Batch, limits Limits) (Summary, error) {
	data, err := Decompress(b, limits)
	if err != nil {
		return Summary{}, err
	}
	r := reader{src: data}
	sum := Summary{MaxTimestamp: -1}
	strict := b.Codec() == None
	for i := range b.NumRecords() {
		ts, err := r.skim(b, &sum, i, strict)
		if err != nil {
			return Summary{}, err
		}
		if i == 0 || ts < sum.MinTimestamp {
			sum.MinTimestamp = ts
		}
		if i == 0 || ts > sum.MaxTimestamp {
			sum.MaxTimestamp = ts
		}
	}
	if len(r.src) > 0 {
		return Summary{}, fmt.Errorf("%d bytes after the last record: %w", len(r.src), ErrInvalid)
	}
	return sum, nil
}

func (r *reader) skim(b Batch, sum *Summary, i int32, strict bool) (timestamp int64, err error) {
	in, err := r.enter()
	if err != nil {
		return 0, fmt.Errorf("record %d: %w", i, err)
	}
	in.span(1)
	timestamp = b.BaseTimestamp() + in.varint()
	delta, keyLen := in.varint(), in.varint()
	if keyLen < 0 {
		if !sum.HasNullKey {
			sum.HasNullKey, sum.NullKeys = true, make([]int32, 0, nullKeysMax)
		}
		if len(sum.NullKeys) < nullKeysMax {
			sum.NullKeys = append(sum.NullKeys, i)
		}
	}
	if !in.bad && delta != int64(i) {
		return 0, fmt.Errorf("record %d has offset delta %d: %w", i, delta, ErrInvalid)
	}
	if strict {
		in.skipRest(keyLen)
	}
	if in.bad || strict && len(in.src) > 0 {
		return 0, fmt.Errorf("record %d: fields do not fill its length: %w", i, ErrInvalid)
	}
	return timestamp, nil
}

// skipRest passes over key, value and headers, given the key's length.
func (r *reader) skipRest(keyLen int64) {
	r.span(max(keyLen, 0))
	r.bytes()
	n := r.varint()
	if n < 0 {
		r.bad = true
	}
	for i := int64(0); i < n && !r.bad; i++ {
		r.span(r.varint())
		r.bytes()
	}
}
