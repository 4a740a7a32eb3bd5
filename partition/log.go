package partition

import "context"

// A Log is one partition on its owner. All methods may be called concurrently.
type Log struct{}

// State is a log at one moment.
type State struct {
	// LogStart is the first readable offset.
	LogStart int64
	// HighWatermark is the offset after the last committed record.
	HighWatermark int64
	// LastStable is the offset that read_committed may read up to. Without transactions it is the high watermark.
	LastStable int64
	// EndOffset is the offset that the next append gets. What lies from HighWatermark on is not durable yet.
	EndOffset   int64
	LeaderEpoch int32
}

// State returns the log's offsets and leader epoch.
func (l *Log) State() State { return State{} }

// SizeBytes returns the stored bytes of committed batches from the log start's extent on.
func (l *Log) SizeBytes() int64 { return 0 }

// OffsetsForTime returns the timestamp and offset of the first record at or after the log start whose timestamp is at least ts, and
// (-1, -1) when there is none (L2).
func (l *Log) OffsetsForTime(ctx context.Context, ts int64) (timestamp, offset int64, err error) {
	return -1, -1, ErrNotLeader
}

// MaxTimestamp returns the largest record timestamp and the offset of the first record that has it, (-1, -1) when the log is empty (L1).
func (l *Log) MaxTimestamp(ctx context.Context) (timestamp, offset int64, err error) {
	return -1, -1, ErrNotLeader
}

// EndOffsetForEpoch returns the largest known epoch up to the requested one and the offset at which it ended (E2).
func (l *Log) EndOffsetForEpoch(epoch int32) (foundEpoch int32, end int64) { return -1, -1 }

// EpochAt returns the leader epoch of the batch at offset, -1 when it is unknown.
func (l *Log) EpochAt(offset int64) int32 { return -1 }

// DeleteRecords moves the log start to offset, exactly, and returns the log start (M7). -1 means the high watermark; an offset below
// the log start changes nothing. It returns once the new log start is durable. ErrOffsetOutOfRange above the high watermark.
func (l *Log) DeleteRecords(ctx context.Context, offset int64) (logStart int64, err error) {
	return 0, ErrNotLeader
}

// Coordinator returns the coordinator state that the manifest held when the log was opened: the machine after all records below
// offset. ok is false when there is none. See Options.Coordinator.
func (l *Log) Coordinator() (offset int64, blob []byte, ok bool) { return 0, nil, false }
