package e2e

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidemill/tidemill/e2e/harness"
)

const (
	// drainGap is far above the 250 ms that a partition is to be away in a move, as the machine may be busy. The log tells what it was.
	drainGap = brokerLease * 8 / 10
)

// TestClusterDrain stops a broker with SIGTERM. It hands everything over and ends with status 0; clients wait for a moment, and the
// members of groups notice nothing, though their coordinators move too.
func TestClusterDrain(t *testing.T) {
	r := startClusterRun(t, harness.ClusterOptions{})
	topic := r.load.Topic()
	var quiet []*quietGroup
	for i := range 6 { // so many that each broker coordinates some
		quiet = append(quiet, joinQuietGroup(t, r.cluster, topic, fmt.Sprintf("quiet-%d", i)))
	}
	for _, g := range quiet {
		g.settle(t)
	}
	for _, name := range []string{"the controller", "another"} {
		victim := r.cluster.Controller()
		if name == "another" {
			victim = others(r.cluster)[0]
		}
		r.during(calm, nil) // what came back to a broker that started has arrived
		r.fault()
		took := victim.Terminate()
		r.awaitProgress("after SIGTERM of " + name)
		at := r.load.Elapsed()
		t.Logf("figure: SIGTERM of %s: ended after %v; longest gap between acknowledgements %v, in one partition %v",
			name, took.Round(time.Millisecond), r.load.LongestGap(r.faultAt, at), r.load.LongestPartitionGap(r.faultAt, at))
		r.within(r.load.LongestPartitionGap(r.faultAt, at).Length(), drainGap)
		r.handedOver(victim)
		// Longer than any session, so that whoever was forgotten would be missed.
		r.during(12*time.Second, nil)
		for _, g := range quiet {
			g.checkUndisturbed(t, "SIGTERM of "+name)
		}
		victim.Start()
		r.cluster.AwaitBrokers(3)
		r.cluster.AwaitSpread()
	}
	_, gap := r.finish("SIGTERM of two, one after another, and back again")
	r.within(gap, drainGap)
	r.survivors(3)
	for _, g := range quiet {
		g.checkUndisturbed(t, "everything")
	}
}

// TestClusterRollingRestart restarts all brokers one after another, and nobody is without a partition for long.
func TestClusterRollingRestart(t *testing.T) {
	r := startClusterRun(t, harness.ClusterOptions{})
	r.fault()
	for _, n := range r.cluster.Nodes {
		took := n.Terminate()
		r.handedOver(n)
		n.Start()
		r.cluster.AwaitBrokers(3)
		t.Logf("%s stopped within %v", n.Name, took.Round(time.Millisecond))
	}
	r.cluster.AwaitSpread()
	_, gap := r.finish("rolling restart of three brokers")
	r.within(gap, drainGap)
	r.survivors(3)
}

// TestClusterScale starts two brokers beside one, and stops them again.
func TestClusterScale(t *testing.T) {
	r := startClusterRun(t, harness.ClusterOptions{Brokers: 1})
	topic := r.load.Topic()
	r.fault()
	for range 2 {
		r.cluster.Add()
	}
	r.cluster.AwaitSpread()
	r.awaitProgress("on three brokers")
	at := r.load.Elapsed()
	t.Logf("figure: 1 to 3 brokers: %v until partitions were spread; longest gap in one partition %v; of the topic each leads %s",
		(at - r.faultAt).Round(time.Millisecond), r.load.LongestPartitionGap(r.faultAt, at), r.cluster.Spread(topic))
	harness.Eventually(t, time.Minute, "new brokers have their share of each topic", func() error {
		count, err := r.cluster.Leaders(topic)
		if err != nil {
			return err
		}
		for _, n := range r.cluster.Running() {
			if count[n] < clusterPartitions/3-1 {
				return fmt.Errorf("%s leads %d of the topic's %d partitions", n.Name, count[n], clusterPartitions)
			}
		}
		return nil
	})
	for _, n := range r.cluster.Nodes[1:] {
		n.Terminate()
	}
	r.cluster.AwaitSpread()
	_, gap := r.finish("1 to 3 to 1 brokers")
	r.within(gap, drainGap)
	r.survivors(1)
}

// handedOver checks that a broker which has ended gave everything away, and nobody had to take anything over.
func (r *clusterRun) handedOver(victim *harness.Node) {
	r.Helper()
	if !strings.Contains(victim.Output(), "msg=drained") {
		r.Errorf("%s did not drain", victim.Name)
	}
	for _, n := range r.cluster.Running() {
		if strings.Contains(n.Output(), "took over partitions") {
			r.Errorf("%s took over partitions of a broker that was to hand them over", n.Name)
		}
	}
}

// A quietGroup is a group of two members in which nothing is to happen.
type quietGroup struct {
	name    string
	members []*kgo.Client
	events  atomic.Int64 // assignments, revocations and losses
	before  []membership
	seen    int64
}

type membership struct {
	id         string
	generation int32
}

func joinQuietGroup(t *testing.T, c *harness.Cluster, topic, name string) *quietGroup {
	t.Helper()
	g := &quietGroup{name: name}
	changed := func(context.Context, *kgo.Client, map[string][]int32) { g.events.Add(1) }
	for range 2 {
		ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
		member := c.Client(kgo.ConsumerGroup(name), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtEnd()),
			kgo.OnPartitionsAssigned(changed), kgo.OnPartitionsRevoked(changed), kgo.OnPartitionsLost(changed),
			kgo.SessionTimeout(10*time.Second), kgo.HeartbeatInterval(time.Second), kgo.AutoCommitInterval(time.Second))
		g.members = append(g.members, member)
		done := make(chan struct{})
		go func() {
			defer close(done)
			for ctx.Err() == nil {
				member.PollFetches(ctx)
			}
		}()
		t.Cleanup(func() { cancel(); <-done })
	}
	return g
}

func (g *quietGroup) memberships() []membership {
	var out []membership
	for _, m := range g.members {
		id, generation := m.GroupMetadata()
		out = append(out, membership{id, generation})
	}
	return out
}

// settle waits until both members are of one generation with partitions, for so long that no rebalance is under way.
func (g *quietGroup) settle(t *testing.T) {
	t.Helper()
	since, seen := time.Now(), int64(-1)
	harness.Eventually(t, time.Minute, g.name+" is settled", func() error {
		now := g.memberships()
		if events := g.events.Load(); events != seen || now[0].generation != now[1].generation || now[0].generation < 1 {
			since, seen = time.Now(), events
		}
		if quiet := time.Since(since); quiet < 3*time.Second {
			return errorf("members %+v, quiet for %v", now, quiet)
		}
		return nil
	})
	g.before, g.seen = g.memberships(), g.events.Load()
}

// checkUndisturbed makes sure that the members are who they were, in the generation that they were in.
func (g *quietGroup) checkUndisturbed(t *testing.T, after string) {
	t.Helper()
	now := g.memberships()
	if events := g.events.Load() - g.seen; events > 0 || now[0] != g.before[0] || now[1] != g.before[1] {
		t.Errorf("%s after %s: %d assignments or revocations, members %+v, before %+v", g.name, after, events, now, g.before)
	}
}
