package broker

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/coordinator/group"
	"github.com/tidemill/tidemill/objectstore"
	"github.com/tidemill/tidemill/protocol"
)

// TestCommitsWhileStalled: clients commit offsets again and again while nothing can be stored. As much of that as has a share of the memory
// waits in the log, and the rest is refused at once.
func TestCommitsWhileStalled(t *testing.T) {
	const clients, attempts, partitions = 60, 5, 20
	const size = 4000 // of each record, about
	var g *gate
	b := startBrokerOn(t, func(below objectstore.Store) objectstore.Store { g = newGate(below); return g }, "--memory", "64MiB")
	c := dial(t, b.kafka)
	c.createTopic("t", partitions)
	wantCode(t, "before", committed(c, "g", "t", 1), protocol.CodeNone)
	reopen := g.shut()
	defer reopen()
	dial(t, b.kafka).send(produceRequest(11, "t", 0, batchOf("what the log waits for")))
	waitFor(t, "readiness to end", func() bool { return b.httpStatus("/readyz") == http.StatusServiceUnavailable })

	appended := func() int64 {
		l, ok := b.broker.offsetsLog(group.ShardOf("g", 50))
		if !ok {
			t.Fatal("the group's partition is not open")
		}
		return l.State().EndOffset
	}
	before := appended()
	metadata := strings.Repeat("m", size)
	var all sync.WaitGroup
	begun := time.Now()
	for range clients {
		client := dial(t, b.kafka).warm()
		all.Go(func() {
			for range attempts {
				resp := ask[*kmsg.OffsetCommitResponse](client, commitOfAll("g", "t", partitions, metadata))
				for _, p := range resp.Topics[0].Partitions {
					wantCode(t, "commit", p.ErrorCode, protocol.CodeCoordinatorNotAvailable)
				}
			}
		})
	}
	all.Wait()
	n, most := appended()-before, int64(64<<20*commitShare/100/size+2*partitions)
	t.Logf("%d of %d records wait in the log; their commits were refused within %v", n, clients*attempts*partitions, time.Since(begun))
	if n < most/2 || n > most {
		t.Errorf("%d records wait in the log, want about %d", n, most)
	}
	reopen()
	waitFor(t, "readiness to return", func() bool { return b.httpStatus("/readyz") == http.StatusOK })
	wantCode(t, "after", committed(c, "g", "t", 2), protocol.CodeNone)
}

func commitOfAll(group, topic string, partitions int, metadata string) *kmsg.OffsetCommitRequest {
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Version, req.Group, req.Generation = 8, group, -1
	t := kmsg.OffsetCommitRequestTopic{Topic: topic}
	for i := range partitions {
		p := kmsg.NewOffsetCommitRequestTopicPartition()
		p.Partition, p.Offset, p.LeaderEpoch, p.Metadata = int32(i), 1, -1, &metadata
		t.Partitions = append(t.Partitions, p)
	}
	req.Topics = append(req.Topics, t)
	return req
}
