package record

import "iter"

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

// Limits bounds what decompression may give. The zero value means the defaults.
type Limits struct {
	// Bytes is the most that one batch may unpack to; 64 MiB by default.
	Bytes int
	// Ratio is the most bytes out per byte in, beyond the first 4 MiB; 100 by default.
	Ratio int
}

// Records iterates over the records of b, unpacking them if need be. An error is the last thing yielded; it is ErrCorrupt,
// ErrCodec or ErrBomb. Keys, values and headers may alias b and are valid until the next step of the iteration if the
// batch is compressed: copy what is kept.
func Records(b Batch, limits Limits) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {}
}
