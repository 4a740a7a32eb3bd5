package e2e

import (
	"testing"
	"time"

	"github.com/tidemill/tidemill/e2e/harness"
)

const (
	networkCut = 20 * time.Second
	// cutGap is for partitions of a broker that is cut off from what it needs: its lease and a grace of one more, then the takeover, or
	// the end of the cut.
	cutGap = 2*brokerLease + 10*time.Second
)

// A cutOff is one way of cutting one broker off; gap is how long its partitions may be away because of that.
type cutOff struct {
	name    string
	proxies func(n *harness.Node) []*harness.Proxy
	gap     time.Duration
}

var cutOffs = []cutOff{
	{"etcd", func(n *harness.Node) []*harness.Proxy { return n.Etcd }, servedGap},
	{"storage", func(n *harness.Node) []*harness.Proxy { return []*harness.Proxy{n.Storage} }, networkCut + 2*cutGap},
	{"the other brokers", func(n *harness.Node) []*harness.Proxy { return []*harness.Proxy{n.Peers} }, servedGap},
	{"clients", func(n *harness.Node) []*harness.Proxy { return []*harness.Proxy{n.Clients} }, networkCut + 2*cutGap},
}

// TestClusterNetwork cuts one broker off from one of those that it talks to, without a word to either end, and mends that.
func TestClusterNetwork(t *testing.T) {
	for _, s := range cutOffs {
		t.Run("from "+s.name, func(t *testing.T) {
			r := startClusterRun(t, harness.ClusterOptions{Proxied: true})
			victim := others(r.cluster)[0]
			r.fault()
			for _, p := range s.proxies(victim) {
				p.Hold()
			}
			r.during(networkCut*3/4, nil)
			t.Logf("cut off from %s: who comes now is told the leaders %s", s.name, r.cluster.Spread(r.load.Topic()))
			r.during(networkCut/4, nil)
			healed := r.load.Elapsed()
			for _, p := range s.proxies(victim) {
				p.Pass()
			}
			r.awaitProgress("after the cut from " + s.name)
			t.Logf("figure: a broker cut off from %s for %v: all partitions served again within %v; it began a new life: %v",
				s.name, networkCut, (r.load.Elapsed() - healed).Round(time.Millisecond), victim.Restarted())
			r.cluster.AwaitBrokers(3)
			r.cluster.AwaitSpread()
			_, gap := r.finish("a broker cut off from " + s.name)
			r.within(gap, s.gap)
			r.survivors(3)
		})
	}
}
