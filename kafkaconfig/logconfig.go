package kafkaconfig

import "slices"

// Cleanup is cleanup.policy; neither means that records are kept for ever (KIP-1161).
type Cleanup struct {
	Delete  bool
	Compact bool
}

// TimestampType is message.timestamp.type, numbered as in the batch header's attribute bit.
type TimestampType int8

// The timestamp types.
const (
	CreateTime    TimestampType = 0
	LogAppendTime TimestampType = 1
)

// Compression is compression.type. Values from NoCompression on are the codec numbers of a batch header.
type Compression int8

// The compression types.
const (
	ProducerCompression Compression = -1 // keep what the producer chose
	NoCompression       Compression = 0
	Gzip                Compression = 1
	Snappy              Compression = 2
	LZ4                 Compression = 3
	Zstd                Compression = 4
)

var compressions = map[string]Compression{
	"producer": ProducerCompression, "uncompressed": NoCompression, "gzip": Gzip, "snappy": Snappy, "lz4": LZ4, "zstd": Zstd,
}

// LogConfig is what holds for a topic, in Kafka's units: times in milliseconds, sizes in bytes, -1 for no limit.
type LogConfig struct {
	Cleanup              Cleanup
	RetentionMs          int64
	RetentionBytes       int64
	DeleteRetentionMs    int64
	MinCompactionLagMs   int64
	MaxCompactionLagMs   int64
	MinCleanableRatio    float64
	SegmentBytes         int64
	SegmentMs            int64
	MaxMessageBytes      int64
	MinInsyncReplicas    int64
	TimestampType        TimestampType
	TimestampBeforeMaxMs int64
	TimestampAfterMaxMs  int64
	Compression          Compression
	GzipLevel            int
	LZ4Level             int
	ZstdLevel            int
}

// Resolve returns what holds for a topic with the given overrides.
func Resolve(topic map[string]string, l Layers) LogConfig {
	num := func(name string) int64 { return l.topicInt(name, topic) }
	policy := l.topicValue("cleanup.policy", topic).list
	c := LogConfig{
		Cleanup:              Cleanup{Delete: slices.Contains(policy, "delete"), Compact: slices.Contains(policy, "compact")},
		RetentionMs:          num("retention.ms"),
		RetentionBytes:       num("retention.bytes"),
		DeleteRetentionMs:    num("delete.retention.ms"),
		MinCompactionLagMs:   num("min.compaction.lag.ms"),
		MaxCompactionLagMs:   num("max.compaction.lag.ms"),
		MinCleanableRatio:    l.topicValue("min.cleanable.dirty.ratio", topic).number,
		SegmentBytes:         num("segment.bytes"),
		SegmentMs:            num("segment.ms"),
		MaxMessageBytes:      num("max.message.bytes"),
		MinInsyncReplicas:    num("min.insync.replicas"),
		TimestampBeforeMaxMs: num("message.timestamp.before.max.ms"),
		TimestampAfterMaxMs:  num("message.timestamp.after.max.ms"),
		Compression:          compressions[l.topicValue("compression.type", topic).text],
		GzipLevel:            int(num("compression.gzip.level")),
		LZ4Level:             int(num("compression.lz4.level")),
		ZstdLevel:            int(num("compression.zstd.level")),
	}
	if l.topicValue("message.timestamp.type", topic).text == "LogAppendTime" {
		c.TimestampType = LogAppendTime
	}
	if _, ok := topic["internal.segment.bytes"]; ok { // for tests of clients: below the floor of segment.bytes
		c.SegmentBytes = num("internal.segment.bytes")
	}
	return c
}
