package config

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"reflect"
	"slices"
	"strings"

	"github.com/tidemill/tidemill/kafkaconfig"
)

// Shared is what the brokers of a cluster have in common. "broker cluster init" keeps it in etcd, so that a broker needs to be
// told nothing but where etcd is.
type Shared struct {
	Bucket string
	// Kafka holds Kafka's settings, under Kafka's names. A broker's own settings win over them.
	Kafka map[string]string
}

// ofOneBroker are Kafka's settings that cannot be the same for two brokers.
var ofOneBroker = []string{"advertised.listeners", "broker.id", "broker.rack", "listeners", "node.id"}

// ToShare returns the bucket and Kafka's settings that were given, as a cluster's. The error joins a Problem for each that
// cannot be shared. The bucket is empty when none was given.
func (c *Config) ToShare() (Shared, error) {
	shared := Shared{Bucket: c.Bucket, Kafka: map[string]string{}}
	var problems []error
	refuse := func(key, what, mend string) {
		problems = append(problems, &Problem{key, c.Source(key), what, mend})
	}
	if redactURL(c.Bucket) != c.Bucket {
		refuse("bucket", "a URL with a secret is not kept in etcd", "take the secret out of the URL; S3 credentials belong in the environment of each broker")
	}
	for _, name := range slices.Sorted(maps.Keys(c.kafka)) {
		k, known := kafkaconfig.Lookup(kafkaconfig.BrokerScope, name)
		switch {
		case slices.Contains(ofOneBroker, name):
			refuse("kafka."+name, "this cannot be the same for all brokers", "give it to each broker, not to the cluster")
		case known && k.Sensitive(), !known && !kafkaconfig.Retired(name):
			refuse("kafka."+name, "secrets and settings of listeners are not kept in etcd", "give it to each broker, not to the cluster")
		default:
			shared.Kafka[name] = strings.TrimSpace(c.kafka[name].Text)
		}
	}
	return shared, errors.Join(problems...)
}

// Difference is a setting whose stored value differs from the one that was given.
type Difference struct {
	Key, Stored, Given string // empty: absent
}

// Differences lists what differs between a cluster's settings and those given: the bucket first, then Kafka's by name.
func (s Shared) Differences(given Shared) []Difference {
	var all []Difference
	if !SameBucket(s.Bucket, given.Bucket) {
		all = append(all, Difference{"bucket", redactURL(s.Bucket), redactURL(given.Bucket)})
	}
	names := slices.Collect(maps.Keys(s.Kafka))
	names = slices.AppendSeq(names, maps.Keys(given.Kafka))
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		if s.Kafka[name] != given.Kafka[name] {
			all = append(all, Difference{"kafka." + name, s.Kafka[name], given.Kafka[name]})
		}
	}
	return all
}

// SameBucket reports whether two URLs name one bucket and prefix, reached in the same way, however they are written.
func SameBucket(a, b string) bool {
	x, errX := url.Parse(a)
	y, errY := url.Parse(b)
	if errX != nil || errY != nil {
		return a == b
	}
	return x.Scheme == y.Scheme && x.Host == y.Host && strings.Trim(x.Path, "/") == strings.Trim(y.Path, "/") &&
		reflect.DeepEqual(x.Query(), y.Query())
}

// oneMeaning are Kafka's settings of which one stands for the others: who gives one has spoken about all of its row.
var oneMeaning = [][]string{
	{"log.retention.ms", "log.retention.minutes", "log.retention.hours"},
	{"log.roll.ms", "log.roll.hours"},
}

// gives reports whether Kafka's setting was given, under this name or another of the same meaning.
func (c *Config) gives(name string) bool {
	row := []string{name}
	for _, names := range oneMeaning {
		if slices.Contains(names, name) {
			row = names
		}
	}
	return slices.ContainsFunc(row, func(n string) bool { _, ok := c.kafka[n]; return ok })
}

// WithShared returns the settings completed by those of the cluster; c stays as it is. stored is nil for a cluster that has
// none. The error is a Problem: of a bucket that is not the cluster's, or of none at all.
func (c *Config) WithShared(stored *Shared) (*Config, error) {
	if stored == nil {
		if c.Bucket == "" {
			return nil, &Problem{"bucket", c.Source("bucket"), fmt.Sprintf("the cluster %s has no settings in etcd, and no bucket is given", c.Cluster),
				"set the cluster up once: broker cluster init --cluster " + c.Cluster.String() + " --bucket s3://bucket/prefix"}
		}
		return c, nil
	}
	if c.Bucket != "" && !SameBucket(c.Bucket, stored.Bucket) {
		return nil, &Problem{"bucket", c.Source("bucket"),
			fmt.Sprintf("%s is not the bucket of the cluster %s, which is %s", redactURL(c.Bucket), c.Cluster, redactURL(stored.Bucket)),
			"remove this setting, since a broker reads the bucket from etcd, or point --cluster at the cluster that is meant"}
	}
	full := *c
	full.values, full.kafka, full.Kafka = slices.Clone(c.values), maps.Clone(c.kafka), maps.Clone(c.Kafka)
	const source = "broker cluster init"
	if c.Bucket == "" {
		full.Bucket = stored.Bucket
		for i, v := range full.values {
			if v.Key == "bucket" {
				full.values[i].Text, full.values[i].Source = redactURL(stored.Bucket), source
			}
		}
	}
	s := &sources{kafka: map[string][]given{}}
	for name, text := range stored.Kafka {
		if !c.gives(name) {
			s.kafka[name] = []given{{text, source}}
		}
	}
	s.takeKafka(&full)
	return &full, errors.Join(s.problems...)
}
