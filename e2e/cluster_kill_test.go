package e2e

import (
	"testing"
	"time"

	"github.com/tidemill/tidemill/e2e/harness"
)

const (
	// brokerLease is how long etcd waits for a broker; its partitions are others' at most takeoverLimit later.
	brokerLease = 10 * time.Second
	// takeoverLimit tells a takeover of a dead process, which is to take 2 s, from one on the word of the lease alone, which takes another
	// lease; the figures tell the rest.
	takeoverLimit = 8 * time.Second
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
