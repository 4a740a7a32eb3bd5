package broker

import (
	"fmt"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/conformance"
	"github.com/tidemill/tidemill/protocol"
)

// TestBadInputConfigsRules: a value that its type does not have, of each type that Kafka has, for topics and for brokers.
func TestBadInputConfigsRules(t *testing.T) {
	a := besiege(t)
	c := a.dial(t)
	const topic, broker = kmsg.ConfigResourceTypeTopic, kmsg.ConfigResourceTypeBroker
	configs := func(kind kmsg.ConfigResourceType, name string) map[string]string {
		out := map[string]string{}
		for key, e := range conformance.DescribedAs(c.Client, kind, name) {
			out[key] = conformance.Shown(e)
		}
		return out
	}
	before, cluster := configs(topic, keptTopic), configs(broker, "")
	number := strings.Repeat("9", 10_000)
	tests := []struct {
		kind  string
		key   string // of a topic
		of    string // of the broker's default; "" for none
		value []string
	}{
		{"boolean", "preallocate", "log.preallocate", []string{"yes", "1", "", "null", "truefalse"}},
		{"int", "max.message.bytes", "message.max.bytes", []string{"many", "", "1.5", "1e6", "0x10", "2147483648", "-1", "1 000", number}},
		{"int out of range", "segment.bytes", "log.segment.bytes", []string{"0", "1048575", "-2147483649"}},
		{"long", "retention.ms", "log.retention.ms", []string{"soon", "", "1h", "9223372036854775808", "--1", number}},
		{"double", "min.cleanable.dirty.ratio", "log.cleaner.min.cleanable.ratio", []string{"half", "", "1.1", "-0.1", "0,5"}},
		{"list", "cleanup.policy", "log.cleanup.policy", []string{"shred", "compact,,delete", "compact delete", strings.Repeat("compact;", 1000)}},
		{"one of", "compression.type", "compression.type", []string{"brotli", "GZIP", "", "gzip,lz4"}},
		{"one of two", "message.timestamp.type", "log.message.timestamp.type", []string{"createtime", "0", ""}},
		{"level", "compression.gzip.level", "compression.gzip.level", []string{"0", "10", "best"}},
	}
	for _, tt := range tests {
		for i, value := range tt.value {
			shown := value
			if len(value) > 30 {
				shown = fmt.Sprintf("%s... of %d bytes", value[:8], len(value))
			}
			t.Run(fmt.Sprintf("%s %q", tt.kind, shown), func(t *testing.T) {
				create := createRequest(7, createSpec(fmt.Sprintf("bad-%d", i), 1, tt.key, value))
				got := ask[*kmsg.CreateTopicsResponse](c, create).Topics[0]
				wantCode(t, "CreateTopics", got.ErrorCode, protocol.CodeInvalidConfig)
				wantCode(t, "topic", altered(c, topic, keptTopic, alterSet(tt.key, value)), protocol.CodeInvalidConfig)
				if code := protocol.ErrorCode(altered(c, broker, "", alterSet(tt.of, value))); code != protocol.CodeInvalidRequest {
					wantCode(t, "broker", int16(code), protocol.CodeInvalidConfig)
				}
			})
		}
	}
	t.Run("unknown keys", func(t *testing.T) {
		for _, key := range []string{"no.such.key", "", "Retention.ms", strings.Repeat("k", 30_000)} {
			wantCode(t, "topic", altered(c, topic, keptTopic, alterSet(key, "1")), protocol.CodeInvalidConfig)
		}
	})
	t.Run("unknown resources", func(t *testing.T) {
		wantCode(t, "type 99", altered(c, 99, "x", alterSet("retention.ms", "1")), protocol.CodeInvalidRequest)
		wantCode(t, "broker 77", altered(c, broker, "77", alterSet("log.retention.ms", "1")), protocol.CodeInvalidRequest)
		wantCode(t, "broker x", altered(c, broker, "x", alterSet("log.retention.ms", "1")), protocol.CodeInvalidRequest)
	})
	for key, line := range configs(topic, keptTopic) {
		if before[key] != line {
			t.Errorf("%s was %s and is %s", key, before[key], line)
		}
	}
	if after := configs(broker, ""); len(after) != len(cluster) {
		t.Errorf("cluster defaults were %v and are %v", cluster, after)
	}
	a.checkUnharmed(t)
}
