package broker

import (
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/metadata"
	"github.com/tidemill/tidemill/protocol"
)

// DescribeLogDirs: v1-5
//
// The bucket is the one directory. It holds the partitions that this broker owns, so that a sum over brokers counts each
// byte once, and has no size of its own (M12).
func init() { handle(protocol.KeyDescribeLogDirs, (*Broker).describeLogDirs) }

func (b *Broker) describeLogDirs(c *call, req *kmsg.DescribeLogDirsRequest) {
	v := b.view()
	dir := kmsg.NewDescribeLogDirsResponseDir()
	dir.Dir, _, _ = strings.Cut(b.cfg.Bucket, "?")
	if req.Topics == nil {
		for _, name := range v.topicNames() {
			t := v.img.Topics[name]
			out := kmsg.DescribeLogDirsResponseDirTopic{Topic: name}
			for p := range t.Partitions {
				out.Partitions = b.appendSize(out.Partitions, t, int32(p))
			}
			dir.Topics = appendSized(dir.Topics, out)
		}
	}
	seen := map[protocol.PartitionID]bool{}
	for _, in := range req.Topics {
		t := v.img.Topics[in.Topic]
		if t == nil {
			continue
		}
		out := kmsg.DescribeLogDirsResponseDirTopic{Topic: in.Topic}
		for _, p := range in.Partitions {
			id := protocol.PartitionID{Topic: t.ID, Partition: p}
			if !seen[id] {
				seen[id] = true
				out.Partitions = b.appendSize(out.Partitions, t, p)
			}
		}
		dir.Topics = appendSized(dir.Topics, out)
	}
	resp := req.ResponseKind().(*kmsg.DescribeLogDirsResponse)
	resp.Dirs = append(resp.Dirs, dir)
	c.reply(resp)
}

// appendSize adds a partition if it is here.
func (b *Broker) appendSize(to []kmsg.DescribeLogDirsResponseDirTopicPartition, t *metadata.Topic, p int32) []kmsg.DescribeLogDirsResponseDirTopicPartition {
	l, ok := b.logs.Get(protocol.PartitionID{Topic: t.ID, Partition: p})
	if !ok {
		return to
	}
	return append(to, kmsg.DescribeLogDirsResponseDirTopicPartition{Partition: p, Size: l.SizeBytes()})
}

// appendSized adds a topic of which something is here.
func appendSized(to []kmsg.DescribeLogDirsResponseDirTopic, t kmsg.DescribeLogDirsResponseDirTopic) []kmsg.DescribeLogDirsResponseDirTopic {
	if len(t.Partitions) == 0 {
		return to
	}
	return append(to, t)
}
