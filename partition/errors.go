package partition

import "errors"

// Outcomes on which callers act differently. Test with errors.Is.
var (
	// ErrUnknownPartition: the partition was deleted. Answer that it is unknown.
	ErrUnknownPartition = errors.New("partition: unknown partition")
	// ErrNotLeader: this life may no longer append (W6). What was in flight has an unknown outcome; clients look for the new leader.
	ErrNotLeader = errors.New("partition: not the leader")
	// ErrOutOfOrderSequence: the batch does not follow its producer's last one; nothing was appended (P3, P7, P11).
	ErrOutOfOrderSequence = errors.New("partition: out of order sequence number")
	// ErrInvalidProducerEpoch: the batch is of an older epoch of its producer; nothing was appended (P5).
	ErrInvalidProducerEpoch = errors.New("partition: invalid producer epoch")
	// ErrOffsetOutOfRange: the offset is below the log start or above the end (F3, M7).
	ErrOffsetOutOfRange = errors.New("partition: offset out of range")
	// ErrStorage: the object store or metadata is in trouble. The partition is intact; try again later.
	ErrStorage = errors.New("partition: storage unavailable")
	// ErrCorrupt: stored bytes are not what was written, also when read twice. Other offsets of the partition may still be readable.
	ErrCorrupt = errors.New("partition: corrupt data")
)
