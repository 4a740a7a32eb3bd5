package protocol

import (
	"encoding/base64"
	"fmt"
)

// TopicID identifies one incarnation of a topic: a topic deleted and created again under the same name has another id.
// The zero value means "no id", as on the wire.
type TopicID [16]byte

// String returns the id as Kafka prints it: 22 characters of URL-safe base64 without padding.
func (id TopicID) String() string { return base64.RawURLEncoding.EncodeToString(id[:]) }

// IsZero reports whether id means "no id".
func (id TopicID) IsZero() bool { return id == TopicID{} }

// ParseTopicID parses what String returns, and nothing else that means the same bytes.
func ParseTopicID(s string) (TopicID, error) {
	var id TopicID
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil || len(b) != len(id) || len(s) != base64.RawURLEncoding.EncodedLen(len(id)) {
		return TopicID{}, fmt.Errorf("topic id %q: want 22 characters of URL-safe base64", s)
	}
	copy(id[:], b)
	return id, nil
}

// PartitionID names one partition in storage, where topics are known by id and never by name.
type PartitionID struct {
	Topic     TopicID
	Partition int32
}

// String returns "topicID/partition".
func (p PartitionID) String() string { return fmt.Sprintf("%s/%d", p.Topic, p.Partition) }

// TopicPartition names one partition as clients do.
type TopicPartition struct {
	Topic     string
	Partition int32
}
