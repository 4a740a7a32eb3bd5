package kafkaconfig

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func p(s string) *string { return &s }

func TestM10Apply(t *testing.T) {
	current := map[string]string{"cleanup.policy": "compact", "retention.ms": "5"}
	tests := []struct {
		name    string
		ops     []Op
		want    map[string]string
		kind    Kind
		message string
	}{
		{name: "set", ops: []Op{{"retention.ms", Set, p(" +6")}}, want: map[string]string{"cleanup.policy": "compact", "retention.ms": " +6"}},
		{name: "delete", ops: []Op{{"retention.ms", Delete, nil}}, want: map[string]string{"cleanup.policy": "compact"}},
		{name: "delete unset and unknown", ops: []Op{{"segment.ms", Delete, nil}, {"nope", Delete, nil}}, want: current},
		{name: "append", ops: []Op{{"cleanup.policy", Append, p("delete")}}, want: map[string]string{"cleanup.policy": "compact,delete", "retention.ms": "5"}},
		{name: "append present", ops: []Op{{"cleanup.policy", Append, p("compact")}}, want: current},
		{
			name: "append to default", ops: []Op{{"cleanup.policy", Delete, nil}, {"leader.replication.throttled.replicas", Append, p("0:1")}},
			want: map[string]string{"retention.ms": "5", "leader.replication.throttled.replicas": "0:1"},
		},
		{name: "subtract", ops: []Op{{"cleanup.policy", Subtract, p("compact,delete")}}, want: map[string]string{"cleanup.policy": "", "retention.ms": "5"}},
		{name: "append to a number", ops: []Op{{"retention.ms", Append, p("6")}}, kind: InvalidConfig, message: "Can't APPEND to key retention.ms because its type is not LIST."},
		{name: "subtract unknown", ops: []Op{{"nope", Subtract, p("6")}}, kind: InvalidConfig, message: "Can't SUBTRACT to key nope because its type is not LIST."},
		{name: "null", ops: []Op{{"a", Set, nil}, {"b", Append, nil}}, kind: InvalidRequest, message: "Null value not supported for : a, b"},
		{name: "twice", ops: []Op{{"a", Set, p("1")}, {"a", Delete, nil}}, kind: InvalidRequest, message: "Error due to duplicate config keys"},
		{name: "unknown operation", ops: []Op{{"a", 7, p("1")}}, kind: UnknownOp, message: "unknown operation 7 for a"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Apply(TopicScope, tt.ops, current)
			var refused *Error
			if errors.As(err, &refused) {
				if tt.want != nil || refused.Kind != tt.kind || refused.Message != tt.message {
					t.Fatalf("refused with %d %q, want %d %q", refused.Kind, refused.Message, tt.kind, tt.message)
				}
				return
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Errorf("overrides (-want +got):\n%s", d)
			}
		})
	}
	if d := cmp.Diff(map[string]string{"cleanup.policy": "compact", "retention.ms": "5"}, current); d != "" {
		t.Errorf("current was changed:\n%s", d)
	}
	got, err := Apply(TopicScope, []Op{{"cleanup.policy", Append, p("compact")}}, nil)
	if err != nil || got["cleanup.policy"] != "delete,compact" {
		t.Errorf("append to an unset key gives %q, %v; want its default first", got["cleanup.policy"], err)
	}
}

func TestM9ValidateTogether(t *testing.T) {
	set := map[string]string{"min.compaction.lag.ms": "50", "max.compaction.lag.ms": "40"}
	const want = "conflict topic config setting min.compaction.lag.ms (50) > max.compaction.lag.ms (40)"
	if err := ValidateTopicSet(set, Layers{}); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	static := Layers{Static: map[string]string{"log.cleaner.max.compaction.lag.ms": "40"}}
	if err := ValidateTopicSet(map[string]string{"min.compaction.lag.ms": "50"}, static); err == nil {
		t.Error("an override above the broker's own maximum was accepted")
	}
	set["max.compaction.lag.ms"] = "50"
	if err := ValidateTopicSet(set, Layers{}); err != nil {
		t.Errorf("equal lags: %v", err)
	}
	if err := ValidateTopic("retention.ms", nil); err == nil {
		t.Error("a null value was accepted")
	}
}

func TestValidateBroker(t *testing.T) {
	tests := []struct {
		name           string
		clusterDefault bool
		changed        map[string]string
		want           string
	}{
		{name: "fine", changed: map[string]string{"message.max.bytes": "5", "unknown": "x", "listener.name.x.ssl.keystore.type": "PEM"}},
		{name: "read-only", changed: map[string]string{"num.partitions": "3", "log.retention.hours": "4"}, want: "Cannot update these configs dynamically: [log.retention.hours, num.partitions]"},
		{name: "unprefixed", changed: map[string]string{"ssl.keystore.password": "x"}, want: "These security configs can be dynamically updated only per-listener using the listener prefix: [ssl.keystore.password]"},
		{name: "per broker", clusterDefault: true, changed: map[string]string{"listeners": "x"}, want: "Cannot update these configs at default cluster level, broker id must be specified: [listeners]"},
		{name: "bad value", changed: map[string]string{"message.max.bytes": "x"}, want: "Invalid value x for configuration message.max.bytes: Not a number of type INT"},
		{name: "bad override", changed: map[string]string{"max.connections.per.ip.overrides": "a:b"}, want: "Invalid value a:b for configuration max.connections.per.ip.overrides: want host:limit,host:limit"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := ""
			var refused *Error
			if err := ValidateBroker(tt.clusterDefault, tt.changed, tt.changed); errors.As(err, &refused) {
				got = refused.Message
				if refused.Kind != InvalidRequest {
					t.Errorf("kind %d, want InvalidRequest", refused.Kind)
				}
			}
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestValidateStatic(t *testing.T) {
	for name, want := range map[string]string{
		"num.partition":  "unknown Kafka setting num.partition; did you mean num.partitions?",
		"mesage.max.byt": "unknown Kafka setting mesage.max.byt; did you mean message.max.bytes?",
		"zzz":            "unknown Kafka setting zzz",
	} {
		if err := ValidateStatic(name, "1"); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	err := ValidateStatic("delegation.token.secret.key", "s3cret")
	if err != nil {
		t.Error(err)
	}
}

func TestResolvePrefersTheNearestLayer(t *testing.T) {
	l := Layers{
		Static:         map[string]string{"log.retention.hours": "1", "log.retention.minutes": "2", "message.max.bytes": "10", "log.segment.bytes": "2000000"},
		ClusterDefault: map[string]string{"message.max.bytes": "20", "log.message.timestamp.type": "LogAppendTime"},
		Broker:         map[string]string{"message.max.bytes": "30", "compression.type": "zstd"},
	}
	got := Resolve(map[string]string{"cleanup.policy": "compact, delete", "min.cleanable.dirty.ratio": "broken"}, l)
	want := Resolve(nil, Layers{})
	want.Cleanup, want.RetentionMs, want.MaxMessageBytes, want.SegmentBytes = Cleanup{true, true}, 120_000, 30, 2_000_000
	want.TimestampType, want.Compression = LogAppendTime, Zstd
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	l.Static["log.retention.ms"] = "-1"
	if got := Resolve(map[string]string{"internal.segment.bytes": "7", "cleanup.policy": ""}, l); got.RetentionMs != -1 || got.SegmentBytes != 7 || got.Cleanup != (Cleanup{}) {
		t.Errorf("got %+v", got)
	}
}

func TestResolveBroker(t *testing.T) {
	got := ResolveBroker(Layers{Static: map[string]string{
		"auto.create.topics.enable": "FALSE", "offsets.retention.minutes": "2", "max.connections.per.ip.overrides": "10.0.0.1:5, ::1:7",
		"connections.max.idle.ms": "9223372036854775807",
	}})
	want := BrokerSettings{
		NumPartitions: 1, DefaultReplicationFactor: 1, DeleteTopics: true,
		GroupInitialRebalanceDelay: 3 * time.Second, GroupMinSessionTimeout: 6 * time.Second, GroupMaxSessionTimeout: 30 * time.Minute,
		GroupMaxSize: 1<<31 - 1, OffsetsRetention: 2 * time.Minute, OffsetsRetentionCheck: 10 * time.Minute, OffsetsPartitions: 50,
		OffsetMetadataMax: 4096, RequestMaxBytes: 100 << 20, FetchMaxBytes: 55 << 20, FetchSessions: 1000,
		ConnectionsMaxIdle: maxDuration, MaxConnections: 1<<31 - 1, MaxConnectionsPerIP: 1<<31 - 1,
		ConnectionsPerIPByAddr: map[string]int{"10.0.0.1": 5, "::1": 7}, ProducerIDExpiration: 24 * time.Hour,
		LogInitialDelay: 30 * time.Second, RetentionCheck: 5 * time.Minute, CleanerEnabled: true, CleanerBackoff: 15 * time.Second,
		CleanerDedupeBytes: 128 << 20, OffsetsSegment: 100 << 20,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}

func TestSensitiveValuesAreHidden(t *testing.T) {
	l := Layers{Static: map[string]string{"ssl.key.password": "hunter2"}, Broker: map[string]string{"my.plugin.password": "hunter2"}}
	for _, e := range DescribeBroker(l, []string{"ssl.key.password", "my.plugin.password"}) {
		if !e.Sensitive || e.Value != nil || e.Synonyms[0].Value != nil {
			t.Errorf("%s is shown", e.Name)
		}
	}
	k := &Key{Name: "x", Type: Password, check: oneOf("a")}
	if _, err := k.parse("hunter2"); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("%v shows the secret", err)
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{"", " 1 ", "+5", "1e9", "a,b", "1:2", "true", "\x00", "0x1p-2", "::1:7"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		for _, k := range append(TopicKeys(), BrokerKeys()...) {
			v, err := k.parse(value)
			if err != nil {
				continue
			}
			if again, err := k.parse(v.text); err != nil || again.text != v.text {
				t.Errorf("%s: %q reads as %q, which reads as %q, %v", k.Name, value, v.text, again.text, err)
			}
		}
	})
}
