package scenario

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidemill/tidemill/bench/peer"
	"github.com/tidemill/tidemill/bench/rawdriver"
	"github.com/tidemill/tidemill/bench/report"
	"github.com/tidemill/tidemill/bench/s3sim"
)

// tail30 measures both ends of the trade between latency and requests. They exclude each other: 150 PUTs per GB at 30 MB/s
// are a slot each 222 ms, of which a record waits for half on average, before a PUT of 6.7 MB that takes 107 ms.
func tail30(ctx context.Context, e *Env) error {
	for _, s := range []struct {
		what  string
		flags []string
		cheap bool
	}{
		{"default settings", nil, false},
		{"--write-profile cost", []string{"--write-profile", "cost"}, true},
	} {
		b, stop, err := e.broker("std", -1, s.flags...)
		if err != nil {
			return err
		}
		r, c, err := apply(ctx, b, standard("tail", 30))
		stop()
		if err != nil {
			return err
		}
		latency := report.Row{
			What: s.what + ": ack p50 / p99 / p99.9", Measured: ms(r.Ack), Invalid: r.Invalid,
		}
		puts := perGB(c.stats.Requests(s3sim.OpPut), r.Bytes)
		requests := report.Row{
			What:     s.what + ": storage",
			Measured: fmt.Sprintf("%.0f PUTs, %.1f GETs per GB", puts, perGB(c.stats.Requests(s3sim.OpGet), r.Bytes)),
		}
		if s.cheap {
			requests.Target, requests.Verdict = "≤ 150 PUTs per GB", report.Judge(puts <= 150)
		} else {
			latency.Target, latency.Verdict = "p50 ≤ 110 ms, p99 ≤ 280 ms", report.Judge(r.Ack.P50 <= 110 && r.Ack.P99 <= 280)
		}
		e.add(latency)
		e.add(report.Row{What: s.what + ": end to end", Measured: ms(r.EndToEnd)})
		e.add(requests)
		e.add(report.Row{
			What: s.what + ": broker", Measured: fmt.Sprintf("%.2f CPU-s/GB, peak RSS %.0f MiB", c.cpu.Seconds()/(float64(r.Bytes)/1e9), mib(c.peak)),
		})
		e.add(report.Row{
			What:     s.what + ": check",
			Measured: fmt.Sprintf("%d records, %d lost, %d twice; driver late %.1f ms at p99", r.Records, r.Lost, r.Duplicated, r.Delay.P99),
		})
	}
	return nil
}

// rawTail is the broker without what clients add: an open loop over windows that are never full, batches as they are due.
func rawTail(_ context.Context, e *Env) error {
	for _, s := range []struct {
		what  string
		flags []string
	}{{"default settings", nil}, {"--write-profile cost", []string{"--write-profile", "cost"}}} {
		b, stop, err := e.broker("std", -1, s.flags...)
		if err != nil {
			return err
		}
		r, puts, err := rawThirty(e, b)
		stop()
		if err != nil {
			return err
		}
		p50, p99 := float64(r.P50Micros)/1000, float64(r.P99Micros)/1000
		row := report.Row{
			What:     s.what + ", raw driver: ack p50 / p99, storage",
			Measured: fmt.Sprintf("%.0f / %.0f ms at %.1f MB/s, %.0f PUTs per GB", p50, p99, r.MBPerSecond(), puts),
		}
		if s.flags == nil {
			row.Target, row.Verdict = "p50 ≤ 110 ms, p99 ≤ 280 ms", report.Judge(p50 <= 110 && p99 <= 280)
		} else {
			row.Target, row.Verdict = "≤ 150 PUTs per GB", report.Judge(puts <= 150)
		}
		if late := float64(r.DelayP99Micros) / 1000; late > .1*p99 {
			row.Invalid = fmt.Sprintf("the driver was %.1f ms late at p99, more than a tenth of the latency", late)
		}
		e.add(row)
	}
	return nil
}

// rawThirty replays 30 MB/s for half a minute, and returns the PUTs per GB beside what the driver saw.
func rawThirty(e *Env, b *peer.Broker) (r rawdriver.Result, puts float64, err error) {
	before, err := b.Sim.Stats()
	if err != nil {
		return r, 0, err
	}
	err = e.Lab.Raw(-1, &r, "produce", "-bootstrap", b.Addr, "-topic", "raw", "-conns", "12", "-partitions", "12", "-depth", "128",
		"-batch", "65536", "-rate", "460", "-for", "30s")
	if err != nil {
		return r, 0, err
	}
	after, err := b.Sim.Stats()
	if err != nil {
		return r, 0, err
	}
	since := after.Since(before)
	return r, perGB(since.Requests(s3sim.OpPut), r.Bytes), nil
}

// loneRecord compares the time to an acknowledgement with the time that the storage took for the PUT in it.
func loneRecord(ctx context.Context, e *Env) error {
	b, stop, err := e.broker("std", -1)
	if err != nil {
		return err
	}
	defer stop()
	const n, pause = 30, 700 * time.Millisecond
	if err := rawdriver.CreateTopic(ctx, b.Addr, "lone", 1); err != nil {
		return err
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(b.Addr), kgo.DefaultProduceTopic("lone"), kgo.ProducerLinger(0))
	if err != nil {
		return err
	}
	defer client.Close()
	var acks, puts, added []float64
	for i := range n + 2 {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
		before, err := b.Sim.Stats()
		if err != nil {
			return err
		}
		begun := time.Now()
		if err := client.ProduceSync(ctx, &kgo.Record{Value: make([]byte, 100)}).FirstErr(); err != nil {
			return err
		}
		took := time.Since(begun)
		after, err := b.Sim.Stats()
		if err != nil {
			return err
		}
		since := after.Since(before)
		if i < 2 || since.Requests(s3sim.OpPut) != 1 { // the first ones open connections; a hedged PUT has no one time
			continue
		}
		ms := func(d time.Duration) float64 { return float64(d) / 1e6 }
		acks, puts, added = append(acks, ms(took)), append(puts, ms(after.LastPut)), append(added, ms(took-after.LastPut))
	}
	if len(added) < n/2 {
		return fmt.Errorf("only %d of %d records were one PUT", len(added), n)
	}
	e.add(report.Row{
		What:     fmt.Sprintf("%d records, S3 Standard: ack p50", len(added)),
		Measured: fmt.Sprintf("%.1f ms, of which %.1f ms the PUT; added p50 %.1f, max %.1f ms", median(acks), median(puts), median(added), slices.Max(added)),
		Target:   "one PUT, no wait for a flush (added ≤ 10 ms)", Verdict: report.Judge(median(added) <= 10),
	})
	return nil
}

// pipelineDepth looks at one connection with one and with five requests in flight.
func pipelineDepth(_ context.Context, e *Env) error {
	b, stop, err := e.broker("std", -1)
	if err != nil {
		return err
	}
	defer stop()
	for _, depth := range []int{1, 5} {
		var r rawdriver.Result
		err := e.Lab.Raw(-1, &r, "produce", "-bootstrap", b.Addr, "-topic", fmt.Sprint("depth-", depth), "-conns", "1", "-partitions", "1",
			"-depth", fmt.Sprint(depth), "-batch", "65536", "-for", "10s")
		if err != nil {
			return err
		}
		ack := float64(r.P50Micros) / 1e6
		rate := float64(r.Requests) / r.Seconds
		row := report.Row{
			What:     fmt.Sprintf("S3 Standard, %d in flight", depth),
			Measured: fmt.Sprintf("%.0f requests/s at %.0f ms: %.1f requests per acknowledgement time", rate, ack*1000, rate*ack),
		}
		if depth > 1 {
			row.Target, row.Verdict = "more than 1", report.Judge(rate*ack > 1.5)
		}
		e.add(row)
	}
	return nil
}

// The sweeps raise the load until a broker no longer keeps up.
func sweepStandard(ctx context.Context, e *Env) error {
	b, stop, err := e.broker("std", -1)
	if err != nil {
		return err
	}
	defer stop()
	return e.sweep(ctx, "Tidemill, S3 Standard", b)
}

func sweepFast(ctx context.Context, e *Env) error {
	b, stop, err := e.broker("fast", -1)
	if err != nil {
		return err
	}
	defer stop()
	return e.sweep(ctx, "Tidemill, storage without delay", b)
}

func sweepKafka(ctx context.Context, e *Env) error {
	b, stop, err := e.kafka(-1)
	if err != nil {
		return err
	}
	defer stop()
	return e.sweep(ctx, "Apache Kafka 4.3.1, local disk", b)
}

// sweepLoads are in MB/s; the first is not reported, it warms the broker up.
var sweepLoads = []float64{10, 2, 10, 30, 60, 100, 150}

func (e *Env) sweep(ctx context.Context, name string, b *peer.Broker) error {
	for i, load := range sweepLoads {
		l := standard(fmt.Sprintf("sweep-%d", i), load)
		l.WarmUp, l.For = 2*time.Second, 8*time.Second
		r, c, err := apply(ctx, b, l)
		if err != nil {
			return err
		}
		if i == 0 {
			continue
		}
		row := report.Row{
			What:     fmt.Sprintf("%s, %.0f MB/s", name, load),
			Measured: fmt.Sprintf("ack %s, end to end %s, %.2f CPU-s/GB", ms(r.Ack), ms(r.EndToEnd), c.cpu.Seconds()/(float64(r.Bytes)/1e9)),
			Invalid:  r.Invalid,
		}
		kept := r.Acked >= .98*load
		if kept {
			row.Curve, row.Point = name, report.Point{
				Load: load, AckP50: r.Ack.P50, AckP99: r.Ack.P99, EndToEndP50: r.EndToEnd.P50, EndToEndP99: r.EndToEnd.P99,
			}
		}
		e.add(row)
		if !kept { // more would only show the length of a queue
			break
		}
	}
	return nil
}
