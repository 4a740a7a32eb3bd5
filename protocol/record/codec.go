package record

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
