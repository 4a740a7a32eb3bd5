package scenario

import (
	"context"
	"fmt"
	"time"

	"github.com/tidemill/tidemill/bench/peer"
	"github.com/tidemill/tidemill/bench/report"
)

// etcdTraffic counts what a broker writes to etcd while it writes segments of 12 partitions at a modest rate.
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
	before, err := trafficOf(b, etcd)
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
	after, err := trafficOf(b, etcd)
	if err != nil {
		return err
	}
	minutes := time.Since(begun).Minutes()
	segments, heads := after.segments-before.segments, (after.heads-before.heads)/float64(l.Partitions)
	row := report.Row{
		What: "12 MB/s to 12 partitions, S3 Standard: manifests of a partition written to etcd for each segment, which partitions may share",
		Measured: fmt.Sprintf("%.2f: %.1f of each partition for %.0f segments of %.1f MB; %.1f a minute", heads/segments, heads, segments,
			(after.bytes-before.bytes)/segments/1e6, heads/minutes),
		Target: "≤ 1", Verdict: report.Judge(heads <= segments), Invalid: r.Invalid,
	}
	if segments == 0 {
		row.Invalid = "no segment was written"
	}
	e.add(row)
	e.add(report.Row{
		What: "etcd meanwhile",
		Measured: fmt.Sprintf("%.1f writes, %.1f reads a minute", float64(after.writes-before.writes)/minutes,
			float64(after.reads-before.reads)/minutes),
	})
	return nil
}

// A traffic is what a broker and its etcd have counted.
type traffic struct {
	segments, bytes float64 // of segments
	heads           float64 // manifests that etcd was told of
	writes, reads   int     // of etcd, by whomever
}

func trafficOf(b *peer.Broker, etcd *peer.Etcd) (t traffic, err error) {
	m, err := b.Metrics()
	for name, to := range map[string]*float64{
		"segments_total": &t.segments, "segment_bytes_total": &t.bytes, "manifest_commits_total": &t.heads,
	} {
		if err == nil {
			*to, err = m.Need("tidemill_partition_" + name)
		}
	}
	if err != nil {
		return t, err
	}
	calls, err := etcd.Calls()
	t.writes, t.reads = calls["Txn"]+calls["Put"], calls["Range"]
	return t, err
}
