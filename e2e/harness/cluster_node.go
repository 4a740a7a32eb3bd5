package harness

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidemill/tidemill/internal/proctest"
)

// A Node is one broker of a cluster on its ports. Each start is another life, under an id that it leases.
type Node struct {
	t    testing.TB
	Name string
	// Addr is the address that clients are told, HTTP that of metrics.
	Addr, HTTP string
	argv       []string
	process    *Process

	// The proxies in this broker's connections; nil in a cluster without. The name that it tells others is Peers to other brokers and
	// Clients to clients.
	Etcd                    []*Proxy
	Storage, Peers, Clients *Proxy
}

func newNode(c *Cluster, number int) *Node {
	c.t.Helper()
	n := &Node{t: c.t, Name: fmt.Sprintf("broker-%d", number), HTTP: proctest.FreeAddress(c.t)}
	listen := proctest.FreeAddress(c.t)
	n.Addr = listen
	etcd, storage := c.Etcd.Endpoints(), c.storage
	if c.options.Proxied {
		for i, endpoint := range etcd {
			p := startProxy(c.t, freePort, endpoint)
			n.Etcd, etcd[i] = append(n.Etcd, p), p.Addr
		}
		n.Storage = startProxy(c.t, freePort, strings.TrimPrefix(storage, "http://"))
		storage = "http://" + n.Storage.Addr
		n.Peers = startProxy(c.t, freePort, listen)
		_, port, err := net.SplitHostPort(n.Peers.Addr)
		if err != nil {
			c.t.Fatal(err)
		}
		n.Clients = startProxy(c.t, net.JoinHostPort(clientsHost, port), listen)
		n.Addr = net.JoinHostPort(advertisedHost, port)
	}
	n.argv = []string{
		binary(c.t), "serve", "--cluster", c.clusterURL(etcd), "--bucket", c.bucketURL(storage), "--listen", listen, "--advertise", n.Addr,
		"--http", n.HTTP, "--memory", fmt.Sprintf("%dMiB", ClusterMemory>>20), "--rack", fmt.Sprintf("zone-%d", (number-1)%3),
		"--kafka", "group.initial.rebalance.delay.ms=0",
	}
	for _, name := range c.options.Kafka.names() {
		n.argv = append(n.argv, "--kafka", name+"="+c.options.Kafka[name])
	}
	return n
}

// Begin starts a broker that does not run, and does not wait until it is ready.
func (n *Node) Begin() {
	n.t.Helper()
	n.process = Start(n.t, n.Name, n.argv...)
}

// Start is Begin and AwaitReady.
func (n *Node) Start() {
	n.t.Helper()
	n.Begin()
	n.AwaitReady()
}

// AwaitReady waits until the broker serves.
func (n *Node) AwaitReady() {
	n.t.Helper()
	Eventually(n.t, readyLimit, n.Name+" is ready", func() error {
		if n.Exited() {
			n.t.Fatalf("%s exited with status %d", n.Name, n.process.ExitCode())
		}
		return n.ready()
	})
}

func (n *Node) ready() error {
	ctx, cancel := context.WithTimeout(n.t.Context(), 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+n.HTTP+"/readyz", nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("readyz answers %s", resp.Status)
	}
	return nil
}

// Metadata is what this broker says of all brokers.
func (n *Node) Metadata(ctx context.Context) (kadm.Metadata, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	client, err := kgo.NewClient(kgo.SeedBrokers(n.direct()))
	if err != nil {
		return kadm.Metadata{}, err
	}
	defer client.Close()
	return kadm.NewClient(client).BrokerMetadata(ctx)
}

// direct is where the broker listens.
func (n *Node) direct() string {
	if n.Clients != nil {
		return n.Clients.target
	}
	return n.Addr
}

// Pinned returns a client that knows this broker alone, for requests to its SeedBrokers.
func (n *Node) Pinned(opts ...kgo.Opt) *kgo.Client {
	n.t.Helper()
	client, err := kgo.NewClient(append(opts, kgo.SeedBrokers(n.direct()))...)
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(client.Close)
	return client
}

// Kill9 ends the broker without any warning.
func (n *Node) Kill9() { n.t.Helper(); n.process.Kill9() }

// Stop freezes the broker, Continue wakes it up.
func (n *Node) Stop() { n.t.Helper(); n.process.Send(syscall.SIGSTOP) }

// Continue ends a Stop.
func (n *Node) Continue() { n.t.Helper(); n.process.Send(syscall.SIGCONT) }

// Terminate asks the broker to hand everything over and end, and fails the test if it does not, cleanly and soon.
func (n *Node) Terminate() time.Duration {
	n.t.Helper()
	took := n.process.Terminate(stopClusterLimit)
	if code := n.process.ExitCode(); code != 0 {
		n.t.Errorf("%s exited with status %d after SIGTERM", n.Name, code)
	}
	return took
}

// Exited reports whether the broker's process has ended.
func (n *Node) Exited() bool {
	select {
	case <-n.process.Exited():
		return true
	default:
		return false
	}
}

// Output is everything that the broker's last run has printed.
func (n *Node) Output() string { return n.process.Output() }

// PeakResident is the most memory that the process has had, in bytes.
func (n *Node) PeakResident() int64 {
	n.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", n.process.cmd.Process.Pid))
	if err != nil {
		n.t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			var kib int64
			if _, err := fmt.Sscanf(rest, "%d kB", &kib); err != nil {
				n.t.Fatal(err)
			}
			return kib << 10
		}
	}
	n.t.Fatal("no VmHWM in /proc")
	return 0
}

// Restarted reports whether the running process has begun another life than its first: others have ended its log.
func (n *Node) Restarted() bool {
	n.t.Helper()
	return strings.Contains(n.Output(), "it begins a new life")
}
