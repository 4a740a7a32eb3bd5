// Package config is the broker's own settings: where each came from, and what is wrong with it.
//
// A setting is taken from the first place that has it: flag, BROKER_* environment variable, YAML file, default. Kafka's own
// broker settings travel beside, under Kafka's names, and are judged by package kafkaconfig.
//
// Invariants: a Config that Load returned is valid; every value knows its source; a secret is never printed.
package config

import (
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"
)

// Config is what the broker was told. It is not changed after Load.
type Config struct {
	Cluster   Cluster
	Etcd      Etcd
	Bucket    string // file:///absolute/path or s3://bucket/prefix?...; empty: the cluster's
	Listen    string // host:port of the Kafka listener
	Advertise string // host:port that clients are told; empty: what the listener is bound to
	HTTP      string // host:port of metrics, health and pprof
	DataDir   string // absolute
	BrokerID  int32  // -1: not given
	Rack      string

	MemoryBytes int64 // all caches and buffers together
	LogLevel    slog.Level
	LogFormat   string // text or json

	WALFlushInterval time.Duration
	WriteProfile     string  // one of the Profile constants
	PutsPerSecond    float64 // 0: the profile's

	Kafka map[string]string // Kafka's settings given at start: kafkaconfig.Layers.Static

	values []Value
	kafka  map[string]Value
}

// Cluster says where agreed state is kept.
type Cluster struct {
	Endpoints []string // host:port of etcd; empty: embedded in this process
	Name      string   // the prefix in etcd
}

// Embedded reports whether etcd runs inside this process.
func (c Cluster) Embedded() bool { return len(c.Endpoints) == 0 }

// String is the URL the cluster was given by.
func (c Cluster) String() string {
	if c.Embedded() {
		return ""
	}
	return "etcd://" + strings.Join(c.Endpoints, ",") + "/" + c.Name
}

// Value is one setting as it was given.
type Value struct {
	Key     string // as in YAML; Kafka's keys as kafka.<name>
	Text    string // secrets replaced
	Source  string // "flag --listen", "environment BROKER_LISTEN", "broker.yaml line 3", "broker cluster init", "default"
	Meaning string
}

// Source says where a setting was set, to be used in messages: "flag --bucket", "default". Kafka's are kafka.<name>.
func (c *Config) Source(key string) string {
	for _, v := range c.values {
		if v.Key == key {
			return v.Source
		}
	}
	return c.kafka[strings.TrimPrefix(key, "kafka.")].Source
}

// Explain lists all settings in the order of the documentation, then Kafka's settings by name.
func (c *Config) Explain() []Value {
	all := slices.Clone(c.values)
	for _, name := range slices.Sorted(maps.Keys(c.kafka)) {
		all = append(all, c.kafka[name])
	}
	return all
}

// A Problem is a setting that cannot be used: what, where it was set and how to mend it.
type Problem struct {
	Key    string
	Source string
	What   string
	Mend   string
}

func (p *Problem) Error() string {
	return fmt.Sprintf("%s (set by %s): %s\n  %s", p.Key, p.Source, p.What, p.Mend)
}
