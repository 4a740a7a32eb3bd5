package e2e

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/tidemill/tidemill/e2e/harness"
	"github.com/tidemill/tidemill/verify"
	"github.com/tidemill/tidemill/verify/workload"
)

const (
	clusterPartitions = 12
	clusterRate       = 600
	// calm is how long a workload runs before and after a fault, so that gaps are seen against how it is usually.
	calm = 5 * time.Second
	// judging bounds what comes after the load.
	judging = 4 * time.Minute
)

// A clusterRun is a cluster under a workload whose every answer is judged at the end.
type clusterRun struct {
	*testing.T
	cluster  *harness.Cluster
	load     *workload.Workload
	faultAt  time.Duration
	finished bool
}

func startClusterRun(t *testing.T, o harness.ClusterOptions) *clusterRun {
	t.Helper()
	return loadCluster(t, harness.NewCluster(t, o))
}

// loadCluster puts a cluster to work, and returns when it works.
func loadCluster(t *testing.T, c *harness.Cluster) *clusterRun {
	t.Helper()
	w, err := workload.Start(t.Context(), workload.Options{
		Bootstrap: c.Bootstrap(), Partitions: clusterPartitions, Rate: clusterRate, Producers: 3, Consumers: 2, Members: 2,
		Client: c.ClientOptions(), Settle: time.Minute, Log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	r := &clusterRun{T: t, cluster: c, load: w}
	r.awaitProgress("at the beginning")
	r.during(calm, nil)
	return r
}

// fault notes that something happens now.
func (r *clusterRun) fault() { r.faultAt = r.load.Elapsed() }

// during looks every second for as long as d.
func (r *clusterRun) during(d time.Duration, look func()) {
	r.Helper()
	end := time.After(d)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-end:
			return
		case <-tick.C:
			if look != nil {
				look()
			}
		}
	}
}

// awaitProgress waits until something more was acknowledged in each partition, and read and committed by the group.
func (r *clusterRun) awaitProgress(when string) {
	r.Helper()
	from, before := r.load.Elapsed(), r.load.Counts()
	harness.Eventually(r, 2*time.Minute, "progress "+when, func() error {
		now := r.load.Counts()
		to := r.load.Elapsed()
		gap := r.load.LongestPartitionGap(from, to)
		whole := gap.From == from && gap.To == to
		if whole || now.ReadByGroups <= before.ReadByGroups || now.Commits <= before.Commits {
			return errorf("counts %+v, before %+v; longest gap %v", now, before, gap)
		}
		return nil
	})
}

// finish ends the load, fails the test for every contradiction, and returns the longest gap of a partition since the fault.
func (r *clusterRun) finish(what string) (overall, partition time.Duration) {
	r.Helper()
	r.awaitProgress("after " + what)
	r.during(calm, nil)
	to := r.load.Elapsed()
	all, one := r.load.LongestGap(r.faultAt, to), r.load.LongestPartitionGap(r.faultAt, to)
	ctx, cancel := context.WithTimeout(r.Context(), judging)
	defer cancel()
	h, err := r.load.Stop(ctx)
	if err != nil {
		r.Errorf("stop the workload: %v", err)
	}
	v := verify.Check(h)
	if !v.OK() || v.Counts.Failed+v.Counts.Unknown > 0 || v.Counts.Unread > 0 {
		var text strings.Builder
		_ = v.WriteText(&text) // a builder takes everything
		r.Errorf("%s\nthe history is in %s", &text, keepHistory(r.T, h))
	}
	r.Logf("figure: %s: longest gap between acknowledgements %v, in one partition %v; %d records acknowledged, %d unknown, %d commits",
		what, all, one, v.Counts.Acknowledged, v.Counts.Unknown, v.Counts.Commits)
	return all.Length(), one.Length()
}

// within fails the test when a gap was longer than it may be.
func (r *clusterRun) within(gap, limit time.Duration) {
	r.Helper()
	if gap > limit {
		r.Errorf("a partition acknowledged nothing for %v, want at most %v", gap, limit)
	}
}

// survivors checks that no broker ended by itself.
func (r *clusterRun) survivors(n int) {
	r.Helper()
	if running := len(r.cluster.Running()); running != n {
		r.Errorf("%d brokers run, want %d", running, n)
	}
}
