package kafkaconfig

import (
	"strconv"
	"strings"
	"time"
)

// BrokerSettings are the broker keys that mean something here, resolved.
type BrokerSettings struct {
	AutoCreateTopics         bool
	NumPartitions            int32
	DefaultReplicationFactor int16
	DeleteTopics             bool

	GroupInitialRebalanceDelay time.Duration
	GroupMinSessionTimeout     time.Duration
	GroupMaxSessionTimeout     time.Duration
	GroupMaxSize               int

	OffsetsRetention      time.Duration
	OffsetsRetentionCheck time.Duration
	OffsetsPartitions     int32 // read once: when the topic is created
	OffsetMetadataMax     int

	RequestMaxBytes        int
	FetchMaxBytes          int
	FetchSessions          int
	ConnectionsMaxIdle     time.Duration // negative: no limit
	MaxConnections         int
	MaxConnectionsPerIP    int
	ConnectionsPerIPByAddr map[string]int // addresses or host names that have their own limit
	ProducerIDExpiration   time.Duration

	LogInitialDelay    time.Duration // before the first retention and compaction
	RetentionCheck     time.Duration
	CleanerEnabled     bool
	CleanerBackoff     time.Duration
	CleanerDedupeBytes int64
	OffsetsSegment     int64 // offsets.topic.segment.bytes
}

// ResolveBroker returns the settings that hold for a broker.
func ResolveBroker(l Layers) BrokerSettings {
	num := func(name string) int { return int(l.brokerInt(name)) }
	in := func(unit time.Duration, name string) time.Duration {
		n := l.brokerInt(name)
		if n > int64(maxDuration/unit) {
			return maxDuration
		}
		return time.Duration(n) * unit
	}
	perIP, _ := ParseConnectionOverrides(l.brokerValue("max.connections.per.ip.overrides").text)
	return BrokerSettings{
		AutoCreateTopics:         l.brokerValue("auto.create.topics.enable").flag,
		NumPartitions:            int32(num("num.partitions")),
		DefaultReplicationFactor: int16(num("default.replication.factor")),
		DeleteTopics:             l.brokerValue("delete.topic.enable").flag,

		GroupInitialRebalanceDelay: in(time.Millisecond, "group.initial.rebalance.delay.ms"),
		GroupMinSessionTimeout:     in(time.Millisecond, "group.min.session.timeout.ms"),
		GroupMaxSessionTimeout:     in(time.Millisecond, "group.max.session.timeout.ms"),
		GroupMaxSize:               num("group.max.size"),

		OffsetsRetention:      in(time.Minute, "offsets.retention.minutes"),
		OffsetsRetentionCheck: in(time.Millisecond, "offsets.retention.check.interval.ms"),
		OffsetsPartitions:     int32(num("offsets.topic.num.partitions")),
		OffsetMetadataMax:     num("offset.metadata.max.bytes"),

		RequestMaxBytes:        num("socket.request.max.bytes"),
		FetchMaxBytes:          num("fetch.max.bytes"),
		FetchSessions:          num("max.incremental.fetch.session.cache.slots"),
		ConnectionsMaxIdle:     in(time.Millisecond, "connections.max.idle.ms"),
		MaxConnections:         num("max.connections"),
		MaxConnectionsPerIP:    num("max.connections.per.ip"),
		ConnectionsPerIPByAddr: perIP,
		ProducerIDExpiration:   in(time.Millisecond, "producer.id.expiration.ms"),

		LogInitialDelay:    in(time.Millisecond, "log.initial.task.delay.ms"),
		RetentionCheck:     in(time.Millisecond, "log.retention.check.interval.ms"),
		CleanerEnabled:     l.brokerValue("log.cleaner.enable").flag,
		CleanerBackoff:     in(time.Millisecond, "log.cleaner.backoff.ms"),
		CleanerDedupeBytes: l.brokerInt("log.cleaner.dedupe.buffer.size"),
		OffsetsSegment:     l.brokerInt("offsets.topic.segment.bytes"),
	}
}

// maxDuration stands for times beyond what time.Duration holds (292 years).
const maxDuration = time.Duration(1<<63 - 1)

// ParseConnectionOverrides reads max.connections.per.ip.overrides: host:limit pairs, on commas; IPv6 addresses as they are.
func ParseConnectionOverrides(value string) (map[string]int, error) {
	limits := map[string]int{}
	for _, pair := range ParseList(value) {
		at := strings.LastIndexByte(pair, ':')
		limit := strings.TrimSpace(pair[at+1:])
		n, err := strconv.ParseUint(limit, 10, 31)
		if at <= 0 || err != nil {
			return nil, &Error{InvalidConfig, "Invalid value " + pair +
				" for configuration max.connections.per.ip.overrides: want host:limit,host:limit"}
		}
		limits[strings.Trim(pair[:at], "[]")] = int(n)
	}
	return limits, nil
}
