package broker

import (
	"log/slog"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/coordinator/group"
	"github.com/tidemill/tidemill/protocol"
)

// FindCoordinator: v0-6
//
// A group's coordinator owns its partition of __consumer_offsets, which is created for the first group that asks.
// Transactional ids have no coordinator yet and are refused with an error that no client retries.
func init() { handle(protocol.KeyFindCoordinator, (*Broker).findCoordinator) }

const (
	coordinatorGroup = 0
	coordinatorTxn   = 1
	coordinatorShare = 2
)

func (b *Broker) findCoordinator(c *call, req *kmsg.FindCoordinatorRequest) {
	resp := req.ResponseKind().(*kmsg.FindCoordinatorResponse)
	keys := req.CoordinatorKeys
	if req.Version < 4 {
		keys = []string{req.CoordinatorKey}
	}
	for _, key := range keys {
		resp.Coordinators = append(resp.Coordinators, b.coordinator(c, req, key))
	}
	if req.Version < 4 {
		only := resp.Coordinators[0]
		resp.Coordinators = nil
		resp.ErrorCode, resp.ErrorMessage = only.ErrorCode, only.ErrorMessage
		resp.NodeID, resp.Host, resp.Port = only.NodeID, only.Host, only.Port
		if only.ErrorCode == 0 {
			resp.ErrorMessage = kmsg.StringPtr(protocol.CodeNone.String())
		}
	}
	c.reply(resp)
}

func (b *Broker) coordinator(c *call, req *kmsg.FindCoordinatorRequest, key string) kmsg.FindCoordinatorResponseCoordinator {
	out := kmsg.NewFindCoordinatorResponseCoordinator()
	out.Key, out.NodeID, out.Port, out.ErrorMessage = key, -1, -1, kmsg.StringPtr("") // not null: as Kafka
	fail := func(code protocol.ErrorCode, message string) kmsg.FindCoordinatorResponseCoordinator {
		out.ErrorCode, out.ErrorMessage = int16(code), &message
		return out
	}
	switch {
	case req.CoordinatorType == coordinatorTxn:
		return fail(protocol.CodeUnsupportedVersion, "transactions are not supported by this broker")
	case req.CoordinatorType == coordinatorShare && req.Version >= 6:
		return fail(protocol.CodeUnsupportedVersion, "share groups are not supported by this broker")
	case req.CoordinatorType != coordinatorGroup:
		return fail(protocol.CodeInvalidRequest, "unknown coordinator type")
	}
	t, err := b.ensureOffsetsTopic(c.ctx)
	if err != nil {
		b.log.Warn("the topic of group offsets is not available", slog.Any("error", err))
		return fail(protocol.CodeCoordinatorNotAvailable, "the topic of group offsets is not available")
	}
	v := b.view()
	owner, code := v.leader(t.Partitions[group.ShardOf(key, int32(len(t.Partitions)))])
	if code != protocol.CodeNone {
		return fail(protocol.CodeCoordinatorNotAvailable, "the owner of the group's partition is not available")
	}
	for _, broker := range v.brokers {
		if broker.id == owner {
			out.NodeID, out.Host, out.Port = broker.id, broker.Host, broker.Port
		}
	}
	return out
}
