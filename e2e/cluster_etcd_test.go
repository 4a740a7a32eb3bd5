package e2e

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/tidemill/tidemill/e2e/harness"
)

const (
	memberDown = 20 * time.Second
	quorumDown = time.Minute
	// servedGap is how long a partition may be away where nothing that it needs is, as the machine may be busy: nobody took it over.
	servedGap = brokerLease * 8 / 10
)

// TestClusterEtcd takes members of etcd away: one, so many that there is no quorum, and all at once. Nothing that brokers serve
// needs etcd, and none of them is taken for dead because of it.
func TestClusterEtcd(t *testing.T) {
	r := startClusterRun(t, harness.ClusterOptions{})
	c, members := r.cluster, r.cluster.Etcd.Members
	owners := c.Spread()
	from := r.load.Elapsed()
	for i, m := range members {
		r.step("member of etcd killed", func() {
			m.Kill9()
			r.createTopic("with two members", i)
			r.during(memberDown/2, nil)
		})
		c.Etcd.Start()
	}
	r.step("quorum of etcd down for a minute", func() {
		members[0].Kill9()
		members[1].Kill9()
		r.withoutQuorum(quorumDown)
	})
	c.Etcd.Start()
	harness.Eventually(t, time.Minute, "a topic is created", func() error { return r.tryCreateTopic("after") })
	c.AwaitBrokers(3)
	r.step("all members of etcd restarted", func() {
		for _, m := range members {
			m.Kill9()
		}
		c.Etcd.Start()
		r.during(memberDown, nil) // longer than a lease and its grace
	})
	harness.Eventually(t, time.Minute, "a topic is created", func() error { return r.tryCreateTopic("at the end") })
	c.AwaitBrokers(3)
	r.faultAt = from
	_, gap := r.finish("etcd: members, the quorum and all away")
	r.within(gap, servedGap)
	r.survivors(3)
	for _, n := range c.Nodes {
		if n.Restarted() {
			t.Errorf("%s began a new life, though only etcd was away; before, partitions were spread %s", n.Name, owners)
		}
	}
}

// step runs a part of a scenario and logs the gaps meanwhile.
func (r *clusterRun) step(what string, do func()) {
	r.Helper()
	from := r.load.Elapsed()
	do()
	r.awaitProgress("after: " + what)
	to := r.load.Elapsed()
	r.Logf("figure: %s: longest gap between acknowledgements %v, in one partition %v",
		what, r.load.LongestGap(from, to), r.load.LongestPartitionGap(from, to))
}

// withoutQuorum checks that all goes on for a while but what must be agreed, which is refused in good time with an error that clients retry.
func (r *clusterRun) withoutQuorum(d time.Duration) {
	r.Helper()
	end := time.After(d)
	r.during(5*time.Second, nil)
	begun := time.Now()
	err := r.tryCreateTopic("without-quorum")
	took := time.Since(begun)
	var refusal *kerr.Error
	switch {
	case err == nil:
		r.Error("a topic was created without a quorum")
	case !errors.As(err, &refusal) || !refusal.Retriable:
		r.Errorf("a topic's creation without a quorum fails with %v, want an error of Kafka's that clients retry", err)
	case took > d/2:
		r.Errorf("a topic's creation without a quorum failed after %v", took)
	}
	r.Logf("without a quorum CreateTopics failed after %v: %v", took.Round(time.Millisecond), err)
	before := r.load.Counts()
	<-end
	now := r.load.Counts()
	if now.Acknowledged == before.Acknowledged || now.ReadByGroups == before.ReadByGroups || now.Commits == before.Commits {
		r.Errorf("without a quorum nothing went on: from %+v to %+v", before, now)
	}
}

func (r *clusterRun) createTopic(name string, number int) {
	r.Helper()
	harness.Eventually(r, time.Minute, "a topic is created "+name, func() error { return r.tryCreateTopic(name + string(rune('a'+number))) })
}

// tryCreateTopic asks once. A topic that is there already was made by an earlier attempt whose answer was lost.
func (r *clusterRun) tryCreateTopic(name string) error {
	ctx, cancel := context.WithTimeout(r.Context(), 40*time.Second)
	defer cancel()
	client := r.cluster.Client()
	defer client.Close()
	resp, err := kadm.NewClient(client).CreateTopics(ctx, 3, -1, nil, topicName(name))
	if err != nil {
		return err
	}
	for _, t := range resp {
		if t.Err != nil && !errors.Is(t.Err, kerr.TopicAlreadyExists) {
			return t.Err
		}
	}
	return nil
}
