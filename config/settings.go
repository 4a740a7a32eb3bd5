package config

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// setting is one key that flags, environment and YAML share.
type setting struct {
	key     string
	def     string
	meaning string
	set     func(c *Config, text string) error // says what is wrong; nil for settings that Load itself reads
	mend    string                             // an example of a good value
}

// settings in the order of the documentation. Every key is a flag --key, an environment variable BROKER_KEY and a YAML key,
// but for config, which YAML cannot hold.
var settings = []setting{
	{"cluster", "", "where cluster state is kept: etcd://host:port,host:port/name, which must compact its history by itself; empty: etcd inside this process", setCluster, "write etcd://host1:2379,host2:2379/name, or leave it out to run etcd inside this process"},
	{"bucket", "", "where data is kept: s3://bucket/prefix?endpoint=&region=&path-style=true or file:///folder; empty: a folder in data-dir, or with cluster the one given to broker cluster init", setBucket, "write s3://bucket/prefix or file:///folder"},
	{"etcd-ca-file", "", "PEM file of the CA that signed etcd's certificate; with it, or a certificate, etcd is spoken to over TLS only", nil, "name a readable PEM file"},
	{"etcd-cert-file", "", "PEM file of this broker's certificate for etcd, read for each connection; needs etcd-key-file", nil, "name a readable PEM file"},
	{"etcd-key-file", "", "PEM file of the certificate's key", nil, "name a readable PEM file"},
	{"etcd-username", "", "user for an etcd with authentication", nil, ""},
	{"etcd-password", "", "its password; a flag is seen by all users of the machine, so better BROKER_ETCD_PASSWORD or a file", nil, ""},
	{"etcd-password-file", "", "file that holds the password", nil, "name a readable file"},
	{"listen", "127.0.0.1:9092", "address for Kafka clients", address(func(c *Config) *string { return &c.Listen }), "write host:port, for example 127.0.0.1:9092"},
	{"advertise", "", "address that Kafka clients are told to use; empty: listen", setAdvertise, "write the host:port that clients can reach, for example broker.example.org:9092"},
	{"http", "127.0.0.1:9644", "address of metrics, health checks and profiles", address(func(c *Config) *string { return &c.HTTP }), "write host:port, for example 127.0.0.1:9644"},
	{"data-dir", "broker-data", "folder of the embedded etcd, and of the bucket when none is given", nil, "name a folder that the broker may write to"},
	{"broker-id", "-1", "this broker's id; -1: 1, which suits a cluster of one broker", setBrokerID, "write a number from 0 to 2147483647, or -1"},
	{"rack", "", "this broker's zone, as clients know it", func(c *Config, s string) error { c.Rack = s; return nil }, ""},
	{"memory", "512MiB", "bytes for all buffers and caches together", setMemory, "write a size of at least 64MiB, for example 512MiB or 2GiB"},
	{"flush-interval", "100ms", "how long a batch waits for company while earlier writes are on their way", setFlushInterval, "write a time from 1ms to 10s, for example 100ms"},
	{"write-profile", "auto", "what object writes may cost: latency: some 24 a second, up to twice that where much is written; cost: about 3 a second, up to 8 MiB each; free: no limit; auto: latency on S3, free in a folder", setWriteProfile, "write auto, latency, cost or free"},
	{"puts-per-second", "0", "budget of object writes that are made early to save latency, in place of the profile's; 0: the profile's", setPuts, "write a number such as 20, or 0 for what the profile says"},
	{"log-level", "info", "debug, info, warn or error", setLogLevel, "write debug, info, warn or error"},
	{"log-format", "text", "text or json", setLogFormat, "write text or json"},
	{"config", "", "YAML file of settings", nil, "name a readable YAML file"},
	{"kafka", "", "Kafka's broker settings: name=value; the flag can be repeated", nil, "write name=value, for example num.partitions=4"},
	{"kafka-properties", "", "Kafka's server.properties", nil, "name a readable Java properties file"},
}

func envName(key string) string {
	return "BROKER_" + strings.ToUpper(strings.ReplaceAll(key, "-", "_"))
}

func settingByKey(key string) (setting, bool) {
	for _, s := range settings {
		if s.key == key {
			return s, true
		}
	}
	return setting{}, false
}

// EmbeddedName is the cluster name when etcd runs inside the process.
const EmbeddedName = "local"

func setCluster(c *Config, text string) error {
	if text == "" {
		c.Cluster = Cluster{Name: EmbeddedName}
		return nil
	}
	rest, ok := strings.CutPrefix(text, "etcd://")
	if !ok {
		return errors.New("this is no etcd:// URL")
	}
	if strings.ContainsAny(rest, "@?#") {
		return errors.New("user names, passwords and options are not supported in the URL")
	}
	hosts, name, _ := strings.Cut(rest, "/")
	if name == "" {
		return errors.New("the cluster's name is missing after the hosts")
	}
	if strings.Contains(name, "/") {
		return fmt.Errorf("the cluster's name %q has a slash", name)
	}
	for _, host := range strings.Split(hosts, ",") {
		if _, _, err := splitAddress(host); err != nil {
			return fmt.Errorf("etcd endpoint %q: %w", host, err)
		}
		c.Cluster.Endpoints = append(c.Cluster.Endpoints, host)
	}
	c.Cluster.Name = name
	return nil
}

func setBucket(c *Config, text string) error {
	if text == "" && !c.Cluster.Embedded() {
		c.Bucket = "" // the cluster's: WithShared
		return nil
	}
	if text == "" {
		text = "file://" + filepath.ToSlash(filepath.Join(c.DataDir, "bucket"))
	}
	if !strings.HasPrefix(text, "file:///") && !strings.HasPrefix(text, "s3://") {
		return errors.New("this is no s3:// or file:/// URL")
	}
	c.Bucket = text
	return nil
}

func address(field func(*Config) *string) func(*Config, string) error {
	return func(c *Config, text string) error {
		if _, _, err := splitAddress(text); err != nil {
			return err
		}
		*field(c) = text
		return nil
	}
}

func setAdvertise(c *Config, text string) error {
	if text == "" {
		return nil
	}
	host, port, err := splitAddress(text)
	switch {
	case err != nil:
		return err
	case host == "" || wildcard(host):
		return fmt.Errorf("clients cannot connect to the host %q", host)
	case port == 0:
		return errors.New("clients cannot connect to port 0")
	}
	c.Advertise = text
	return nil
}

func wildcard(host string) bool {
	ip := net.ParseIP(host)
	return ip != nil && ip.IsUnspecified()
}

func splitAddress(text string) (host string, port int, err error) {
	host, digits, err := net.SplitHostPort(text)
	if err != nil {
		return "", 0, fmt.Errorf("%q is not host:port", text)
	}
	n, err := strconv.ParseUint(digits, 10, 16)
	if err != nil {
		return "", 0, fmt.Errorf("%q is not a port from 0 to 65535", digits)
	}
	return host, int(n), nil
}

func setBrokerID(c *Config, text string) error {
	n, err := strconv.ParseInt(text, 10, 32)
	if err != nil || n < -1 {
		return fmt.Errorf("%q is not a broker id", text)
	}
	c.BrokerID = int32(n)
	return nil
}

// memoryMin leaves room for one slot in every buffer that holds one.
const memoryMin = 64 << 20

func setMemory(c *Config, text string) error {
	n, err := parseSize(text)
	if err != nil {
		return err
	}
	if n < memoryMin {
		return fmt.Errorf("%s is too little", text)
	}
	c.MemoryBytes = n
	return nil
}

var units = []struct {
	suffix string
	bytes  int64
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40}, {"B", 1}, {"", 1}}

func parseSize(text string) (int64, error) {
	for _, u := range units {
		digits, ok := strings.CutSuffix(text, u.suffix)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 64)
		if err != nil || n < 0 || n > (1<<62)/u.bytes {
			break
		}
		return n * u.bytes, nil
	}
	return 0, fmt.Errorf("%q is not a size", text)
}

func setFlushInterval(c *Config, text string) error {
	d, err := time.ParseDuration(text)
	if err != nil || d < time.Millisecond || d > 10*time.Second {
		return fmt.Errorf("%q is not a time from 1ms to 10s", text)
	}
	c.WALFlushInterval = d
	return nil
}

// What object writes may cost: see docs/decisions/0004-what-a-write-may-cost.md.
const (
	ProfileAuto    = "auto"
	ProfileLatency = "latency"
	ProfileCost    = "cost"
	ProfileFree    = "free"
)

func setWriteProfile(c *Config, text string) error {
	switch text {
	case ProfileAuto, ProfileLatency, ProfileCost, ProfileFree:
		c.WriteProfile = text
		return nil
	}
	return fmt.Errorf("%q is not a profile", text)
}

func setPuts(c *Config, text string) error {
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || !(f >= 0 && f <= 1e6) {
		return fmt.Errorf("%q is not a number of writes per second", text)
	}
	c.PutsPerSecond = f
	return nil
}

func setLogLevel(c *Config, text string) error {
	if c.LogLevel.UnmarshalText([]byte(text)) != nil || strings.ContainsAny(text, "+-") {
		c.LogLevel = slog.LevelInfo
		return fmt.Errorf("%q is not a log level", text)
	}
	return nil
}

func setLogFormat(c *Config, text string) error {
	if text != "text" && text != "json" {
		return fmt.Errorf("%q is not a log format", text)
	}
	c.LogFormat = text
	return nil
}

// Description is one setting as documentation shows it.
type Description struct {
	Key, Env, Default, Meaning string
}

// Settings lists all settings in the order of the documentation.
func Settings() []Description {
	all := make([]Description, len(settings))
	for i, s := range settings {
		all[i] = Description{s.key, envName(s.key), s.def, s.meaning}
	}
	return all
}
