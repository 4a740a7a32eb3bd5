package broker

import (
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/protocol"
)

// TestA9OtherLeader: a broker that does not lead says so, and who does where the version can (KIP-951). It never takes the
// records.
func TestA9OtherLeader(t *testing.T) {
	etcd := startEtcd(t)
	bucket := "file://" + t.TempDir()
	shared := []string{"--cluster", etcd.url(), "--bucket", bucket}
	leader := startBroker(t, append(shared, "--broker-id", "1")...)
	id := dial(t, leader.kafka).createTopic("t", 1)
	other := startBroker(t, append(shared, "--broker-id", "2")...)
	c := dial(t, other.kafka)
	waitFor(t, "both brokers to know each other", func() bool {
		return len(ask[*kmsg.MetadataResponse](c, metadataRequest(12, "t")).Brokers) == 2
	})
	meta := ask[*kmsg.MetadataResponse](c, metadataRequest(12, "t"))
	if p := meta.Topics[0].Partitions[0]; p.Leader != 1 {
		t.Fatalf("the leader is %d", p.Leader)
	}
	for version := int16(9); version <= 11; version++ {
		resp := ask[*kmsg.ProduceResponse](c, produceRequest(version, "t", 0, batchOf("a")))
		p := resp.Topics[0].Partitions[0]
		wantCode(t, "produce", p.ErrorCode, protocol.CodeNotLeaderOrFollower)
		if version < 10 {
			continue
		}
		if p.CurrentLeader.LeaderID != 1 || len(resp.Brokers) != 1 || fmt.Sprintf("%s:%d", resp.Brokers[0].Host, resp.Brokers[0].Port) != leader.kafka {
			t.Errorf("produce v%d: leader %d, brokers %+v", version, p.CurrentLeader.LeaderID, resp.Brokers)
		}
	}
	for version := int16(15); version <= 16; version++ {
		resp := ask[*kmsg.FetchResponse](c, fetchRequest(version, "", id, 0, 0))
		p := resp.Topics[0].Partitions[0]
		wantCode(t, "fetch", p.ErrorCode, protocol.CodeNotLeaderOrFollower)
		if told := p.CurrentLeader.LeaderID == 1 && len(resp.Brokers) == 1; told != (version >= 16) {
			t.Errorf("fetch v%d: leader %d, brokers %+v", version, p.CurrentLeader.LeaderID, resp.Brokers)
		}
	}
	wantCode(t, "list offsets", listed(c, listRequest("t", 0, latestOffset)).ErrorCode, protocol.CodeNotLeaderOrFollower)
	wantCode(t, "epoch end", ask[*kmsg.OffsetForLeaderEpochResponse](c, epochRequest(4, "t", 0, 0, -1)).Topics[0].Partitions[0].ErrorCode, protocol.CodeNotLeaderOrFollower)
	if got := listed(dial(t, leader.kafka), listRequest("t", 0, latestOffset)).Offset; got != 0 {
		t.Errorf("the leader has %d records, want none", got)
	}
}
