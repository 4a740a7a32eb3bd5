// Package verify judges what clients of a Kafka-compatible cluster were told: it holds a recorded history of sends, reads,
// commits and end offsets against the final log, and shows the shortest counterexample of each anomaly it finds.
//
// What a history must keep to, so that only the cluster can be wrong:
//   - Producers are idempotent and number their records by partition, in the order in which they send them.
//   - A send is Failed only when the cluster cannot have stored the record; everything else without an answer is Unknown.
//   - Begin is taken before a request can have left, End after its answer came. Two events are in order only when the
//     first ended before the second began; everything else may have happened in either order.
//   - The polls of one consumer are in the order in which it made them. A consumer that is moved begins a new session.
//   - The members of a group commit forward only.
//
// Package workload records such histories.
package verify

import (
	"fmt"
	"time"
)

// A History is what the clients of one topic did and saw.
type History struct {
	Topic      string
	Partitions int32

	Sends      []Send
	Polls      []Poll
	Commits    []Commit
	Committed  []Committed
	EndOffsets []EndOffset
	Logs       []Log // at most one of a partition
}

// A Span is when something happened, since the run began.
type Span struct {
	Begin time.Duration `json:"begin"`
	End   time.Duration `json:"end"`
}

// Before reports whether s was over when o began.
func (s Span) Before(o Span) bool { return s.End < o.Begin }

// An ID names a record: no two records of a run have the same.
type ID struct {
	Producer  int32 `json:"producer"`
	Partition int32 `json:"partition"`
	Sequence  int64 `json:"sequence"` // by producer and partition, from 0
}

func (id ID) String() string {
	return fmt.Sprintf("record %d of producer %d for partition %d", id.Sequence, id.Producer, id.Partition)
}

// An Outcome is what a client knows of what it asked for.
type Outcome uint8

// The outcomes. The zero value is the one that promises nothing.
const (
	Unknown Outcome = iota // it may have happened, or may yet
	Acknowledged
	Failed // it did not happen and never will
)

var outcomes = [...]string{"unknown", "acknowledged", "failed"}

func (o Outcome) String() string { return outcomes[o] }

// MarshalText makes an outcome a word.
func (o Outcome) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// UnmarshalText reads the word.
func (o *Outcome) UnmarshalText(text []byte) error {
	for i, word := range outcomes {
		if word == string(text) {
			*o = Outcome(i)
			return nil
		}
	}
	return fmt.Errorf("verify: unknown outcome %q", text)
}

// A Send is one record that a producer sent.
type Send struct {
	Span
	ID
	Sum     uint32  `json:"sum"` // of its value
	Outcome Outcome `json:"outcome"`
	Offset  int64   `json:"offset"` // when acknowledged
	Error   string  `json:"error,omitempty"`
}

// A Poll is what one poll of a consumer returned from one partition.
type Poll struct {
	Span
	Consumer  string   `json:"consumer"`
	Group     string   `json:"group,omitempty"`
	Session   int32    `json:"session"` // counts how often the consumer was moved in this partition
	Partition int32    `json:"partition"`
	Position  int64    `json:"position"` // of the consumer before the poll
	Records   []Record `json:"records,omitempty"`
	Error     string   `json:"error,omitempty"` // instead of records
}

// A Commit is an offset that a member of a group committed.
type Commit struct {
	Span
	Group     string  `json:"group"`
	Member    string  `json:"member"`
	Partition int32   `json:"partition"`
	Offset    int64   `json:"offset"`
	Outcome   Outcome `json:"outcome"`
	Error     string  `json:"error,omitempty"`
}

// Committed is a committed offset that the cluster answered, -1 when there was none.
type Committed struct {
	Span
	Group     string `json:"group"`
	Client    string `json:"client"`
	Partition int32  `json:"partition"`
	Offset    int64  `json:"offset"`
}

// An EndOffset is a high watermark that a client saw, in a fetch or by asking for it.
type EndOffset struct {
	Span
	Client    string `json:"client"`
	Partition int32  `json:"partition"`
	Offset    int64  `json:"offset"`
}

// A Log is what a partition held when the run was over.
type Log struct {
	Span
	Partition int32 `json:"partition"`
	// Start and Limit are its log start offset and its high watermark, ReadTo is how far it could be read.
	Start   int64    `json:"start"`
	Limit   int64    `json:"limit"`
	ReadTo  int64    `json:"readTo"`
	Records []Record `json:"records,omitempty"`
}
