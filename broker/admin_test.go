package broker

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/conformance"
	"github.com/tidemill/tidemill/protocol"
)

// TestM12LogDirs: one directory with the sizes of the partitions that are here, each asked for or all.
func TestM12LogDirs(t *testing.T) {
	b := startBroker(t)
	c := dial(t, b.kafka)
	c.createTopic("full", 2)
	c.createTopic("void", 1)
	wantCode(t, "produce", c.produce("full", 1, batchOf("a")).ErrorCode, protocol.CodeNone)
	asked := []kmsg.DescribeLogDirsRequestTopic{
		{Topic: "full", Partitions: []int32{1, 1, 7, -1}}, {Topic: "absent", Partitions: []int32{0}}, {Topic: "void"}, {Topic: "full", Partitions: []int32{1}},
	}
	type sizes map[string]map[int32]bool // whether there are bytes
	for _, tt := range []struct {
		what   string
		topics []kmsg.DescribeLogDirsRequestTopic
		want   sizes
	}{
		{"all", nil, sizes{"full": {0: false, 1: true}, "void": {0: false}}},
		{"none", []kmsg.DescribeLogDirsRequestTopic{}, sizes{}},
		{"some", asked, sizes{"full": {1: true}}},
	} {
		for version := int16(1); version <= 5; version++ {
			req := kmsg.NewPtrDescribeLogDirsRequest()
			req.Version, req.Topics = version, tt.topics
			resp := ask[*kmsg.DescribeLogDirsResponse](c, req)
			if len(resp.Dirs) != 1 || resp.ErrorCode != 0 {
				t.Fatalf("%s v%d: %+v", tt.what, version, resp)
			}
			dir := resp.Dirs[0]
			if !strings.HasPrefix(dir.Dir, "file:///") || dir.ErrorCode != 0 || dir.TotalBytes != -1 || dir.UsableBytes != -1 {
				t.Errorf("%s v%d: %+v", tt.what, version, dir)
			}
			got := sizes{}
			for _, topic := range dir.Topics {
				got[topic.Topic] = map[int32]bool{}
				for _, p := range topic.Partitions {
					got[topic.Topic][p.Partition] = p.Size > 0
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("%s v%d (-want +got):\n%s", tt.what, version, diff)
			}
		}
	}
}

// TestNodeIDIsTold: a broker says which it is, also when its id was not given to it.
func TestNodeIDIsTold(t *testing.T) {
	c := dial(t, startBroker(t).kafka)
	got := conformance.DescribedAs(c.Client, conformance.BrokerResource, "1")
	for name, want := range map[string]string{"node.id": "1 source=4 type=3 node.id=1@4", "broker.id": "1 source=4 type=3 broker.id=1@4 broker.id=-1@5"} {
		if s := conformance.Shown(got[name]); s != want {
			t.Errorf("%s: got %s, want %s", name, s, want)
		}
	}
}

// TestProduceNamesPartitionOfRecordWithoutKey: Kafka's console producer prints this text and nothing else about the record.
func TestProduceNamesPartitionOfRecordWithoutKey(t *testing.T) {
	c := dial(t, startBroker(t).kafka)
	c.createTopic("compacted", 2, "cleanup.policy", "compact")
	p := c.produce("compacted", 1, batchOf("a"))
	const want = "Compacted topic cannot accept message without key in topic partition compacted-1"
	if len(p.ErrorRecords) != 1 || p.ErrorRecords[0].ErrorMessage == nil || *p.ErrorRecords[0].ErrorMessage != want {
		t.Errorf("got %+v, want %s", p.ErrorRecords, want)
	}
}
