package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/tidemill/tidemill/e2e/harness"
)

const (
	// brokerLease is how long etcd waits for a broker. Its partitions are others' 2 s later when its process is gone, and another lease later
	// on the word of the lease alone; the figures tell.
	brokerLease = 10 * time.Second
	// takeoverLimit is what a takeover may take at a stranger time: etcd elects a leader, who extends all leases, or was silent, and nobody
	// is declared dead for two leases.
	takeoverLimit = 3 * brokerLease
	// byLeaseAlone is what a controller says when it knows of nothing but an ended lease.
	byLeaseAlone = "is taken for dead: its lease ended a while ago"
)

// TestClusterKill kills brokers with -9. Their partitions are taken over when their leases have ended, by themselves, with
// everything that was acknowledged.
func TestClusterKill(t *testing.T) {
	for _, s := range []struct {
		name   string
		chosen func(c *harness.Cluster) []*harness.Node
	}{
		{"the controller", func(c *harness.Cluster) []*harness.Node { return []*harness.Node{c.Controller()} }},
		{"one that is not the controller", func(c *harness.Cluster) []*harness.Node { return others(c)[:1] }},
		{"two of three", func(c *harness.Cluster) []*harness.Node { return []*harness.Node{c.Controller(), others(c)[0]} }},
	} {
		t.Run(s.name, func(t *testing.T) {
			r := startClusterRun(t, harness.ClusterOptions{})
			victims := s.chosen(r.cluster)
			left := len(r.cluster.Nodes) - len(victims)
			r.fault()
			for _, n := range victims {
				n.Kill9()
			}
			r.cluster.AwaitSpread()
			_, gap := r.finish("kill -9 of " + s.name)
			r.within(gap, brokerLease+takeoverLimit)
			r.survivors(left)
			for _, n := range r.cluster.Running() {
				if strings.Contains(n.Output(), byLeaseAlone) {
					t.Errorf("%s waited for a grace, though the processes are gone", n.Name)
				}
			}
		})
	}
}

// others are the brokers that are not the controller.
func others(c *harness.Cluster) []*harness.Node {
	var out []*harness.Node
	controller := c.Controller()
	for _, n := range c.Running() {
		if n != controller {
			out = append(out, n)
		}
	}
	return out
}
