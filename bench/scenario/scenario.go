// Package scenario holds what is measured: each scenario starts its own brokers, drives them and judges what it sees.
package scenario

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/tidemill/tidemill/bench/kgodriver"
	"github.com/tidemill/tidemill/bench/observe"
	"github.com/tidemill/tidemill/bench/peer"
	"github.com/tidemill/tidemill/bench/report"
	"github.com/tidemill/tidemill/bench/s3sim"
)

// A Scenario is one named measurement.
type Scenario struct {
	Name string
	Help string
	// Named runs only when it is asked for by name: it takes long.
	Named bool
	run   func(context.Context, *Env) error
}

// All lists the scenarios in the order of the report.
func All() []Scenario {
	return []Scenario{
		{Name: "produce-64k", Help: "CPU per GB: raw driver, batches of 64 KiB, storage without delay", run: produce64k},
		{Name: "tail-fetch", Help: "CPU per GB: raw driver reads what was just written", run: tailFetch},
		{Name: "small", Help: "requests of 1.1 KiB a second, broker on one core", run: small},
		{Name: "tail-30MBps-std", Help: "latency and PUTs at 30 MB/s with the latency of S3 Standard", run: tail30},
		{Name: "raw-30MBps-std", Help: "the same rate from the raw driver, without the window of clients", run: rawTail},
		{Name: "lone-record", Help: "one small record on an idle broker", run: loneRecord},
		{Name: "pipeline-depth", Help: "one connection, 5 requests in flight", run: pipelineDepth},
		{Name: "idle", Help: "8 idle partitions and a consumer: latency, and requests when nothing happens", run: idle},
		{Name: "partitions-1000", Help: "PUTs with 1 and with 1,000 partitions at the same rate", run: partitions1000},
		{Name: "conns-10k", Help: "memory of 10,000 idle connections", run: conns10k},
		{Name: "rss-100MBps", Help: "memory at 100 MB/s with three consumers", run: rss100},
		{Name: "connect-1m", Help: "Kafka Connect copies 1,000,000 lines file to topic to file", run: connect1m},
		{Name: "catchup", Help: "one consumer reads a partition that is larger than memory from offset 0", run: catchup},
		{Name: "replay", Help: "latency at 30 MB/s while a consumer reads old data", run: replay, Named: true},
		{Name: "compaction", Help: "CPU per GB that keyed compaction reads", run: compaction},
		{Name: "reopen", Help: "from the start to fetches, with a partition of 1,000,000 batches and with 1,000 partitions", run: reopen},
		{Name: "etcd-traffic", Help: "manifests written to etcd for each segment", run: etcdTraffic},
		{Name: "large-cluster", Help: "100,000 partitions: a broker joins, and metadata of 10,000 partitions", run: largeCluster},
		{Name: "move-1000", Help: "1,000 partitions with data move to another broker, and a new broker gets its share", run: move1000},
		{Name: "soak", Help: "retention and compaction under a steady load: does anything grow?", run: soak, Named: true},
		{Name: "sweep-std", Help: "latency against load with the latency of S3 Standard, for the plots", run: sweepStandard},
		{Name: "sweep-fast", Help: "the same on storage without delay", run: sweepFast},
		{Name: "sweep-kafka", Help: "the same on Apache Kafka", run: sweepKafka},
	}
}

// An Env is what scenarios use and where they leave their results.
type Env struct {
	Lab      *peer.Lab
	Rounds   int // of comparisons
	Duration time.Duration
	Minutes  float64 // how long the idle scenario watches; etcd-traffic takes twice that
	Flags    []string
	Log      func(format string, args ...any)

	GB         float64       // catchup's data; compaction's are the half
	ReplayMBps float64       // of replay's consumer; 0: as fast as it can
	Soak       time.Duration // of soak
	Plots      string        // folder for soak's plot and samples; empty: none

	scenario string
	Rows     []report.Row
}

// Run runs the scenario and adds rows.
func (s Scenario) Run(ctx context.Context, e *Env) error {
	e.scenario = s.Name
	begun, started := time.Now(), e.Lab.Started()
	err := s.run(ctx, e)
	if peak := e.Lab.PeakRSS(started); err == nil && peak > 0 {
		e.add(report.Row{
			What: "peak RSS of the broker, from its start to its end", Measured: fmt.Sprintf("%.0f MiB", mib(peak)),
			Target: "≤ 512 MiB (--memory)", Verdict: report.Judge(peak <= budget),
		})
	}
	e.Log("%s took %.0f s", s.Name, time.Since(begun).Seconds())
	if err != nil {
		return fmt.Errorf("%s: %w", s.Name, err)
	}
	return nil
}

func (e *Env) add(r report.Row) {
	r.Scenario = e.scenario
	e.Rows = append(e.Rows, r)
	e.Log("%-16s %s: %s %s %s %s", r.Scenario, r.What, r.Measured, r.Target, r.Verdict, r.Invalid)
}

// broker starts a broker on a simulator with a latency profile.
func (e *Env) broker(profile string, core int, flags ...string) (*peer.Broker, func(), error) {
	sim, err := e.Lab.Sim(profile)
	if err != nil {
		return nil, nil, err
	}
	b, err := e.Lab.Tidemill(sim, core, append(slices.Clone(e.Flags), flags...)...)
	if err != nil {
		sim.Stop()
		return nil, nil, err
	}
	return b, func() { b.Stop(); sim.Stop() }, nil
}

// A cost is what a broker used while something ran.
type cost struct {
	cpu   time.Duration
	peak  int64 // RSS since the start, bytes
	stats s3sim.Stats
}

// measure runs f and returns what the broker used meanwhile.
func measure(b *peer.Broker, f func() error) (c cost, err error) {
	var before, after observe.Usage
	var s0, s1 s3sim.Stats
	if b.Sim != nil {
		if s0, err = b.Sim.Stats(); err != nil {
			return c, err
		}
	}
	if before, err = b.Usage(); err != nil {
		return c, err
	}
	if err := f(); err != nil {
		return c, fmt.Errorf("%s: %w", b.Name, err)
	}
	if after, err = b.Usage(); err != nil {
		return c, err
	}
	if b.Sim != nil {
		if s1, err = b.Sim.Stats(); err != nil {
			return c, err
		}
		c.stats = s1.Since(s0)
	}
	c.cpu, c.peak = after.CPU()-before.CPU(), after.PeakRSS
	return c, nil
}

// apply runs a franz-go load on a broker.
func apply(ctx context.Context, b *peer.Broker, l kgodriver.Load) (r kgodriver.Report, c cost, err error) {
	l.Addr = b.Addr
	c, err = measure(b, func() error {
		r, err = l.Run(ctx)
		return err
	})
	return r, c, err
}

// standard is the load of applications that the scenarios vary: records of 1,000 bytes, 12 partitions, 4 producers that
// linger 5 ms as Java's do, one consumer.
func standard(topic string, mbPerSecond float64) kgodriver.Load {
	return kgodriver.Load{
		Topic: topic, Partitions: 12, Producers: 4, Consumers: 1, RecordBytes: 1000, MBPerSecond: mbPerSecond,
		Linger: 5 * time.Millisecond, BatchBytes: 256 << 10, WarmUp: 5 * time.Second, For: 25 * time.Second,
	}
}

func perGB(n, bytes int64) float64 { return float64(n) / (float64(bytes) / 1e9) }

func mib(n int64) float64 { return float64(n) / (1 << 20) }

func ms(q kgodriver.Quantiles) string {
	return fmt.Sprintf("%.0f / %.0f / %.0f ms", q.P50, q.P99, q.P999)
}
