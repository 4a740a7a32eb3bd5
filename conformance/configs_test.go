package conformance

import (
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/protocol"
)

// mustAlter changes configs and puts broker configs back when the test ends.
func mustAlter(t *testing.T, c *Client, kind kmsg.ConfigResourceType, name string, ops ...AlterOp) {
	t.Helper()
	WantCode(t, "alter "+name, Altered(c, kind, name, ops...), protocol.CodeNone)
	if kind == BrokerResource {
		t.Cleanup(func() {
			for _, op := range ops {
				Altered(c, kind, name, AlterOp{Name: op.Name, Op: OpDelete})
				WaitFor(t, op.Name+" to be as it was", func() bool {
					left, ok := DescribedAs(c, kind, name)[op.Name]
					return !ok || name != "" && left.Source != 2
				})
			}
		})
	}
}

func TestM9(t *testing.T) {
	c, n := begin(t)
	topic, node := n("t"), fmt.Sprint(target.node)
	c.CreateTopic(topic, 1, "retention.ms", "+5000", "cleanup.policy", "compact")
	mustAlter(t, c, BrokerResource, "", AlterSet("log.segment.bytes", "2097152"), AlterSet("message.max.bytes", "2000000"))
	mustAlter(t, c, BrokerResource, node, AlterSet("message.max.bytes", "3000000"))
	WaitFor(t, "the broker's own value", func() bool { // Kafka answers the change before it shows
		return *DescribedAs(c, BrokerResource, node, "message.max.bytes")["message.max.bytes"].Value == "3000000"
	})
	check := func(t *testing.T, got map[string]Described, want map[string]string) {
		t.Helper()
		for name, line := range want {
			if s := Shown(got[name]); s != line {
				t.Errorf("%s\ngot  %s\nwant %s", name, s, line)
			}
		}
	}
	t.Run("M9 topic", func(t *testing.T) {
		got := DescribedAs(c, TopicResource, topic)
		check(t, got, map[string]string{
			"retention.ms":      "5000 source=1 type=5 retention.ms=5000@1",
			"cleanup.policy":    "compact source=1 type=7 cleanup.policy=compact@1 log.cleanup.policy=delete@5",
			"max.message.bytes": "3000000 source=2 type=3 message.max.bytes=3000000@2 message.max.bytes=2000000@3 message.max.bytes=1048588@5",
			"segment.bytes":     "2097152 source=3 type=3 log.segment.bytes=2097152@3 log.segment.bytes=1073741824@5",
			"compression.type":  "producer source=5 type=2 compression.type=producer@5",
			"preallocate":       "false source=5 type=1 log.preallocate=false@5",
			"retention.bytes":   "-1 source=5 type=5 log.retention.bytes=-1@5",
		})
		if len(got) < 33 {
			t.Errorf("%d keys, Kafka has 33 or more (2.0.7)", len(got))
		}
		for name, e := range got {
			if e.ReadOnly || e.IsSensitive {
				t.Errorf("%s: read only %v, sensitive %v", name, e.ReadOnly, e.IsSensitive)
			}
		}
	})
	t.Run("M9 broker", func(t *testing.T) {
		check(t, DescribedAs(c, BrokerResource, node), map[string]string{
			"message.max.bytes":          "3000000 source=2 type=3 message.max.bytes=3000000@2 message.max.bytes=2000000@3 message.max.bytes=1048588@5",
			"log.segment.bytes":          "2097152 source=3 type=3 log.segment.bytes=2097152@3 log.segment.bytes=1073741824@5",
			"default.replication.factor": "1 source=5 type=3 default.replication.factor=1@5",
			"auto.create.topics.enable":  "true source=5 type=1 auto.create.topics.enable=true@5",
			"num.partitions":             "1 source=5 type=3 num.partitions=1@5",
		})
	})
	t.Run("M9 cluster default", func(t *testing.T) {
		got := DescribedAs(c, BrokerResource, "")
		check(t, got, map[string]string{
			"message.max.bytes": "2000000 source=3 type=3 message.max.bytes=2000000@3",
			"log.segment.bytes": "2097152 source=3 type=3 log.segment.bytes=2097152@3",
		})
		if len(got) > 3 { // Kafka sets min.insync.replicas itself
			t.Errorf("%d keys, want only those that are set", len(got))
		}
	})
	t.Run("M9 chosen keys", func(t *testing.T) {
		got := DescribedAs(c, TopicResource, topic, "retention.ms", "no.such.key")
		if len(got) != 1 {
			t.Errorf("%d keys, want 1", len(got))
		}
	})
	t.Run("M9 an empty list of keys", func(t *testing.T) {
		req := DescribeRequest(TopicResource, topic)
		req.Resources[0].ConfigNames = []string{}
		if n := len(Ask[*kmsg.DescribeConfigsResponse](c, req).Resources[0].Configs); n < 33 {
			t.Errorf("%d keys, want all", n)
		}
	})
	t.Run("M9 without synonyms", func(t *testing.T) {
		req := DescribeRequest(TopicResource, topic)
		req.IncludeSynonyms = false
		for _, e := range Ask[*kmsg.DescribeConfigsResponse](c, req).Resources[0].Configs {
			if len(e.ConfigSynonyms) > 0 {
				t.Errorf("%s has synonyms", e.Name)
			}
		}
	})
	for _, tc := range []struct {
		name     string
		kind     kmsg.ConfigResourceType
		resource string
		want     protocol.ErrorCode
	}{
		{"unknown topic", TopicResource, n("nope"), protocol.CodeUnknownTopicOrPartition},
		{"invalid topic", TopicResource, "a b", protocol.CodeInvalidTopicException},
		{"another broker", BrokerResource, fmt.Sprint(target.node + 1), protocol.CodeInvalidRequest},
		{"no broker id", BrokerResource, "one", protocol.CodeInvalidRequest},
		{"unknown kind", 99, "x", protocol.CodeInvalidRequest},
	} {
		t.Run("M9 "+tc.name, func(t *testing.T) {
			r := Ask[*kmsg.DescribeConfigsResponse](c, DescribeRequest(tc.kind, tc.resource)).Resources[0]
			WantCode(t, "describe", r.ErrorCode, tc.want)
		})
	}
}

func TestM10(t *testing.T) {
	c, n := begin(t)
	null := AlterOp{Name: "retention.ms", Op: OpSet}
	for i, tc := range []struct {
		name  string
		ops   []AlterOp
		want  protocol.ErrorCode
		value string // of cleanup.policy and retention.ms afterwards, which start as delete and 7
	}{
		{"M10 set", []AlterOp{AlterSet("retention.ms", "8")}, 0, "delete 8"},
		{"M10 set with spaces", []AlterOp{AlterSet("retention.ms", " 8 ")}, 0, "delete 8"},
		{"M10 delete", []AlterOp{{Name: "retention.ms", Op: OpDelete}}, 0, "delete 604800000"},
		{"M10 delete what is not set", []AlterOp{{Name: "segment.ms", Op: OpDelete}}, 0, "delete 7"},
		{"M10 delete an unknown key", []AlterOp{{Name: "no.such.key", Op: OpDelete}}, 0, "delete 7"},
		{"M10 append", []AlterOp{AlterOf(OpAppend, "cleanup.policy", "compact")}, 0, "delete,compact 7"},
		{"M10 append what is there", []AlterOp{AlterOf(OpAppend, "cleanup.policy", "delete")}, 0, "delete 7"},
		{"M10 subtract", []AlterOp{AlterOf(OpSubtract, "cleanup.policy", "delete")}, 0, " 7"},
		{"M10 subtract what is not there", []AlterOp{AlterOf(OpSubtract, "cleanup.policy", "compact")}, 0, "delete 7"},
		{"M10 append to no list", []AlterOp{AlterOf(OpAppend, "retention.ms", "1")}, protocol.CodeInvalidConfig, "delete 7"},
		{"M10 subtract from no list", []AlterOp{AlterOf(OpSubtract, "retention.ms", "1")}, protocol.CodeInvalidConfig, "delete 7"},
		{"M10 append what is no policy", []AlterOp{AlterOf(OpAppend, "cleanup.policy", "shred")}, protocol.CodeInvalidConfig, "delete 7"},
		{"M10 unknown key", []AlterOp{AlterSet("no.such.key", "1")}, protocol.CodeInvalidConfig, "delete 7"},
		{"M10 bad value", []AlterOp{AlterSet("retention.ms", "soon")}, protocol.CodeInvalidConfig, "delete 7"},
		{"M10 all or none", []AlterOp{AlterSet("cleanup.policy", "compact"), AlterSet("retention.ms", "soon")}, protocol.CodeInvalidConfig, "delete 7"},
		{"M10 null", []AlterOp{null}, protocol.CodeInvalidRequest, "delete 7"},
		{"M10 a key twice", []AlterOp{AlterSet("retention.ms", "1"), AlterSet("retention.ms", "2")}, protocol.CodeInvalidRequest, "delete 7"},
		{"M10 unknown operation", []AlterOp{AlterOf(9, "retention.ms", "1")}, protocol.CodeUnknownServerError, "delete 7"},
		{"M9 compaction lags crossed", []AlterOp{AlterSet("min.compaction.lag.ms", "9"), AlterSet("max.compaction.lag.ms", "8")}, protocol.CodeInvalidConfig, "delete 7"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			topic := n(fmt.Sprintf("t%d", i))
			c.CreateTopic(topic, 1, "cleanup.policy", "delete", "retention.ms", "7")
			validate := AlterRequest(TopicResource, topic, tc.ops...)
			validate.ValidateOnly = true
			WantCode(t, "validate only", Ask[*kmsg.IncrementalAlterConfigsResponse](c, validate).Resources[0].ErrorCode, tc.want)
			values := func() string {
				got := DescribedAs(c, TopicResource, topic)
				return *got["cleanup.policy"].Value + " " + *got["retention.ms"].Value
			}
			if got := values(); got != "delete 7" {
				t.Errorf("validation alone made it %q", got)
			}
			WantCode(t, "alter", Altered(c, TopicResource, topic, tc.ops...), tc.want)
			WaitFor(t, fmt.Sprintf("%q", tc.value), func() bool { return values() == tc.value }) // Kafka answers before it shows
		})
	}
	topic := n("t")
	c.CreateTopic(topic, 1)
	for _, tc := range []struct {
		name     string
		kind     kmsg.ConfigResourceType
		resource string
		op       AlterOp
		want     protocol.ErrorCode
	}{
		{"M10 unknown topic", TopicResource, n("nope"), AlterSet("retention.ms", "1"), protocol.CodeUnknownTopicOrPartition},
		{"M10 another broker", BrokerResource, fmt.Sprint(target.node + 1), AlterSet("message.max.bytes", "1000"), protocol.CodeInvalidRequest},
		{"M10 no broker id", BrokerResource, "one", AlterSet("message.max.bytes", "1000"), protocol.CodeInvalidRequest},
		{"M10 read-only broker key", BrokerResource, fmt.Sprint(target.node), AlterSet("log.dirs", "/x"), protocol.CodeInvalidRequest},
		{"M10 bad broker value", BrokerResource, "", AlterSet("message.max.bytes", "big"), protocol.CodeInvalidRequest},
		{"M10 unknown broker key", BrokerResource, "", AlterSet("no.such.key", "1"), protocol.CodeNone},
		{"M10 and away", BrokerResource, "", AlterOf(OpDelete, "no.such.key", ""), protocol.CodeNone},
		{"M10 unknown kind", 99, "x", AlterSet("a", "b"), protocol.CodeInvalidRequest},
	} {
		t.Run(tc.name, func(t *testing.T) {
			WantCode(t, "alter", Altered(c, tc.kind, tc.resource, tc.op), tc.want)
		})
	}
	t.Run("M10 a resource twice", func(t *testing.T) {
		req := AlterRequest(TopicResource, topic, AlterSet("retention.ms", "1"))
		req.Resources = append(req.Resources, req.Resources[0])
		for _, r := range Ask[*kmsg.IncrementalAlterConfigsResponse](c, req).Resources {
			WantCode(t, "twice", r.ErrorCode, protocol.CodeInvalidRequest)
		}
	})
}

// TestM10TakesEffect: what is altered soon holds.
func TestM10TakesEffect(t *testing.T) {
	c, n := begin(t)
	topic := n("t")
	c.CreateTopic(topic, 1)
	big := func(want protocol.ErrorCode) {
		t.Helper()
		WaitFor(t, "5000 bytes to be answered "+want.String(), func() bool { // Kafka's answer to the change comes before its effect
			return c.Produce(topic, 0, BatchOf(string(make([]byte, 5000)))).ErrorCode == int16(want)
		})
	}
	big(protocol.CodeNone)
	mustAlter(t, c, TopicResource, topic, AlterSet("max.message.bytes", "4000"))
	big(protocol.CodeMessageTooLarge)
	mustAlter(t, c, TopicResource, topic, AlterOf(OpDelete, "max.message.bytes", ""))
	big(protocol.CodeNone)
	mustAlter(t, c, BrokerResource, "", AlterSet("message.max.bytes", "3000"))
	big(protocol.CodeMessageTooLarge)
	mustAlter(t, c, BrokerResource, fmt.Sprint(target.node), AlterSet("message.max.bytes", "6000"))
	big(protocol.CodeNone)

	mustAlter(t, c, TopicResource, topic, AlterSet("retention.ms", "123456"), AlterSet("retention.bytes", "654321"), AlterSet("message.timestamp.type", "LogAppendTime"))
	WaitFor(t, "both retentions to be told", func() bool {
		got := DescribedAs(c, TopicResource, topic)
		return *got["retention.ms"].Value == "123456" && *got["retention.bytes"].Value == "654321"
	})
	WaitFor(t, "the timestamp type", func() bool { return c.Produce(topic, 0, BatchOf("a")).LogAppendTime > 0 })
}
