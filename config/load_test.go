package config

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func load(files map[string]string, env []string, args ...string) (*Config, error) {
	return Load(Input{Args: args, Env: env, WorkDir: "/w", ReadFile: func(name string) ([]byte, error) {
		text, ok := files[name]
		if !ok {
			return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
		}
		return []byte(text), nil
	}})
}

func TestDefaults(t *testing.T) {
	c, err := load(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if c.Listen != "127.0.0.1:9092" || c.HTTP != "127.0.0.1:9644" || c.DataDir != "/w/broker-data" || c.BrokerID != -1 ||
		c.Bucket != "file:///w/broker-data/bucket" || !c.Cluster.Embedded() || c.Cluster.Name != EmbeddedName || c.MemoryBytes != 512<<20 {
		t.Errorf("got %+v", c)
	}
}

func TestPrecedence(t *testing.T) {
	files := map[string]string{
		"/w/b.yaml":       "rack: yaml\nkafka:\n  num.partitions: 3\n  log.cleanup.policy: [compact, delete]\n",
		"/etc/server.pro": "# as people have it\nnum.partitions=4\nmessage.max.bytes = 5\nbroker.rack=properties\nbroker.id=7\nzookeeper.connect=z\n",
	}
	args := []string{"--config", "b.yaml", "--kafka-properties=/etc/server.pro"}
	tests := []struct {
		name                     string
		env                      []string
		args                     []string
		rack, rackSource         string
		partitions, partitionSrc string
	}{
		{"files", nil, nil, "yaml", "b.yaml line 1", "3", "b.yaml line 3"},
		{"environment", []string{"BROKER_RACK=env", `BROKER_KAFKA=num.partitions=2,log.cleanup.policy=compact\,delete`}, nil, "env", "environment BROKER_RACK", "2", "environment BROKER_KAFKA num.partitions"},
		{"flags", []string{"BROKER_RACK=env", "BROKER_KAFKA=num.partitions=2"}, []string{"--rack", "flag", "--kafka", "num.partitions=8", "--kafka", "num.partitions=9"}, "flag", "flag --rack", "9", "flag --kafka num.partitions"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, err := load(files, tt.env, append(tt.args, args...)...)
			if err != nil {
				t.Fatal(err)
			}
			got := []string{c.Rack, c.Source("rack"), c.Kafka["num.partitions"], c.Source("kafka.num.partitions"), c.Kafka["message.max.bytes"]}
			if tt.name == "files" {
				if c.BrokerID != 7 || c.Source("broker-id") != "server.pro line 5" {
					t.Errorf("broker id %d from %s", c.BrokerID, c.Source("broker-id"))
				}
			}
			if d := cmp.Diff([]string{tt.rack, tt.rackSource, tt.partitions, tt.partitionSrc, "5"}, got); d != "" {
				t.Errorf("-want +got:\n%s", d)
			}
			if c.Kafka["log.cleanup.policy"] != "compact,delete" || c.Kafka["broker.rack"] != tt.rack {
				t.Errorf("Kafka's settings are %v", c.Kafka)
			}
			if d := cmp.Diff([]string{"zookeeper.connect"}, c.Meaningless()); d != "" {
				t.Errorf("meaningless: %s", d)
			}
		})
	}
}

func TestProblemsSayWhatWhereAndHow(t *testing.T) {
	tests := []struct {
		name string
		yaml string
		env  []string
		args []string
		want string // what, with its source
	}{
		{name: "unknown yaml key", yaml: "\nlisen: x\n", want: "lisen (set by b.yaml line 2): unknown setting; did you mean listen?"},
		{name: "yaml key twice", yaml: "rack: a\nrack: b\n", want: "rack (set by b.yaml line 2): it is given in line 1 already"},
		{name: "yaml kafka key twice", yaml: "kafka:\n  num.partitions: 1\n  num.partitions: 1\n", want: "num.partitions (set by b.yaml line 3): it is given in line 2 already"},
		{name: "yaml nested kafka", yaml: "kafka:\n  num:\n    partitions: 1\n", want: "kafka.num (set by b.yaml line 2): a block stands where a value belongs"},
		{name: "yaml list", yaml: "rack: [a]\n", want: "rack (set by b.yaml line 1): a list or a block stands where a value belongs"},
		{name: "yaml no mapping", yaml: "- a\n", want: "config (set by b.yaml line 1): this is not a block of settings"},
		{name: "yaml two documents", yaml: "rack: a\n---\nrack: b\n", want: "config (set by flag --config): there is a second YAML document"},
		{name: "yaml in yaml", yaml: "config: a\n", want: "config (set by b.yaml line 1): unknown setting"},
		{name: "yaml syntax", yaml: "a: b: c\n", want: "config (set by flag --config): mapping values are not allowed in this context"},
		{name: "unknown kafka key", yaml: "kafka:\n  num.partition: 1\n", want: "kafka.num.partition (set by b.yaml line 2): unknown Kafka setting num.partition; did you mean num.partitions?"},
		{name: "bad kafka value", args: []string{"--kafka", "num.partitions=0"}, want: "kafka.num.partitions (set by flag --kafka num.partitions): Invalid value 0 for configuration num.partitions: Value must be at least 1"},
		{name: "no pair", env: []string{"BROKER_KAFKA=abc"}, want: `kafka (set by environment BROKER_KAFKA): "abc" is not name=value`},
		{name: "near variable", env: []string{"BROKER_LISTN=x"}, want: "BROKER_LISTN (set by environment): unknown variable; did you mean BROKER_LISTEN?"},
		{name: "cluster", args: []string{"--cluster", "http://x"}, want: "cluster (set by flag --cluster): this is no etcd:// URL"},
		{name: "cluster name", args: []string{"--cluster", "etcd://h:1"}, want: "cluster (set by flag --cluster): the cluster's name is missing after the hosts"},
		{name: "cluster port", args: []string{"--cluster", "etcd://h/x"}, want: `cluster (set by flag --cluster): etcd endpoint "h": "h" is not host:port`},
		{name: "bucket", args: []string{"--bucket", "mem:"}, want: "bucket (set by flag --bucket): this is no s3:// or file:/// URL"},
		{name: "port", env: []string{"BROKER_LISTEN=a:70000"}, want: `listen (set by environment BROKER_LISTEN): "70000" is not a port from 0 to 65535`},
		{name: "wildcard", args: []string{"--listen", ":9092"}, want: "advertise (set by default): clients must be told an address, and listen is :9092 (flag --listen)"},
		{name: "advertise wildcard", args: []string{"--advertise", "0.0.0.0:1"}, want: `advertise (set by flag --advertise): clients cannot connect to the host "0.0.0.0"`},
		{name: "same port", args: []string{"--http", "127.0.0.1:9092"}, want: "http (set by flag --http): 127.0.0.1:9092 is the address of listen too (default)"},
		{name: "memory", args: []string{"--memory", "1MiB"}, want: "memory (set by flag --memory): 1MiB is too little"},
		{name: "flush interval", args: []string{"--flush-interval", "5"}, want: `flush-interval (set by flag --flush-interval): "5" is not a time from 1ms to 10s`},
		{name: "write profile", args: []string{"--write-profile", "cheap"}, want: `write-profile (set by flag --write-profile): "cheap" is not a profile`},
		{name: "puts", args: []string{"--puts-per-second", "NaN"}, want: `puts-per-second (set by flag --puts-per-second): "NaN" is not a number of writes per second`},
		{name: "log level", args: []string{"--log-level", "loud"}, want: `log-level (set by flag --log-level): "loud" is not a log level`},
		{name: "broker id", args: []string{"--broker-id", "-2"}, want: `broker-id (set by flag --broker-id): "-2" is not a broker id`},
		{name: "missing file", args: []string{"--kafka-properties", "x"}, want: "kafka-properties (set by flag --kafka-properties): open /w/x: file does not exist"},
		{name: "sasl listener", args: []string{"--kafka", "listeners=SASL_SSL://h:1"}, want: "kafka.listeners (set by flag --kafka listeners): listener SASL_SSL://h:1 wants SASL_SSL, and TLS and SASL are not supported yet"},
		{name: "two listeners", args: []string{"--kafka", "listeners=A://h:1,B://h:2", "--kafka", "listener.security.protocol.map=A:PLAINTEXT,B:PLAINTEXT"}, want: "kafka.listeners (set by flag --kafka listeners): 2 listeners for clients are not supported yet"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			args := tt.args
			if tt.yaml != "" {
				args = append(args, "--config", "b.yaml")
			}
			_, err := load(map[string]string{"/w/b.yaml": tt.yaml}, tt.env, args...)
			var p *Problem
			if !errors.As(err, &p) {
				t.Fatalf("got %v, want a Problem", err)
			}
			what, _, _ := strings.Cut(p.Error(), "\n")
			if !strings.HasPrefix(what, tt.want) || p.Mend == "" {
				t.Errorf("\n got %s\nwant %s", p, tt.want)
			}
		})
	}
}

func TestAllProblemsAreTold(t *testing.T) {
	_, err := load(nil, nil, "--listen", "a", "--http", "b", "--kafka", "nope=1")
	for _, want := range []string{"listen (", "http (", "kafka.nope ("} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not tell of %q", err, want)
		}
	}
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{{"--lisen", "x"}, {"--listen"}, {"x"}, {"--"}, {"--rack", "a", "--rack", "b"}} {
		if _, err := load(nil, nil, args...); !errors.Is(err, ErrUsage) {
			t.Errorf("%v: %v, want ErrUsage", args, err)
		}
	}
}

func TestListenersOfServerProperties(t *testing.T) {
	const stock = "process.roles=broker,controller\nnode.id=1\nlisteners=PLAINTEXT://:9192,CONTROLLER://:9193\n" +
		"advertised.listeners=PLAINTEXT://localhost:9192,CONTROLLER://localhost:9193\ncontroller.listener.names=CONTROLLER\n" +
		"listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT\n"
	c, err := load(map[string]string{"/w/s": stock}, nil, "--kafka-properties", "s")
	if err != nil {
		t.Fatal(err)
	}
	if c.Listen != ":9192" || c.Advertise != "localhost:9192" || c.BrokerID != 1 {
		t.Errorf("got %+v", c)
	}
	c, err = load(map[string]string{"/w/s": stock}, nil, "--kafka-properties", "s", "--listen", "127.0.0.1:1", "--broker-id", "5")
	if err != nil {
		t.Fatal(err)
	}
	if c.Listen != "127.0.0.1:1" || c.BrokerID != 5 || c.Kafka["listeners"] != "PLAINTEXT://127.0.0.1:1" || c.Kafka["node.id"] != "5" {
		t.Errorf("the broker's own settings do not win: %+v", c)
	}
}

func TestKubernetesServiceVariablesAreIgnored(t *testing.T) {
	if _, err := load(nil, []string{"BROKER_SERVICE_HOST=1", "BROKER_PORT=tcp://1:2", "BROKER_PORT_9092_TCP=x", "BROKER_URL=amqp://x"}); err != nil {
		t.Error(err)
	}
}

func TestSecretsAreHidden(t *testing.T) {
	c, err := load(nil, nil, "--bucket", "s3://u:hunter2@b/p?secret-key=hunter2&region=eu", "--kafka", "ssl.key.password=hunter2", "--kafka", "listener.name.x.ssl.key.password=hunter2")
	if err != nil {
		t.Fatal(err)
	}
	if text := fmt.Sprint(c.Explain()); strings.Contains(text, "hunter2") || !strings.Contains(text, "region=eu") {
		t.Errorf("shown: %s", text)
	}
	_, err = load(nil, nil, "--bucket", "gs://u:hunter2@b", "--cluster", "etcd://u:hunter2@h:1/x")
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("shown: %v", err)
	}
}

var rewrite = flag.Bool("rewrite", false, "write what is expected into documents instead of comparing")

// TestConfigurationDocument holds the table of settings in the documentation to the code.
func TestConfigurationDocument(t *testing.T) {
	const document, begin, end = "../docs/CONFIGURATION.md", "<!-- generated: broker settings -->\n", "<!-- end of settings -->\n"
	text, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(text), begin)
	old, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no %q ... %q", document, begin, end)
	}
	want := "\n| flag and YAML key | environment | default | meaning |\n|---|---|---|---|\n"
	for _, s := range Settings() {
		want += fmt.Sprintf("| `%s` | `%s` | %s | %s |\n", s.Key, s.Env, s.Default, s.Meaning)
	}
	want += "\n"
	if old == want {
		return
	}
	if !*rewrite {
		t.Fatalf("%s is out of date; run go test ./config -run %s -rewrite", document, t.Name())
	}
	if err := os.WriteFile(document, []byte(before+begin+want+end+after), 0o644); err != nil {
		t.Fatal(err)
	}
}
