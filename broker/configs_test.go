package broker

import (
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/protocol"
)

const (
	topicResource  = kmsg.ConfigResourceTypeTopic
	brokerResource = kmsg.ConfigResourceTypeBroker
)

type described = kmsg.DescribeConfigsResponseResourceConfig

func describeRequest(kind kmsg.ConfigResourceType, name string, keys ...string) *kmsg.DescribeConfigsRequest {
	req := kmsg.NewPtrDescribeConfigsRequest()
	req.Version, req.IncludeSynonyms = 4, true
	req.Resources = []kmsg.DescribeConfigsRequestResource{{ResourceType: kind, ResourceName: name, ConfigNames: keys}}
	return req
}

// describedAs returns the configs of one resource by name.
func describedAs(c *rawClient, kind kmsg.ConfigResourceType, name string, keys ...string) map[string]described {
	c.t.Helper()
	r := ask[*kmsg.DescribeConfigsResponse](c, describeRequest(kind, name, keys...)).Resources[0]
	wantCode(c.t, "describe "+name, r.ErrorCode, protocol.CodeNone)
	out := map[string]described{}
	for _, e := range r.Configs {
		out[e.Name] = e
	}
	return out
}

// shown is value, source, type and synonyms in one line.
func shown(e described) string {
	text := func(v *string) string {
		if v == nil {
			return "null"
		}
		return *v
	}
	s := fmt.Sprintf("%s source=%d type=%d", text(e.Value), e.Source, e.ConfigType)
	for _, syn := range e.ConfigSynonyms {
		s += fmt.Sprintf(" %s=%s@%d", syn.Name, text(syn.Value), syn.Source)
	}
	return s
}

func altered(c *rawClient, kind kmsg.ConfigResourceType, name string, ops ...alterOp) int16 {
	c.t.Helper()
	return ask[*kmsg.IncrementalAlterConfigsResponse](c, alterRequest(kind, name, ops...)).Resources[0].ErrorCode
}

// mustAlter changes configs and puts broker configs back when the test ends.
func mustAlter(t *testing.T, c *rawClient, kind kmsg.ConfigResourceType, name string, ops ...alterOp) {
	t.Helper()
	wantCode(t, "alter "+name, altered(c, kind, name, ops...), protocol.CodeNone)
	if kind == brokerResource {
		t.Cleanup(func() {
			for _, op := range ops {
				altered(c, kind, name, alterOp{Name: op.Name, Op: opDelete})
			}
		})
	}
}

func TestM9Rules(t *testing.T) {
	b := serve(t)
	c := dial(t, b.kafka)
	c.createTopic("t", 1, "retention.ms", "+5000", "cleanup.policy", "compact")
	mustAlter(t, c, brokerResource, "", alterSet("log.segment.bytes", "2097152"), alterSet("message.max.bytes", "2000000"))
	mustAlter(t, c, brokerResource, "1", alterSet("message.max.bytes", "3000000"))
	waitFor(t, "the broker's own value", func() bool { // Kafka answers the change before it shows
		return *describedAs(c, brokerResource, "1", "message.max.bytes")["message.max.bytes"].Value == "3000000"
	})
	check := func(t *testing.T, got map[string]described, want map[string]string) {
		t.Helper()
		for name, line := range want {
			if s := shown(got[name]); s != line {
				t.Errorf("%s\ngot  %s\nwant %s", name, s, line)
			}
		}
	}
	t.Run("M9 topic", func(t *testing.T) {
		got := describedAs(c, topicResource, "t")
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
		check(t, describedAs(c, brokerResource, "1"), map[string]string{
			"message.max.bytes":          "3000000 source=2 type=3 message.max.bytes=3000000@2 message.max.bytes=2000000@3 message.max.bytes=1048588@5",
			"log.segment.bytes":          "2097152 source=3 type=3 log.segment.bytes=2097152@3 log.segment.bytes=1073741824@5",
			"default.replication.factor": "1 source=5 type=3 default.replication.factor=1@5",
			"auto.create.topics.enable":  "true source=5 type=1 auto.create.topics.enable=true@5",
			"num.partitions":             "1 source=5 type=3 num.partitions=1@5",
		})
	})
	t.Run("M9 cluster default", func(t *testing.T) {
		got := describedAs(c, brokerResource, "")
		check(t, got, map[string]string{
			"message.max.bytes": "2000000 source=3 type=3 message.max.bytes=2000000@3",
			"log.segment.bytes": "2097152 source=3 type=3 log.segment.bytes=2097152@3",
		})
		if len(got) != 2 && oracle == "" { // Kafka sets min.insync.replicas itself
			t.Errorf("%d keys, want only those that are set", len(got))
		}
	})
	t.Run("M9 chosen keys", func(t *testing.T) {
		got := describedAs(c, topicResource, "t", "retention.ms", "no.such.key")
		if len(got) != 1 {
			t.Errorf("%d keys, want 1", len(got))
		}
	})
	t.Run("M9 an empty list of keys", func(t *testing.T) {
		req := describeRequest(topicResource, "t")
		req.Resources[0].ConfigNames = []string{}
		if n := len(ask[*kmsg.DescribeConfigsResponse](c, req).Resources[0].Configs); n < 33 {
			t.Errorf("%d keys, want all", n)
		}
	})
	t.Run("M9 without synonyms", func(t *testing.T) {
		req := describeRequest(topicResource, "t")
		req.IncludeSynonyms = false
		for _, e := range ask[*kmsg.DescribeConfigsResponse](c, req).Resources[0].Configs {
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
		{"unknown topic", topicResource, "nope", protocol.CodeUnknownTopicOrPartition},
		{"invalid topic", topicResource, "a b", protocol.CodeInvalidTopicException},
		{"another broker", brokerResource, "2", protocol.CodeInvalidRequest},
		{"no broker id", brokerResource, "one", protocol.CodeInvalidRequest},
		{"unknown kind", 99, "x", protocol.CodeInvalidRequest},
	} {
		t.Run("M9 "+tc.name, func(t *testing.T) {
			r := ask[*kmsg.DescribeConfigsResponse](c, describeRequest(tc.kind, tc.resource)).Resources[0]
			wantCode(t, "describe", r.ErrorCode, tc.want)
		})
	}
}

func TestM10Rules(t *testing.T) {
	b := serve(t)
	c := dial(t, b.kafka)
	null := alterOp{Name: "retention.ms", Op: opSet}
	for i, tc := range []struct {
		name  string
		ops   []alterOp
		want  protocol.ErrorCode
		value string // of cleanup.policy and retention.ms afterwards, which start as delete and 7
	}{
		{"M10 set", []alterOp{alterSet("retention.ms", "8")}, 0, "delete 8"},
		{"M10 set with spaces", []alterOp{alterSet("retention.ms", " 8 ")}, 0, "delete 8"},
		{"M10 delete", []alterOp{{Name: "retention.ms", Op: opDelete}}, 0, "delete 604800000"},
		{"M10 delete what is not set", []alterOp{{Name: "segment.ms", Op: opDelete}}, 0, "delete 7"},
		{"M10 delete an unknown key", []alterOp{{Name: "no.such.key", Op: opDelete}}, 0, "delete 7"},
		{"M10 append", []alterOp{alterOf(opAppend, "cleanup.policy", "compact")}, 0, "delete,compact 7"},
		{"M10 append what is there", []alterOp{alterOf(opAppend, "cleanup.policy", "delete")}, 0, "delete 7"},
		{"M10 subtract", []alterOp{alterOf(opSubtract, "cleanup.policy", "delete")}, 0, " 7"},
		{"M10 subtract what is not there", []alterOp{alterOf(opSubtract, "cleanup.policy", "compact")}, 0, "delete 7"},
		{"M10 append to no list", []alterOp{alterOf(opAppend, "retention.ms", "1")}, protocol.CodeInvalidConfig, "delete 7"},
		{"M10 subtract from no list", []alterOp{alterOf(opSubtract, "retention.ms", "1")}, protocol.CodeInvalidConfig, "delete 7"},
		{"M10 append what is no policy", []alterOp{alterOf(opAppend, "cleanup.policy", "shred")}, protocol.CodeInvalidConfig, "delete 7"},
		{"M10 unknown key", []alterOp{alterSet("no.such.key", "1")}, protocol.CodeInvalidConfig, "delete 7"},
		{"M10 bad value", []alterOp{alterSet("retention.ms", "soon")}, protocol.CodeInvalidConfig, "delete 7"},
		{"M10 all or none", []alterOp{alterSet("cleanup.policy", "compact"), alterSet("retention.ms", "soon")}, protocol.CodeInvalidConfig, "delete 7"},
		{"M10 null", []alterOp{null}, protocol.CodeInvalidRequest, "delete 7"},
		{"M10 a key twice", []alterOp{alterSet("retention.ms", "1"), alterSet("retention.ms", "2")}, protocol.CodeInvalidRequest, "delete 7"},
		{"M10 unknown operation", []alterOp{alterOf(9, "retention.ms", "1")}, protocol.CodeUnknownServerError, "delete 7"},
		{"M9 compaction lags crossed", []alterOp{alterSet("min.compaction.lag.ms", "9"), alterSet("max.compaction.lag.ms", "8")}, protocol.CodeInvalidConfig, "delete 7"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			topic := fmt.Sprintf("t%d", i)
			c.createTopic(topic, 1, "cleanup.policy", "delete", "retention.ms", "7")
			validate := alterRequest(topicResource, topic, tc.ops...)
			validate.ValidateOnly = true
			wantCode(t, "validate only", ask[*kmsg.IncrementalAlterConfigsResponse](c, validate).Resources[0].ErrorCode, tc.want)
			values := func() string {
				got := describedAs(c, topicResource, topic)
				return *got["cleanup.policy"].Value + " " + *got["retention.ms"].Value
			}
			if got := values(); got != "delete 7" {
				t.Errorf("validation alone made it %q", got)
			}
			wantCode(t, "alter", altered(c, topicResource, topic, tc.ops...), tc.want)
			if got := values(); got != tc.value {
				t.Errorf("got %q, want %q", got, tc.value)
			}
		})
	}
	c.createTopic("t", 1)
	for _, tc := range []struct {
		name     string
		kind     kmsg.ConfigResourceType
		resource string
		op       alterOp
		want     protocol.ErrorCode
	}{
		{"M10 unknown topic", topicResource, "nope", alterSet("retention.ms", "1"), protocol.CodeUnknownTopicOrPartition},
		{"M10 another broker", brokerResource, "2", alterSet("message.max.bytes", "1000"), protocol.CodeInvalidRequest},
		{"M10 no broker id", brokerResource, "one", alterSet("message.max.bytes", "1000"), protocol.CodeInvalidRequest},
		{"M10 read-only broker key", brokerResource, "1", alterSet("log.dirs", "/x"), protocol.CodeInvalidRequest},
		{"M10 bad broker value", brokerResource, "", alterSet("message.max.bytes", "big"), protocol.CodeInvalidRequest},
		{"M10 unknown broker key", brokerResource, "", alterSet("no.such.key", "1"), protocol.CodeNone},
		{"M10 and away", brokerResource, "", alterOf(opDelete, "no.such.key", ""), protocol.CodeNone},
		{"M10 unknown kind", 99, "x", alterSet("a", "b"), protocol.CodeInvalidRequest},
	} {
		t.Run(tc.name, func(t *testing.T) {
			wantCode(t, "alter", altered(c, tc.kind, tc.resource, tc.op), tc.want)
		})
	}
	t.Run("M10 a resource twice", func(t *testing.T) {
		req := alterRequest(topicResource, "t", alterSet("retention.ms", "1"))
		req.Resources = append(req.Resources, req.Resources[0])
		for _, r := range ask[*kmsg.IncrementalAlterConfigsResponse](c, req).Resources {
			wantCode(t, "twice", r.ErrorCode, protocol.CodeInvalidRequest)
		}
	})
}

// TestDynamicConfigRules: what is altered holds for the next request.
func TestDynamicConfigRules(t *testing.T) {
	b := serve(t)
	c := dial(t, b.kafka)
	c.createTopic("t", 1)
	big := func(want protocol.ErrorCode) {
		t.Helper()
		if oracle != "" { // Kafka's answer to the change comes before its effect
			waitFor(t, want.String(), func() bool { return c.produce("t", 0, batchOf(string(make([]byte, 5000)))).ErrorCode == int16(want) })
		}
		wantCode(t, "5000 bytes", c.produce("t", 0, batchOf(string(make([]byte, 5000)))).ErrorCode, want)
	}
	big(protocol.CodeNone)
	mustAlter(t, c, topicResource, "t", alterSet("max.message.bytes", "4000"))
	big(protocol.CodeMessageTooLarge)
	mustAlter(t, c, topicResource, "t", alterOf(opDelete, "max.message.bytes", ""))
	big(protocol.CodeNone)
	mustAlter(t, c, brokerResource, "", alterSet("message.max.bytes", "3000"))
	big(protocol.CodeMessageTooLarge)
	mustAlter(t, c, brokerResource, "1", alterSet("message.max.bytes", "6000"))
	big(protocol.CodeNone)

	mustAlter(t, c, topicResource, "t", alterSet("retention.ms", "123456"), alterSet("retention.bytes", "654321"), alterSet("message.timestamp.type", "LogAppendTime"))
	got := describedAs(c, topicResource, "t")
	if *got["retention.ms"].Value != "123456" || *got["retention.bytes"].Value != "654321" {
		t.Errorf("retention %s ms, %s bytes", *got["retention.ms"].Value, *got["retention.bytes"].Value)
	}
	waitFor(t, "the timestamp type", func() bool { return c.produce("t", 0, batchOf("a")).LogAppendTime > 0 })
}

// TestConfigsAfterRestart: dynamic configs are cluster state; static ones are said to be static.
func TestConfigsAfterRestart(t *testing.T) {
	skipOracle(t, "it restarts the broker")
	b := startBroker(t, "--kafka", "log.retention.ms=111", "--kafka", "group.min.session.timeout.ms=7000", "--kafka", "group.max.session.timeout.ms=9000")
	c := dial(t, b.kafka)
	c.createTopic("t", 1, "segment.ms", "777")
	wantCode(t, "alter", altered(c, brokerResource, "", alterSet("message.max.bytes", "2000000")), protocol.CodeNone)
	b.restart(t)
	c = dial(t, b.kafka)
	got := describedAs(c, topicResource, "t")
	for name, want := range map[string]string{
		"segment.ms":        "777 source=1 type=5 segment.ms=777@1",
		"retention.ms":      "111 source=4 type=5 log.retention.ms=111@4 log.retention.hours=168@5",
		"max.message.bytes": "2000000 source=3 type=3 message.max.bytes=2000000@3 message.max.bytes=1048588@5",
	} {
		if s := shown(got[name]); s != want {
			t.Errorf("%s\ngot  %s\nwant %s", name, s, want)
		}
	}
	committed(c, "g", "t", 0)
	for timeout, want := range map[int32]protocol.ErrorCode{
		6999: protocol.CodeInvalidSessionTimeout, 9001: protocol.CodeInvalidSessionTimeout, 7000: protocol.CodeMemberIDRequired, 9000: protocol.CodeMemberIDRequired,
	} {
		join := kmsg.NewPtrJoinGroupRequest()
		join.Version, join.Group, join.ProtocolType, join.SessionTimeoutMillis, join.RebalanceTimeoutMillis = 5, "g", "test", timeout, 10_000
		join.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "p"}}
		wantCode(t, fmt.Sprintf("G0: session timeout of %d ms", timeout), ask[*kmsg.JoinGroupResponse](c, join).ErrorCode, want)
	}
}
