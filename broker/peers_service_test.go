package broker

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/conformance"
	"github.com/tidemill/tidemill/internal/proctest"
	"github.com/tidemill/tidemill/protocol"
)

// half of a long poll: what is woken by its event is answered far sooner, what waits for its time far later.
const (
	longPoll     = 60 * time.Second
	longPollHalf = longPoll / 2
)

// pollAll is a long poll over partitions of a topic, each from its offset.
func pollAll(topic string, offsets ...int64) *kmsg.FetchRequest {
	req := fetchRequest(12, topic, protocol.TopicID{}, 0, 0)
	req.MaxWaitMillis, req.MinBytes = int32(longPoll.Milliseconds()), 1
	req.Topics[0].Partitions = nil
	for p, offset := range offsets {
		req.Topics[0].Partitions = append(req.Topics[0].Partitions, fetchRequest(12, topic, protocol.TopicID{}, int32(p), offset).Topics[0].Partitions...)
	}
	return req
}

// TestPeerK4SigtermHangsOnOpenConnections: idle connections, half a frame and a parked fetch do not hold up a stop.
func TestPeerK4SigtermHangsOnOpenConnections(t *testing.T) {
	b := startBroker(t)
	idle, half, parked := dial(t, b.kafka), dial(t, b.kafka), dial(t, b.kafka)
	idle.createTopic("t", 1)
	half.sendBytes([]byte{0, 0, 1, 0, 0, 3})
	parked.send(pollAll("t", 0))
	stopping := time.Now()
	b.shutdown() // fails the test when it takes half a minute
	if took := time.Since(stopping); took > longPollHalf {
		t.Errorf("the stop took %v", took)
	}
}

// TestPeerK5OutOfRangeFromWhoDoesNotOwn: a broker that does not lead a partition says so, and never that a committed offset
// is out of range, upon which consumers would skip or repeat everything. Nor does the owner after a restart.
func TestPeerK5OutOfRangeFromWhoDoesNotOwn(t *testing.T) {
	etcd := startEtcd(t)
	shared := []string{"--cluster", etcd.url(), "--bucket", "file://" + t.TempDir()}
	owner := startBroker(t, append(shared, "--broker-id", "1")...)
	c := dial(t, owner.kafka)
	c.createTopic("t", 1)
	c.produce("t", 0, batchOf("a", "b"))
	other := dial(t, startBroker(t, append(shared, "--broker-id", "2")...).kafka)
	at2 := fetchRequest(12, "t", protocol.TopicID{}, 0, 2)
	waitFor(t, "the other to know the topic", func() bool {
		return ask[*kmsg.MetadataResponse](other, metadataRequest(12, "t")).Topics[0].ErrorCode == 0
	})
	wantCode(t, "fetch from the other", fetched(other, at2).ErrorCode, protocol.CodeNotLeaderOrFollower)
	owner.restart(t) // it gave the partition away before it stopped
	wantCode(t, "fetch from the former owner", fetched(dial(t, owner.kafka), at2).ErrorCode, protocol.CodeNotLeaderOrFollower)
	if p := fetched(other, at2); p.ErrorCode != 0 || p.HighWatermark != 2 {
		t.Errorf("from the new owner: code %d, high watermark %d", p.ErrorCode, p.HighWatermark)
	}
}

// TestPeerK6DeletedTopicComesBack: a topic that is created again under its name has another id and no records, now and
// after a restart.
func TestPeerK6DeletedTopicComesBack(t *testing.T) {
	b := startBroker(t)
	c := dial(t, b.kafka)
	old := c.createTopic("t", 1)
	c.produce("t", 0, batchOf("gdpr-0", "gdpr-1", "gdpr-2"))
	wantCode(t, "delete", ask[*kmsg.DeleteTopicsResponse](c, deleteRequest(3, "t")).Topics[0].ErrorCode, protocol.CodeNone)
	if id := c.createTopic("t", 1); id == old {
		t.Errorf("the new topic has the old id %x", id)
	}
	checkLog(t, c, "t", 0)
	b.restart(t)
	c = dial(t, b.kafka)
	checkLog(t, c, "t", 0)
	c.produce("t", 0, batchOf("new"))
	checkLog(t, c, "t", 0, "new")
}

// TestPeerK7GroupsReadTheirMembersBytes: the metadata and assignments of any protocol come through as they were sent.
func TestPeerK7GroupsReadTheirMembersBytes(t *testing.T) {
	b := startBroker(t, "--kafka", "group.initial.rebalance.delay.ms=0")
	c := dial(t, b.kafka)
	for _, kind := range []string{"connect", "sr", "consumer", "stream"} {
		c.createTopic("t-"+kind, 1)
		committed(c, kind, "t-"+kind, 0) // the coordinator is there
		const metadata = "\x00\x02\x00\x15http://127.0.0.1:8083\x00\xff"
		join := kmsg.NewPtrJoinGroupRequest()
		join.Version, join.Group, join.ProtocolType, join.SessionTimeoutMillis, join.RebalanceTimeoutMillis = 3, kind, kind, 60_000, 60_000
		join.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "sessioned", Metadata: []byte(metadata)}, {Name: "default", Metadata: []byte("other")}}
		joined := ask[*kmsg.JoinGroupResponse](c, join)
		if joined.ErrorCode != 0 || len(joined.Members) != 1 || string(joined.Members[0].ProtocolMetadata) != metadata || *joined.Protocol != "sessioned" {
			t.Fatalf("%s: code %d, members %+v", kind, joined.ErrorCode, joined.Members)
		}
		const assignment = "\x00\x01\xff not ten zero bytes"
		sync := kmsg.NewPtrSyncGroupRequest()
		sync.Version, sync.Group, sync.MemberID, sync.Generation = 3, kind, joined.MemberID, joined.Generation
		sync.GroupAssignment = []kmsg.SyncGroupRequestGroupAssignment{{MemberID: joined.MemberID, MemberAssignment: []byte(assignment)}}
		if got := ask[*kmsg.SyncGroupResponse](c, sync); got.ErrorCode != 0 || string(got.MemberAssignment) != assignment {
			t.Errorf("%s: code %d, assignment %q", kind, got.ErrorCode, got.MemberAssignment)
		}
	}
}

// TestPeerK8OffsetsThatNobodyCommitted: -1 and not 0 is the offset of a group that did not commit; one without members may.
func TestPeerK8OffsetsThatNobodyCommitted(t *testing.T) {
	b := startBroker(t)
	c := dial(t, b.kafka)
	c.createTopic("t", 1)
	wantCode(t, "a commit from outside", committed(c, "g", "t", 7), protocol.CodeNone)
	if got := committedOffset(c, "g", "t"); got != 7 {
		t.Errorf("offset %d, want 7", got)
	}
	if got := committedOffset(c, "nobody", "t"); got != -1 {
		t.Errorf("offset %d of a group that committed nothing, want -1", got)
	}
}

// TestPeerK9OffsetsByTime: a time gives its record's offset and not the end, and the log starts where it starts.
func TestPeerK9OffsetsByTime(t *testing.T) {
	b := startBroker(t)
	c := dial(t, b.kafka)
	c.createTopic("t", 1)
	c.produce("t", 0, conformance.BatchAt(100, 200, 300))
	c.produce("t", 0, conformance.BatchAt(400))
	for at, want := range map[int64]int64{150: 1, 300: 2, 301: 3, 401: -1} {
		if got := listed(c, listRequest("t", 0, at)).Offset; got != want {
			t.Errorf("time %d is at offset %d, want %d", at, got, want)
		}
	}
	deletedRecords(c, "t", 0, 2)
	if p := fetched(c, fetchRequest(12, "t", protocol.TopicID{}, 0, 2)); p.LogStartOffset != 2 {
		t.Errorf("log start %d, want 2", p.LogStartOffset)
	}
}

// TestPeerK10LongPollPartitionByPartition: one wait is over all partitions, ended by a record in any; it asks neither etcd,
// which is away here, nor the store.
func TestPeerK10LongPollPartitionByPartition(t *testing.T) {
	etcd := startEtcd(t)
	b, h := startHooked(t, "--cluster", etcd.url(), "--bucket", "file://"+t.TempDir())
	reader, writer := dial(t, b.kafka), dial(t, b.kafka)
	reader.createTopic("t", 8)
	etcd.stop()
	offsets := make([]int64, 8)
	reads, lists := h.reads.Load(), h.lists.Load()
	for i := range 16 {
		p := int32(7 - i%8)
		req := pollAll("t", offsets...)
		corr, asked := reader.send(req), time.Now()
		wantCode(t, "produce", writer.produce("t", p, batchOf("a")).ErrorCode, protocol.CodeNone)
		resp := answer[*kmsg.FetchResponse](reader, req, corr)
		if took := time.Since(asked); took > longPollHalf {
			t.Fatalf("a record in partition %d took %v", p, took)
		}
		for _, got := range resp.Topics[0].Partitions {
			if (got.Partition == p) != (len(got.RecordBatches) > 0) {
				t.Errorf("partition %d has %d bytes after a record in %d", got.Partition, len(got.RecordBatches), p)
			}
		}
		offsets[p]++
	}
	if reads, lists := h.reads.Load()-reads, h.lists.Load()-lists; reads+lists != 0 {
		t.Errorf("a consumer at the end cost %d reads and %d lists", reads, lists)
	}
}

// TestPeerK11RestoreReadsEveryProduce: opening a partition reads its manifest and the tail, not an object per request.
func TestPeerK11RestoreReadsEveryProduce(t *testing.T) {
	b, h := startHooked(t)
	c := dial(t, b.kafka)
	c.createTopic("t", 1)
	const requests = 500
	puts := h.puts.Load()
	for range requests {
		wantCode(t, "produce", c.produce("t", 0, batchOf("a")).ErrorCode, protocol.CodeNone)
	}
	if n := h.puts.Load() - puts; n < requests {
		t.Errorf("%d PUTs for %d acknowledged requests: the test tests nothing", n, requests)
	}
	b.shutdown()
	reads := h.reads.Load()
	b.start()
	if got := latest(dial(t, b.kafka), "t", 0); got != requests {
		t.Errorf("%d records, want %d", got, requests)
	}
	if n := h.reads.Load() - reads; n > requests/10 {
		t.Errorf("%d reads to open what %d requests wrote", n, requests)
	}
}

// TestPeerK12SilentFallbackToMemory: a bucket or an etcd that cannot be reached ends the start with words.
func TestPeerK12SilentFallbackToMemory(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "any")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "any")
	etcd := proctest.FreeAddress(t)
	checkRefused(t, startRefusal{"cluster", "flag --cluster", "etcd at " + etcd + " does not answer", "check that etcd runs"}, "--cluster", "etcd://"+etcd+"/test")
	checkRefused(t, startRefusal{"bucket", "flag --bucket", "does not answer", "can be reached"}, "--bucket", "s3://b?endpoint=http://"+proctest.FreeAddress(t))
}

// TestPeerK14EveryPodIsBrokerZero: two brokers that were given no id do not both own everything: the second is refused.
func TestPeerK14EveryPodIsBrokerZero(t *testing.T) {
	etcd := startEtcd(t)
	shared := []string{"--cluster", etcd.url(), "--bucket", "file://" + t.TempDir()}
	b := startBroker(t, shared...)
	c := dial(t, b.kafka)
	c.createTopic("t", 1)
	checkRefused(t, startRefusal{"broker-id", "flag --broker-id", "broker 1 already runs at " + b.kafka, "--broker-id"}, append(shared, "--broker-id", "1")...)
	wantCode(t, "produce to the first", c.produce("t", 0, batchOf("a")).ErrorCode, protocol.CodeNone)
	startBroker(t, shared...) // without an id it gets one that nobody has
	waitFor(t, "two brokers with two ids", func() bool {
		return len(ask[*kmsg.MetadataResponse](c, metadataRequest(12, "t")).Brokers) == 2
	})
}

// TestPeerK15RecoveryThatWaitsForTraffic: produce goes on while etcd is away, and what needs etcd works by itself afterwards.
func TestPeerK15RecoveryThatWaitsForTraffic(t *testing.T) {
	etcd := startEtcd(t)
	b := startBroker(t, "--cluster", etcd.url(), "--bucket", "file://"+t.TempDir())
	c := dial(t, b.kafka)
	c.createTopic("t", 1)
	etcd.stop()
	for range 3 {
		wantCode(t, "produce while etcd is away", c.produce("t", 0, batchOf("a")).ErrorCode, protocol.CodeNone)
	}
	etcd.start()
	c.createTopic("later", 1)
	wantCode(t, "produce afterwards", c.produce("later", 0, batchOf("a")).ErrorCode, protocol.CodeNone)
}

// TestPeerK16ProduceIsNotValidated: what is damaged, old, too large or more than one batch is refused and not stored.
func TestPeerK16ProduceIsNotValidated(t *testing.T) {
	b := startBroker(t)
	c := dial(t, b.kafka)
	c.createTopic("t", 1, "max.message.bytes", "1000")
	damaged, old := batchOf("a"), batchOf("a")
	damaged[len(damaged)-1] ^= 1
	old[16] = 1
	for _, tc := range []struct {
		what  string
		batch []byte
		want  protocol.ErrorCode
	}{
		{"damaged", damaged, protocol.CodeCorruptMessage},
		{"format 1", resealed(old), protocol.CodeInvalidRecord},
		{"too large", batchOf(string(make([]byte, 2000))), protocol.CodeMessageTooLarge},
		{"two batches", append(batchOf("a"), batchOf("b")...), protocol.CodeInvalidRecord},
	} {
		wantCode(t, tc.what, c.produce("t", 0, tc.batch).ErrorCode, tc.want)
	}
	checkLog(t, c, "t", 0)
}

// TestPeerK18IdentityIsTheClientID: a client id gives nobody a right, and nobody is told that access rules hold.
func TestPeerK18IdentityIsTheClientID(t *testing.T) {
	b := startBroker(t)
	for _, name := range []string{"admin", "User:admin", "raw", ""} {
		c := dial(t, b.kafka)
		c.Name = name
		create := kmsg.NewPtrCreateACLsRequest()
		create.Version = 3
		acl := kmsg.NewCreateACLsRequestCreation()
		acl.ResourceType, acl.ResourceName, acl.Principal, acl.Host, acl.Operation, acl.PermissionType = 2, "t", "User:"+name, "*", 3, 3
		create.Creations = append(create.Creations, acl)
		wantCode(t, "create an access rule as "+name, ask[*kmsg.CreateACLsResponse](c, create).Results[0].ErrorCode, protocol.CodeSecurityDisabled)
	}
}

// TestPeerN3ProducersSerialiseOnMetadata: idempotent producers share slots, and none of their batches needs etcd.
func TestPeerN3ProducersSerialiseOnMetadata(t *testing.T) {
	etcd := startEtcd(t)
	b, h := startHooked(t, "--cluster", etcd.url(), "--bucket", "file://"+t.TempDir())
	const producers, rounds = 40, 5
	dial(t, b.kafka).createTopic("t", 1)
	var conns []*rawClient
	var ids []int64
	for range producers {
		c := dial(t, b.kafka)
		conns, ids = append(conns, c), append(ids, initProducer(c))
	}
	etcd.stop()
	puts := h.puts.Load()
	h.onPut(func(ctx context.Context, _ string, _ []byte, next func() error) error {
		select { // as far away as an object store is
		case <-time.After(250 * time.Millisecond):
			return next()
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	var all sync.WaitGroup
	for i, c := range conns {
		all.Go(func() {
			for round := range int32(rounds) {
				if p := c.produce("t", 0, withProducer(batchOf("a"), ids[i], 0, round)); p.ErrorCode != 0 {
					t.Errorf("producer %d, batch %d: code %d", i, round, p.ErrorCode)
				}
			}
		})
	}
	all.Wait()
	if n := h.puts.Load() - puts; n > producers*rounds/2 {
		t.Errorf("%d PUTs for %d batches of %d producers", n, producers*rounds, producers)
	}
	if got := latest(conns[0], "t", 0); got != producers*rounds {
		t.Errorf("%d records, want %d", got, producers*rounds)
	}
}

// TestPeerN4ReadsListThePartition: neither Fetch nor ListOffsets lists objects, and times are those of records.
func TestPeerN4ReadsListThePartition(t *testing.T) {
	b, h := startHooked(t)
	c := dial(t, b.kafka)
	c.createTopic("t", 1)
	for i := range int64(20) {
		c.produce("t", 0, conformance.BatchAt(1000+i))
	}
	b.restart(t)
	c = dial(t, b.kafka)
	lists := h.lists.Load()
	for _, tc := range []struct{ at, want int64 }{{earliestOffset, 0}, {latestOffset, 20}, {1007, 7}, {0, 0}} {
		if got := listed(c, listRequest("t", 0, tc.at)).Offset; got != tc.want {
			t.Errorf("%d is at offset %d, want %d", tc.at, got, tc.want)
		}
	}
	if got := len(batchesOf(t, fetched(c, fetchRequest(12, "t", protocol.TopicID{}, 0, 0)).RecordBatches)); got != 20 {
		t.Errorf("%d batches, want 20", got)
	}
	if n := h.lists.Load() - lists; n != 0 {
		t.Errorf("%d lists to read", n)
	}
}

// TestPeerN5ReadCommittedSeesAbortedData: without transactions no batch of one is stored, by whatever way it comes.
func TestPeerN5ReadCommittedSeesAbortedData(t *testing.T) {
	b := startBroker(t)
	c := dial(t, b.kafka)
	c.createTopic("t", 1)
	id := initProducer(c)
	unnamed := produceRequest(11, "t", 0, transactional(withProducer(batchOf("aborted"), id, 0, 0)))
	wantCode(t, "without a transactional id", ask[*kmsg.ProduceResponse](c, unnamed).Topics[0].Partitions[0].ErrorCode, protocol.CodeTransactionalIDAuthorizationFailed)
	named := produceRequest(11, "t", 0, transactional(withProducer(batchOf("aborted"), id, 0, 0)))
	named.TransactionID = kmsg.StringPtr("tx")
	wantCode(t, "with one", ask[*kmsg.ProduceResponse](c, named).Topics[0].Partitions[0].ErrorCode, protocol.CodeInvalidTxnState)
	wantCode(t, "a good one", c.produce("t", 0, batchOf("committed")).ErrorCode, protocol.CodeNone)
	req := fetchRequest(12, "t", protocol.TopicID{}, 0, 0)
	req.IsolationLevel = 1
	if p := fetched(c, req); p.AbortedTransactions == nil || len(p.AbortedTransactions) != 0 || p.LastStableOffset != 1 {
		t.Errorf("aborted transactions %v, last stable offset %d", p.AbortedTransactions, p.LastStableOffset)
	}
	checkLog(t, c, "t", 0, "committed")
}

// TestPeerN6RequestsThatOnlyClaim: DeleteRecords deletes; what is not done is refused and not said to be done.
func TestPeerN6RequestsThatOnlyClaim(t *testing.T) {
	b := startBroker(t)
	c := dial(t, b.kafka)
	c.createTopic("t", 1)
	c.produce("t", 0, batchOf("a", "b", "c"))
	if got := deletedRecords(c, "t", 0, 2); got.ErrorCode != 0 || got.LowWatermark != 2 {
		t.Errorf("code %d, low watermark %d", got.ErrorCode, got.LowWatermark)
	}
	wantCode(t, "fetch what was deleted", fetched(c, fetchRequest(12, "t", protocol.TopicID{}, 0, 1)).ErrorCode, protocol.CodeOffsetOutOfRange)
	describe := kmsg.NewPtrDescribeACLsRequest()
	describe.Version, describe.ResourceType, describe.Operation, describe.PermissionType = 3, 1, 1, 1
	wantCode(t, "access rules", ask[*kmsg.DescribeACLsResponse](c, describe).ErrorCode, protocol.CodeSecurityDisabled)
	scram := dial(t, b.kafka)
	scram.send(kmsg.NewPtrAlterUserSCRAMCredentialsRequest())
	scram.checkClosed()
}

// TestPeerAutoMQ13LogDeletedUnderAReader: the log of a life that has ended is read on where records lie in it.
func TestPeerAutoMQ13LogDeletedUnderAReader(t *testing.T) {
	b, h := startHooked(t)
	c := dial(t, b.kafka)
	c.createTopic("t", 1)
	var want []string
	for i := range 3 {
		value := fmt.Sprint("life-", i)
		wantCode(t, "produce", c.produce("t", 0, batchOf(value)).ErrorCode, protocol.CodeNone)
		want = append(want, value)
		b.restart(t) // seals the log, writes a manifest and trims
		c = dial(t, b.kafka)
	}
	checkLog(t, c, "t", 0, want...)
	if n := h.deletes.Load(); n != 0 {
		t.Errorf("%d objects were deleted", n)
	}
}

// TestPeerAutoMQ15FetchMissesTheAcknowledgement: a fetch and the produce that it waits for, at once: whichever comes first,
// the fetch does not wait for its time.
func TestPeerAutoMQ15FetchMissesTheAcknowledgement(t *testing.T) {
	b := startBroker(t)
	reader, writer := dial(t, b.kafka), dial(t, b.kafka)
	reader.createTopic("t", 1)
	for offset := range int64(200) {
		req := pollAll("t", offset)
		asked := time.Now()
		await := sendProduce(writer, "t", 0, -1, batchOf("a"))
		corr := reader.send(req)
		p := answer[*kmsg.FetchResponse](reader, req, corr).Topics[0].Partitions[0]
		if took := time.Since(asked); took > longPollHalf || len(p.RecordBatches) == 0 || p.HighWatermark != offset+1 {
			t.Fatalf("record %d: %d bytes, high watermark %d, after %v", offset, len(p.RecordBatches), p.HighWatermark, took)
		}
		wantCode(t, "produce", await().ErrorCode, protocol.CodeNone)
	}
}
