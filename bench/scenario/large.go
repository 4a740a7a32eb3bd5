package scenario

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/bench/rawdriver"
	"github.com/tidemill/tidemill/bench/report"
	"github.com/tidemill/tidemill/metadata"
)

const (
	largeTopics    = 100
	largePerTopic  = 1000
	describedAfter = 10 // topics
)

// largeCluster has 100,000 partitions: what a broker needs to join, and how long it takes to tell clients of 10,000.
func largeCluster(ctx context.Context, e *Env) error {
	etcd, err := e.Lab.Etcd()
	if err != nil {
		return err
	}
	defer etcd.Stop()
	flags := []string{"--cluster", "etcd://" + etcd.Addr + "/bench"}
	first, stop, err := e.broker("fast", -1, append(flags, "--broker-id", "1")...)
	if err != nil {
		return err
	}
	defer stop()
	for i := range largeTopics {
		if err := rawdriver.CreateTopic(ctx, first.Addr, fmt.Sprintf("large-%d", i), largePerTopic); err != nil {
			return err
		}
		if i+1 != describedAfter {
			continue
		}
		took, err := describeAll(ctx, first.Addr)
		if err != nil {
			return err
		}
		e.add(report.Row{
			What:     fmt.Sprintf("metadata of %d partitions, one client: median of an answer", describedAfter*largePerTopic),
			Measured: fmt.Sprintf("%.1f ms", took.Seconds()*1000), Target: "≤ 50 ms", Verdict: report.Judge(took <= 50*time.Millisecond),
		})
	}
	meta, err := metadata.Open(ctx, metadata.Config{Endpoints: []string{etcd.Addr}, Name: "bench"})
	if err != nil {
		return err
	}
	defer func() { _ = meta.Close() }()                 // nothing of it is wanted any more
	if err := meta.SetDrain(ctx, 2, true); err != nil { // it joins, and does not take half of all over meanwhile
		return err
	}
	begun := time.Now()
	second, err := e.Lab.Tidemill(first.Sim, -1, slices.Concat(e.Flags, flags)...)
	if err != nil {
		return err
	}
	defer second.Discard()
	took := time.Since(begun)
	usage, err := second.Usage()
	if err != nil {
		return err
	}
	e.add(report.Row{
		What:     fmt.Sprintf("a broker joins a cluster of %d partitions: from its start to ready, peak RSS by then", largeTopics*largePerTopic),
		Measured: fmt.Sprintf("%.2f s, %.0f MiB", took.Seconds(), mib(usage.PeakRSS)), Target: "≤ 5 s, ≤ 200 MiB",
		Verdict: report.Judge(took <= 5*time.Second && usage.PeakRSS <= 200<<20),
	})
	return nil
}

// describeAll asks for the metadata of all topics again and again and returns the median time of an answer.
func describeAll(ctx context.Context, addr string) (time.Duration, error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(addr))
	if err != nil {
		return 0, err
	}
	defer client.Close()
	var took []time.Duration
	for range 21 {
		req := kmsg.NewPtrMetadataRequest()
		begun := time.Now()
		if _, err := req.RequestWith(ctx, client); err != nil {
			return 0, err
		}
		took = append(took, time.Since(begun))
	}
	slices.Sort(took)
	return took[len(took)/2], nil
}
