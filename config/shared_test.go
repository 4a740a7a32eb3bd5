package config

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestToShare(t *testing.T) {
	c, err := load(nil, []string{"BROKER_KAFKA=num.partitions=4"}, external, "--bucket", "s3://b/p?region=eu", "--kafka", "log.retention.ms= 5")
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.ToShare()
	want := Shared{"s3://b/p?region=eu", map[string]string{"num.partitions": "4", "log.retention.ms": "5"}}
	if d := cmp.Diff(want, got); d != "" || err != nil {
		t.Errorf("%v, -want +got:\n%s", err, d)
	}
}

func TestWhatIsNotShared(t *testing.T) {
	for name, tt := range map[string]struct {
		args []string
		want string
	}{
		"secret in the URL": {[]string{"--bucket", "s3://u:hunter2@b"}, "bucket (set by flag --bucket): a URL with a secret is not kept in etcd"},
		"an id":             {[]string{"--kafka", "node.id=3"}, "kafka.node.id (set by flag --kafka node.id): this cannot be the same for all brokers"},
		"a password":        {[]string{"--kafka", "ssl.key.password=hunter2"}, "kafka.ssl.key.password (set by flag --kafka ssl.key.password): secrets"},
		"of a listener":     {[]string{"--kafka", "listener.name.x.ssl.key.password=hunter2"}, "kafka.listener.name.x.ssl.key.password (set by"},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := load(nil, nil, append(tt.args, external)...)
			if err != nil {
				t.Fatal(err)
			}
			if _, err = c.ToShare(); err == nil || !strings.HasPrefix(err.Error(), tt.want) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("\n got %v\nwant %s", err, tt.want)
			}
		})
	}
}

func TestWithShared(t *testing.T) {
	stored := &Shared{"s3://b/p?region=eu&endpoint=http://h:1", map[string]string{"num.partitions": "4", "log.retention.ms": "5", "compression.type": "lz4"}}
	alone, err := load(nil, nil, external)
	if err != nil {
		t.Fatal(err)
	}
	if alone.Bucket != "" {
		t.Errorf("the bucket is %q before etcd was asked", alone.Bucket)
	}
	c, err := alone.WithShared(stored)
	if err != nil {
		t.Fatal(err)
	}
	if c.Bucket != stored.Bucket || c.Source("bucket") != "broker cluster init" || c.Kafka["num.partitions"] != "4" ||
		c.Source("kafka.num.partitions") != "broker cluster init" {
		t.Errorf("got %+v", c)
	}
	if alone.Bucket != "" || len(alone.Kafka) != 1 || alone.Source("bucket") != "default" {
		t.Errorf("the settings before have changed: %+v", alone)
	}

	own, err := load(nil, nil, external, "--bucket", "s3://b/p/?endpoint=http://h:1&region=eu", "--kafka", "num.partitions=7", "--kafka", "log.retention.hours=1")
	if err != nil {
		t.Fatal(err)
	}
	if c, err = own.WithShared(stored); err != nil {
		t.Fatal(err)
	}
	_, shadowed := c.Kafka["log.retention.ms"]
	if c.Kafka["num.partitions"] != "7" || shadowed || c.Kafka["compression.type"] != "lz4" || c.Source("bucket") != "flag --bucket" {
		t.Errorf("the broker's own settings do not win: %v", c.Explain())
	}
}

func TestWithSharedRefuses(t *testing.T) {
	const name = "cluster etcd://h:1/x"
	for what, tt := range map[string]struct {
		args   []string
		stored *Shared
		want   string
	}{
		"another bucket": {[]string{"--bucket", "s3://a"}, &Shared{Bucket: "s3://b"}, "bucket (set by flag --bucket): s3://a is not the bucket of the " + name + ", which is s3://b\n  remove this setting"},
		"nothing":        {nil, nil, "bucket (set by default): the " + name + " has no settings in etcd, and no bucket is given\n  set the cluster up once: broker cluster init --cluster etcd://h:1/x --bucket"},
		"bad value":      {nil, &Shared{"s3://b", map[string]string{"num.partitions": "0"}}, "kafka.num.partitions (set by broker cluster init): Invalid value 0"},
	} {
		t.Run(what, func(t *testing.T) {
			c, err := load(nil, nil, append(tt.args, external)...)
			if err != nil {
				t.Fatal(err)
			}
			if _, err = c.WithShared(tt.stored); err == nil || !strings.HasPrefix(err.Error(), tt.want) {
				t.Errorf("\n got %v\nwant %s", err, tt.want)
			}
		})
	}
}

func TestDifferences(t *testing.T) {
	a := Shared{"s3://a", map[string]string{"x": "1", "y": "2"}}
	got := a.Differences(Shared{"s3://b", map[string]string{"y": "3", "z": "4"}})
	want := []Difference{{"bucket", "s3://a", "s3://b"}, {"kafka.x", "1", ""}, {"kafka.y", "2", "3"}, {"kafka.z", "", "4"}}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	if got := a.Differences(a); got != nil {
		t.Errorf("the same differs in %v", got)
	}
}
