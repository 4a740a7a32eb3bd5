package scenario

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/bench/peer"
	"github.com/tidemill/tidemill/bench/rawdriver"
	"github.com/tidemill/tidemill/bench/report"
	"github.com/tidemill/tidemill/bench/s3sim"
)

// partitions1000 writes at one rate to 1 and to 1,000 partitions.
func partitions1000(ctx context.Context, e *Env) error {
	var puts []float64
	for _, partitions := range []int{1, 1000} {
		b, stop, err := e.broker("std", -1)
		if err != nil {
			return err
		}
		l := standard("partitions", 10)
		l.Partitions, l.Spread, l.For = partitions, true, 15*time.Second
		r, c, err := apply(ctx, b, l)
		stop()
		if err != nil {
			return err
		}
		puts = append(puts, perGB(c.stats.Requests(s3sim.OpPut), r.Bytes))
		row := report.Row{
			What:     fmt.Sprintf("10 MB/s, S3 Standard, %d partitions", partitions),
			Measured: fmt.Sprintf("%.0f PUTs per GB, ack %s, %.2f CPU-s/GB", puts[len(puts)-1], ms(r.Ack), c.cpu.Seconds()/(float64(r.Bytes)/1e9)),
			Invalid:  r.Invalid,
		}
		if partitions > 1 {
			row.Target, row.Verdict = "as many PUTs (± 10 %)", report.Judge(puts[1] <= 1.1*puts[0])
		}
		e.add(row)
	}
	return nil
}

// conns10k opens connections that ask for the broker's versions, as clients do, and then do nothing.
func conns10k(_ context.Context, e *Env) error {
	const conns = 10_000
	b, stop, err := e.broker("fast", -1)
	if err != nil {
		return err
	}
	defer stop()
	before, err := b.Usage()
	if err != nil {
		return err
	}
	hello := kmsg.NewRequestFormatter(kmsg.FormatterClientID("idle")).AppendRequest(nil, kmsg.NewPtrApiVersionsRequest(), 1)
	for range conns {
		nc, err := net.Dial("tcp", b.Addr)
		if err != nil {
			return err
		}
		defer nc.Close()
		if _, err := nc.Write(hello); err != nil {
			return err
		}
		var size [4]byte
		if _, err := io.ReadFull(nc, size[:]); err != nil {
			return err
		}
		if _, err := io.CopyN(io.Discard, nc, int64(binary.BigEndian.Uint32(size[:]))); err != nil {
			return err
		}
	}
	after, err := b.Usage()
	if err != nil {
		return err
	}
	e.add(report.Row{
		What:     "10,000 connections after ApiVersions",
		Measured: fmt.Sprintf("RSS %.0f MiB, %.0f MiB before them: %.1f KiB each", mib(after.RSS), mib(before.RSS), float64(after.RSS-before.RSS)/conns/1024),
		Target:   "≤ 150 MB", Verdict: report.Judge(after.RSS <= 150e6),
	})
	return nil
}

// rss100 is memory under load.
func rss100(ctx context.Context, e *Env) error {
	b, stop, err := e.broker("std", -1)
	if err != nil {
		return err
	}
	defer stop()
	l := standard("rss", 100)
	l.Consumers, l.For = 3, 30*time.Second
	r, c, err := apply(ctx, b, l)
	if err != nil {
		return err
	}
	e.add(report.Row{
		What:     "100 MB/s in, three consumers, S3 Standard, --memory 512MiB (default)",
		Measured: fmt.Sprintf("peak RSS %.0f MiB; %.0f MB/s acknowledged, ack %s, end to end %s", mib(c.peak), r.Acked, ms(r.Ack), ms(r.EndToEnd)),
		Target:   "≤ 512 MiB", Verdict: report.Judge(c.peak <= 512<<20), Invalid: r.Invalid,
	})
	return nil
}

// idle first looks at records that come one by one, then at nothing at all.
func idle(ctx context.Context, e *Env) error {
	etcd, err := e.Lab.Etcd()
	if err != nil {
		return err
	}
	defer etcd.Stop()
	b, stop, err := e.broker("fast", -1, "--cluster", "etcd://"+etcd.Addr+"/bench")
	if err != nil {
		return err
	}
	defer stop()
	if err := rawdriver.CreateTopic(ctx, b.Addr, "idle", 8); err != nil {
		return err
	}
	client, err := kgo.NewClient(
		kgo.SeedBrokers(b.Addr), kgo.DefaultProduceTopic("idle"), kgo.ConsumeTopics("idle"), kgo.ProducerLinger(0),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.FetchMaxWait(5*time.Second), kgo.MetadataMaxAge(time.Hour),
	)
	if err != nil {
		return err
	}
	defer client.Close()
	var took []float64
	for i := range 24 {
		begun := time.Now()
		value := fmt.Sprint("record ", i)
		client.Produce(ctx, &kgo.Record{Partition: int32(i % 8), Value: []byte(value)}, nil)
		for got := ""; got != value; {
			fetches := client.PollRecords(ctx, 1)
			if err := fetches.Err(); err != nil {
				return err
			}
			fetches.EachRecord(func(r *kgo.Record) { got = string(r.Value) })
		}
		if i >= 8 { // each partition has been read from once
			took = append(took, float64(time.Since(begun))/1e6)
		}
	}
	e.add(report.Row{
		What:     "8 partitions, one record at a time, storage without delay: end to end p50",
		Measured: fmt.Sprintf("%.1f ms", median(took)), Target: "within one flush (100 ms)", Verdict: report.Judge(median(took) <= 100),
	})
	return e.nothing(ctx, b, etcd, client)
}

// nothing watches a broker with a consumer that has nothing to read.
func (e *Env) nothing(ctx context.Context, b *peer.Broker, etcd *peer.Etcd, client *kgo.Client) error {
	polling, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		for polling.Err() == nil {
			client.PollFetches(polling)
		}
	}()
	select { // the checkpoint of the records before comes after a minute, and after another the last list of what it wrote
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(150 * time.Second):
	}
	before, err := etcd.Calls()
	if err != nil {
		return err
	}
	span := time.Duration(e.Minutes * float64(time.Minute))
	c, err := measure(b, func() error {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(span):
			return nil
		}
	})
	if err != nil {
		return err
	}
	after, err := etcd.Calls()
	if err != nil {
		return err
	}
	requests := c.stats.Requests(s3sim.OpPut, s3sim.OpGet, s3sim.OpHead, s3sim.OpDelete, s3sim.OpList)
	reads := after["Range"] - before["Range"]
	what := fmt.Sprintf("nothing to do for %.0f s, consumer polling", span.Seconds())
	e.add(report.Row{
		What:     what,
		Measured: fmt.Sprintf("%d storage requests, %.2f %% of a core, RSS %.0f MiB", requests, c.cpu.Seconds()/span.Seconds()*100, mib(c.peak)),
		Target:   "0 data-path requests", Verdict: report.Judge(requests == 0),
	})
	e.add(report.Row{
		What: what, Measured: fmt.Sprintf("%d etcd reads, %d writes", reads, after["Txn"]+after["Put"]-before["Txn"]-before["Put"]),
		Target: "0 etcd reads", Verdict: report.Judge(reads == 0),
	})
	return nil
}
