package broker

import (
	"context"
	"errors"

	"github.com/tidemill/tidemill/kafkaconfig"
	"github.com/tidemill/tidemill/metadata"
	"github.com/tidemill/tidemill/partition"
	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/protocol/record"
)

// errorCodes maps what the layers below say to Kafka's codes. It is the only such table. The first match counts.
var errorCodes = []struct {
	err  error
	code protocol.ErrorCode
}{
	{partition.ErrUnknownPartition, protocol.CodeUnknownTopicOrPartition},
	{partition.ErrNotLeader, protocol.CodeNotLeaderOrFollower},
	{partition.ErrOutOfOrderSequence, protocol.CodeOutOfOrderSequenceNumber},
	{partition.ErrInvalidProducerEpoch, protocol.CodeInvalidProducerEpoch},
	{partition.ErrOffsetOutOfRange, protocol.CodeOffsetOutOfRange},
	{partition.ErrStorage, protocol.CodeKafkaStorageError},
	{partition.ErrCorrupt, protocol.CodeCorruptMessage},

	{metadata.ErrTopicExists, protocol.CodeTopicAlreadyExists},
	{metadata.ErrTopicCollides, protocol.CodeInvalidTopicException},
	{metadata.ErrUnknownTopic, protocol.CodeUnknownTopicOrPartition},
	{metadata.ErrPartitionCount, protocol.CodeInvalidPartitions},
	{metadata.ErrStale, protocol.CodeRequestTimedOut},
	{metadata.ErrUnavailable, protocol.CodeRequestTimedOut},
	{metadata.ErrUnknownOutcome, protocol.CodeRequestTimedOut},
	{metadata.ErrFenced, protocol.CodeBrokerNotAvailable},

	{record.ErrCodec, protocol.CodeUnknownServerError},
	{record.ErrCorrupt, protocol.CodeCorruptMessage},
	{record.ErrBomb, protocol.CodeMessageTooLarge},
	{record.ErrInvalid, protocol.CodeInvalidRecord},

	{context.DeadlineExceeded, protocol.CodeRequestTimedOut},
	{context.Canceled, protocol.CodeNotLeaderOrFollower},
}

// codeOf returns the code that answers err: none for nil, UNKNOWN_SERVER_ERROR for what nobody has thought of.
func codeOf(err error) protocol.ErrorCode {
	if err == nil {
		return protocol.CodeNone
	}
	var refused *kafkaconfig.Error
	if errors.As(err, &refused) {
		return configCode(refused.Kind)
	}
	for _, e := range errorCodes {
		if errors.Is(err, e.err) {
			return e.code
		}
	}
	return protocol.CodeUnknownServerError
}

func configCode(k kafkaconfig.Kind) protocol.ErrorCode {
	switch k {
	case kafkaconfig.InvalidRequest:
		return protocol.CodeInvalidRequest
	case kafkaconfig.UnknownOp:
		return protocol.CodeUnknownServerError
	}
	return protocol.CodeInvalidConfig
}
