package scenario

import (
	"context"
	"fmt"
	"time"

	"github.com/tidemill/tidemill/bench/report"
)

// etcdTraffic counts what a broker writes to etcd while it writes segments of 12 partitions. Segments are small, so that there
// are some in the time; what etcd sees is of one broker at a modest rate.
func etcdTraffic(ctx context.Context, e *Env) error {
	etcd, err := e.Lab.Etcd()
	if err != nil {
		return err
	}
	defer etcd.Stop()
	b, stop, err := e.broker("std", -1, "--cluster", "etcd://"+etcd.Addr+"/bench")
	if err != nil {
		return err
	}
	defer stop()
	const segments, commits = "tidemill_partition_segments_total", "tidemill_partition_manifest_commits_total"
	count := func() (n [2]float64, err error) {
		m, err := b.Metrics()
		for i, name := range []string{segments, commits} {
			if err == nil {
				n[i], err = m.Need(name)
			}
		}
		return n, err
	}
	before, err := count()
	if err != nil {
		return err
	}
	calls, err := etcd.Calls()
	if err != nil {
		return err
	}
	begun := time.Now()
	l := standard("traffic", 12)
	l.Spread, l.For = true, time.Duration(2*e.Minutes*float64(time.Minute))
	r, _, err := apply(ctx, b, l)
	if err != nil {
		return err
	}
	after, err := count()
	if err != nil {
		return err
	}
	now, err := etcd.Calls()
	if err != nil {
		return err
	}
	made, heads, minutes := after[0]-before[0], after[1]-before[1], time.Since(begun).Minutes()
	row := report.Row{
		What: "12 MB/s to 12 partitions, S3 Standard: manifests written to etcd for each segment of a partition",
		Measured: fmt.Sprintf("%.2f: %.0f for %.0f segments; %.1f a minute for each partition", heads/made, heads, made,
			heads/minutes/float64(l.Partitions)),
		Target: "≤ 1", Verdict: report.Judge(heads <= made), Invalid: r.Invalid,
	}
	if made == 0 {
		row.Invalid = "no segment was written"
	}
	e.add(row)
	e.add(report.Row{
		What: "etcd meanwhile",
		Measured: fmt.Sprintf("%.1f writes, %.1f reads a minute", float64(now["Txn"]+now["Put"]-calls["Txn"]-calls["Put"])/minutes,
			float64(now["Range"]-calls["Range"])/minutes),
	})
	return nil
}
