package partition

import "context"

// Isolation is the isolation level of a read.
type Isolation uint8

// Isolation levels, numbered as on the wire.
const (
	ReadUncommitted Isolation = iota
	ReadCommitted
)

// ReadInput says what to read.
type ReadInput struct {
	// Offset is the first wanted offset. The batch that holds it comes first, whole (F3).
	Offset int64
	// MaxBytes bounds the result.
	MaxBytes int
	// AtLeastOne returns the first batch even when it is larger than MaxBytes (F2).
	AtLeastOne bool
	// Isolation bounds the result by the high watermark or the last stable offset.
	Isolation Isolation
}

// ReadResult is what a read found. State is valid also when the read failed with ErrOffsetOutOfRange.
type ReadResult struct {
	// Batches are the bytes of whole batches in offset order; each element holds one or more adjacent batches. They alias immutable
	// cached memory that the garbage collector keeps: read them as long as wanted, never write to them.
	Batches [][]byte
	// Bytes is the total length of Batches.
	Bytes int
	// State is the log at the moment the read was planned.
	State
}

// Read returns committed batches from in.Offset on. A result may be shorter than what is there; it is empty at the high watermark, and
// when the first batch exceeds MaxBytes without AtLeastOne. Errors: ErrOffsetOutOfRange, ErrUnknownPartition, ErrStorage, ErrCorrupt
// or that of ctx; an error behind the first batch shortens the result instead. Safe for concurrent use.
func (l *Log) Read(ctx context.Context, in ReadInput) (ReadResult, error) {
	return ReadResult{}, ErrNotLeader
}
