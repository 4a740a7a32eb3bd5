package broker

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/protocol"
)

// The rules below are about things that this broker does not have. Each is held to being absent cleanly.

// TestF9F12NothingThrottledNothingElsewhere: there are no quotas and no replica selector, so a fetch with a rack is answered
// here and at once.
func TestF9F12NothingThrottledNothingElsewhere(t *testing.T) {
	b := startBroker(t)
	c := dial(t, b.kafka)
	c.createTopic("t", 1)
	c.produce("t", 0, batchOf("a"))
	req := fetchRequest(12, "t", protocol.TopicID{}, 0, 0)
	req.Rack = "zone-b"
	resp := ask[*kmsg.FetchResponse](c, req)
	p := resp.Topics[0].Partitions[0]
	if resp.ThrottleMillis != 0 || p.PreferredReadReplica != -1 || len(p.RecordBatches) == 0 {
		t.Errorf("throttle %d ms, preferred replica %d, %d bytes; want 0, -1 and the record", resp.ThrottleMillis, p.PreferredReadReplica, len(p.RecordBatches))
	}
}

// TestA10MetadataSendsNobodyAway: the top-level error of Metadata v13, which would make clients bootstrap again, is not set.
func TestA10MetadataSendsNobodyAway(t *testing.T) {
	b := startBroker(t)
	req := kmsg.NewPtrMetadataRequest()
	req.Version = 13
	resp := ask[*kmsg.MetadataResponse](dial(t, b.kafka), req)
	wantCode(t, "top level", resp.ErrorCode, protocol.CodeNone)
	if len(resp.Brokers) != 1 || resp.ControllerID != resp.Brokers[0].NodeID {
		t.Errorf("brokers %v, controller %d: want one, and itself", resp.Brokers, resp.ControllerID)
	}
}

// TestA3AbsentIsNotAdvertised: transactions, quotas, KIP-714, KIP-848, share and streams groups are absent from ApiVersions,
// and asking all the same closes the connection.
func TestA3AbsentIsNotAdvertised(t *testing.T) {
	b := startBroker(t)
	c := dial(t, b.kafka)
	advertised := map[int16]bool{}
	for _, k := range ask[*kmsg.ApiVersionsResponse](c, kmsg.NewPtrApiVersionsRequest()).ApiKeys {
		advertised[k.ApiKey] = true
		if k.ApiKey == 0 && (k.MinVersion != 0 || k.MaxVersion != 11) {
			t.Errorf("Produce %d to %d, want 0, without which librdkafka does not compress, to 11, the last without transactions of version 2", k.MinVersion, k.MaxVersion)
		}
	}
	for _, req := range []kmsg.Request{
		kmsg.NewPtrAddPartitionsToTxnRequest(), kmsg.NewPtrAddOffsetsToTxnRequest(),
		kmsg.NewPtrEndTxnRequest(), kmsg.NewPtrWriteTxnMarkersRequest(), kmsg.NewPtrTxnOffsetCommitRequest(),
		kmsg.NewPtrDescribeClientQuotasRequest(), kmsg.NewPtrConsumerGroupHeartbeatRequest(),
		kmsg.NewPtrConsumerGroupDescribeRequest(), kmsg.NewPtrGetTelemetrySubscriptionsRequest(), kmsg.NewPtrPushTelemetryRequest(),
		kmsg.NewPtrShareFetchRequest(), kmsg.NewPtrStreamsGroupHeartbeatRequest(),
	} {
		if advertised[req.Key()] {
			t.Errorf("key %d is advertised", req.Key())
		}
		away := dial(t, b.kafka)
		req.SetVersion(req.MaxVersion())
		away.send(req)
		away.checkClosed()
	}
}

// TestP6P9ProducersWithoutHistory: a producer that the partition does not know may begin anywhere, and never hears
// UNKNOWN_PRODUCER_ID; what claims to be in a transaction is refused while there are none, and leaves no trace (P3, P6, P9).
func TestP6P9ProducersWithoutHistory(t *testing.T) {
	b := startBroker(t)
	c := dial(t, b.kafka)
	c.createTopic("t", 1)
	inTransaction := produceRequest(11, "t", 0, transactional(withProducer(batchOf("x"), 77, 0, 0)))
	inTransaction.TransactionID = kmsg.StringPtr("tx")
	wantCode(t, "in a transaction", ask[*kmsg.ProduceResponse](c, inTransaction).Topics[0].Partitions[0].ErrorCode, protocol.CodeInvalidTxnState)
	first := c.produce("t", 0, withProducer(batchOf("a"), 77, 3, 41))
	wantCode(t, "unknown producer at sequence 41", first.ErrorCode, protocol.CodeNone)
	if first.BaseOffset != 0 {
		t.Errorf("offset %d, want 0: the refused batch took none", first.BaseOffset)
	}
	wantCode(t, "the sequence that follows", c.produce("t", 0, withProducer(batchOf("b"), 77, 3, 42)).ErrorCode, protocol.CodeNone)
}
