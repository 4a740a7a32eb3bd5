package broker

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/sync/errgroup"

	"github.com/tidemill/tidemill/metadata"
	"github.com/tidemill/tidemill/partition"
	"github.com/tidemill/tidemill/protocol"
)

// ListOffsets: v1-11
//
// By position or by time, exactly (L1, L2). There is no tier that Kafka would call remote, so what asks for one gets -1.
func init() { handle(protocol.KeyListOffsets, (*Broker).listOffsets) }

// Timestamps that mean positions, with the version each came with.
const (
	latestOffset         = -1
	earliestOffset       = -2
	maxTimestampOffset   = -3 // v7
	earliestLocalOffset  = -4 // v8
	latestTieredOffset   = -5 // v9
	earliestPendingToGet = -6 // v11
)

// lookupsMax bounds the lookups by time of one request that are under way at a time: each may have to read an index and a block, and one
// after the other they would take longer than clients with hundreds of partitions wait.
const lookupsMax = 16

func (b *Broker) listOffsets(c *call, req *kmsg.ListOffsetsRequest) {
	v := b.view()
	resp := req.ResponseKind().(*kmsg.ListOffsetsResponse)
	names, times := topicNumbers{}, make(map[numbered]int)
	for _, t := range req.Topics {
		n := names.of(t.Topic)
		for _, p := range t.Partitions {
			times[numbered{n, p.Partition}]++
		}
	}
	var lookups errgroup.Group
	lookups.SetLimit(lookupsMax)
	for _, t := range req.Topics {
		out := kmsg.NewListOffsetsResponseTopic()
		out.Topic = t.Topic
		topic, n := v.img.Topics[t.Topic], names.of(t.Topic)
		out.Partitions = make([]kmsg.ListOffsetsResponseTopicPartition, len(t.Partitions))
		for i, p := range t.Partitions {
			q := &out.Partitions[i]
			q.Default()
			q.Partition, q.Timestamp, q.Offset, q.LeaderEpoch = p.Partition, -1, -1, -1
			list := func() error {
				q.ErrorCode = int16(b.listOffset(c.ctx, v, topic, req, p, q))
				return nil
			}
			switch {
			case times[numbered{n, p.Partition}] > 1:
				q.ErrorCode = int16(protocol.CodeInvalidRequest) // L3
			case p.Timestamp >= 0 || p.Timestamp == maxTimestampOffset:
				lookups.Go(list)
			default:
				_ = list()
			}
		}
		resp.Topics = append(resp.Topics, out)
	}
	_ = lookups.Wait() // answers say what went wrong
	c.reply(resp)
}

func (b *Broker) listOffset(ctx context.Context, v *view, t *metadata.Topic, req *kmsg.ListOffsetsRequest,
	in kmsg.ListOffsetsRequestTopicPartition, out *kmsg.ListOffsetsResponseTopicPartition,
) protocol.ErrorCode {
	if t == nil {
		return protocol.CodeUnknownTopicOrPartition
	}
	if req.IsolationLevel < 0 || req.IsolationLevel > 1 {
		return protocol.CodeUnknownServerError // as Kafka answers a level it does not know (3.13)
	}
	if unsupportedPosition(in.Timestamp, req.Version) {
		return protocol.CodeUnsupportedVersion
	}
	l, code := b.ownedLog(v, t, in.Partition)
	if code != protocol.CodeNone {
		return code
	}
	state := l.State()
	if code := checkEpoch(in.CurrentLeaderEpoch, state.LeaderEpoch); code != protocol.CodeNone {
		return code
	}
	if code := b.checkFresh(l); code != protocol.CodeNone && in.Timestamp != earliestOffset {
		return code
	}
	err := position(ctx, l, state, in.Timestamp, req.IsolationLevel, out)
	if err == nil && out.Offset >= 0 && in.Timestamp != latestOffset {
		out.LeaderEpoch = l.EpochAt(out.Offset)
	}
	return codeOf(err)
}

// position fills in the answer for one log.
func position(ctx context.Context, l *partition.Log, state partition.State, ts int64, isolation int8,
	out *kmsg.ListOffsetsResponseTopicPartition,
) (err error) {
	switch ts {
	case latestOffset:
		out.Offset, out.LeaderEpoch = state.HighWatermark, state.LeaderEpoch
		if isolation == int8(partition.ReadCommitted) {
			out.Offset = state.LastStable
		}
	case earliestOffset, earliestLocalOffset:
		out.Offset = state.LogStart
	case maxTimestampOffset:
		out.Timestamp, out.Offset, err = l.MaxTimestamp(ctx)
	case latestTieredOffset, earliestPendingToGet:
	default:
		out.Timestamp, out.Offset, err = l.OffsetsForTime(ctx, ts)
	}
	return err
}

// unsupportedPosition reports whether a negative timestamp means nothing in this version.
func unsupportedPosition(ts int64, version int16) bool {
	switch {
	case ts >= earliestOffset:
		return false
	case ts == maxTimestampOffset:
		return version < 7
	case ts == earliestLocalOffset:
		return version < 8
	case ts == latestTieredOffset:
		return version < 9
	case ts == earliestPendingToGet:
		return version < 11
	}
	return true
}
