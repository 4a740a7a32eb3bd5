package harness

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidemill/tidemill/internal/miniotest"
)

const (
	// ClusterMemory is --memory of each broker.
	ClusterMemory = 256 << 20
	// stopClusterLimit is what a broker that hands everything over may take to end.
	stopClusterLimit = 20 * time.Second
	// settleLimit is for a cluster that has to come to rest: a lease, its grace, and a takeover.
	settleLimit = 90 * time.Second
)

// ClusterOptions say what a cluster is made of. The zero value is three members of etcd and three brokers.
type ClusterOptions struct {
	Brokers, EtcdMembers int
	// Proxied puts a proxy into every connection of a broker, so that each can be cut alone.
	Proxied bool
	// Storage turns the address of MinIO into the one that brokers are given, such as that of a faulty proxy.
	Storage func(endpoint string) string
	Kafka   Settings
}

// A Cluster is brokers that lease their ids, the etcd they agree by, and the MinIO they store in: all processes, on loopback.
type Cluster struct {
	t       testing.TB
	options ClusterOptions
	Etcd    *Etcd
	MinIO   *miniotest.Server
	storage string
	// Nodes are all brokers that were ever started, in that order.
	Nodes []*Node
}

// NewCluster starts a cluster and waits until all brokers know each other. It ends with the test.
func NewCluster(t testing.TB, o ClusterOptions) *Cluster {
	t.Helper()
	if OnKafka() {
		t.Skip("Kafka has neither an object store nor etcd")
	}
	if o.Brokers == 0 {
		o.Brokers = 3
	}
	if o.EtcdMembers == 0 {
		o.EtcdMembers = 3
	}
	binary(t) // before anything waits for it
	c := &Cluster{t: t, options: o, Etcd: startEtcd(t, o.EtcdMembers), MinIO: miniotest.Start(t)}
	t.Setenv("AWS_ACCESS_KEY_ID", c.MinIO.AccessKey)
	t.Setenv("AWS_SECRET_ACCESS_KEY", c.MinIO.SecretKey)
	c.storage = c.MinIO.Endpoint
	if o.Storage != nil {
		c.storage = o.Storage(c.storage)
	}
	for range o.Brokers {
		c.Begin()
	}
	for _, n := range c.Nodes {
		n.AwaitReady()
	}
	c.AwaitBrokers(o.Brokers)
	return c
}

// Begin starts another broker and does not wait until it is ready.
func (c *Cluster) Begin() *Node {
	c.t.Helper()
	n := newNode(c, len(c.Nodes)+1)
	c.Nodes = append(c.Nodes, n)
	n.Begin()
	return n
}

// Add starts another broker and waits until it is ready.
func (c *Cluster) Add() *Node {
	c.t.Helper()
	n := c.Begin()
	n.AwaitReady()
	return n
}

// Running are the brokers whose processes live.
func (c *Cluster) Running() []*Node {
	return slices.DeleteFunc(slices.Clone(c.Nodes), (*Node).Exited)
}

// Bootstrap are the addresses of all brokers that were ever started.
func (c *Cluster) Bootstrap() []string {
	var out []string
	for _, n := range c.Nodes {
		out = append(out, n.Addr)
	}
	return out
}

// ClientOptions let a client reach the cluster, through the proxies for clients if there are any.
func (c *Cluster) ClientOptions() []kgo.Opt {
	return []kgo.Opt{kgo.Dialer(c.dial), kgo.MetadataMinAge(250 * time.Millisecond)}
}

// Client returns a client of the cluster that is closed with the test.
func (c *Cluster) Client(opts ...kgo.Opt) *kgo.Client {
	c.t.Helper()
	client, err := kgo.NewClient(slices.Concat([]kgo.Opt{kgo.SeedBrokers(c.Bootstrap()...), kgo.AlwaysRetryEOF()}, c.ClientOptions(), opts)...)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(client.Close)
	return client
}

// Metadata is what the cluster says of its brokers and some topics.
func (c *Cluster) Metadata(ctx context.Context, topics ...string) (kadm.Metadata, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	client, err := kgo.NewClient(append(c.ClientOptions(), kgo.SeedBrokers(c.Bootstrap()...))...)
	if err != nil {
		return kadm.Metadata{}, err
	}
	defer client.Close()
	return kadm.NewClient(client).Metadata(ctx, topics...)
}

// AwaitBrokers waits until every broker that runs knows n brokers.
func (c *Cluster) AwaitBrokers(n int) {
	c.t.Helper()
	Eventually(c.t, settleLimit, fmt.Sprintf("%d brokers know each other", n), func() error {
		for _, node := range c.Running() {
			m, err := node.Metadata(c.t.Context())
			if err != nil {
				return err
			}
			if len(m.Brokers) != n {
				return fmt.Errorf("%s knows %d brokers", node.Name, len(m.Brokers))
			}
		}
		return nil
	})
}

// Leaders counts the partitions of topics, or of all, by the node that leads them. It is an error if one has no leader, or a node that has ended.
func (c *Cluster) Leaders(topics ...string) (map[*Node]int, error) {
	m, err := c.Metadata(c.t.Context(), topics...)
	if err != nil {
		return nil, err
	}
	count := map[*Node]int{}
	for _, topic := range m.Topics {
		if topic.Err != nil {
			return nil, topic.Err
		}
		for _, p := range topic.Partitions {
			n := c.node(m, p.Leader)
			if p.Err != nil || n == nil || n.Exited() {
				return nil, fmt.Errorf("partition %s-%d has leader %d: %w", topic.Topic, p.Partition, p.Leader, p.Err)
			}
			count[n]++
		}
	}
	return count, nil
}

// AwaitSpread waits until every partition has a leader, and each of the brokers that run leads at least half of an even share.
func (c *Cluster) AwaitSpread() {
	c.t.Helper()
	Eventually(c.t, settleLimit, "partitions are spread over the brokers that run", func() error {
		count, err := c.Leaders()
		if err != nil {
			return err
		}
		all := 0
		for _, k := range count {
			all += k
		}
		running := c.Running()
		for _, n := range running {
			if count[n] < all/len(running)/2 {
				return fmt.Errorf("they are spread %v", spread(count))
			}
		}
		return nil
	})
}

// Spread says how many partitions of topics each broker leads, for a person.
func (c *Cluster) Spread(topics ...string) string {
	count, err := c.Leaders(topics...)
	return fmt.Sprint(spread(count), " ", err)
}

func spread(count map[*Node]int) map[string]int {
	out := map[string]int{}
	for n, k := range count {
		out[n.Name] = k
	}
	return out
}

// elected is what a broker prints when it becomes the controller. Clients are not told which it is: every broker takes their requests.
const elected = `msg="this broker is the controller"`

// Controller is the node that was elected last.
func (c *Cluster) Controller() *Node {
	c.t.Helper()
	var found *Node
	last := ""
	for _, n := range c.Nodes {
		for line := range strings.Lines(n.Output()) {
			if strings.Contains(line, elected) && line > last { // lines begin with their time
				found, last = n, line
			}
		}
	}
	if found == nil {
		c.t.Fatal("no broker says that it is the controller")
	}
	return found
}

// node finds a broker by its id; nil if there is none.
func (c *Cluster) node(m kadm.Metadata, id int32) *Node {
	for _, b := range m.Brokers {
		if b.NodeID != id {
			continue
		}
		for _, n := range c.Nodes {
			if n.Addr == fmt.Sprintf("%s:%d", b.Host, b.Port) {
				return n
			}
		}
	}
	return nil
}

func (c *Cluster) clusterURL(endpoints []string) string {
	return "etcd://" + strings.Join(endpoints, ",") + "/e2e"
}

func (c *Cluster) bucketURL(endpoint string) string {
	return "s3://" + c.MinIO.Bucket + "/e2e?region=us-east-1&endpoint=" + endpoint
}
