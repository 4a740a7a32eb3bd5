// Package kgodriver loads a broker as applications do, with franz-go clients, in an open loop: records are due at fixed times
// whatever the broker does, and latencies count from the time a record was due. So a broker that stalls is charged for every
// record that had to wait, not only for the one that was under way.
//
// Invariants: the first 8 bytes of a value are the intended time, the next 8 who sent it and its number; every record that was
// acknowledged must come back once, in order; the report is not valid if the driver itself was late (Report.Invalid).
package kgodriver

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidemill/tidemill/bench/rawdriver"
)

// A Load is what clients do. Zero Linger sends at once.
type Load struct {
	Addr, Topic string // the topic must be new to the broker, so that consumers see all of it
	Partitions  int
	Producers   int
	Consumers   int // each reads everything

	RecordBytes int
	MBPerSecond float64 // of values, over all producers
	Linger      time.Duration
	BatchBytes  int  // most of one partition in a request
	Spread      bool // records go to the partitions in turn; else as franz-go likes, which fills batches

	WarmUp, For time.Duration
	Patience    time.Duration // for what is under way after the last record, default 30 s
}

// Quantiles of a distribution, in milliseconds.
type Quantiles struct{ P50, P99, P999, Max float64 }

// A Report is what came of a load. Latencies are of records that were due in the measured time, the rest is of all.
type Report struct {
	Seconds  float64 // of the measured time
	Records  int64   // sent, with the warm-up
	Bytes    int64   // of their values
	Acked    float64 // MB/s in the measured time
	Ack      Quantiles
	EndToEnd Quantiles // of all consumers together
	Delay    Quantiles // how late the driver was itself

	Failed     int64 // not acknowledged
	Lost       int64 // acknowledged and not consumed, over all consumers
	Duplicated int64
	Reordered  int64
	// Invalid says why the figures may not be used; empty: they may.
	Invalid string
}

// header of a value: intended time, producer, sequence.
const header = 8 + 2 + 6

func (l Load) check() error {
	if l.RecordBytes < header || l.Partitions < 1 || l.Producers < 1 || l.MBPerSecond <= 0 || l.For <= 0 {
		return fmt.Errorf("load %+v: it needs a rate, a time, and records of %d bytes at least", l, header)
	}
	return nil
}

// Run applies the load and waits until all records have come back.
func (l Load) Run(ctx context.Context) (Report, error) {
	if err := l.check(); err != nil {
		return Report{}, err
	}
	if l.Patience == 0 {
		l.Patience = 30 * time.Second
	}
	if err := rawdriver.CreateTopic(ctx, l.Addr, l.Topic, l.Partitions); err != nil {
		return Report{}, err
	}
	begun := time.Now().Add(500 * time.Millisecond) // consumers are there by then
	from := begun.Add(l.WarmUp)
	window := window{from, from.Add(l.For)}
	reading, stop := context.WithCancel(ctx)
	defer stop()
	consumers := make([]*consumer, l.Consumers)
	for i := range consumers {
		c, err := newConsumer(l, window)
		if err != nil {
			return Report{}, err
		}
		defer c.client.Close()
		consumers[i] = c
		go c.run(reading)
	}
	producers := make([]*producer, l.Producers)
	ended := make(chan error, l.Producers)
	for i := range producers {
		p, err := newProducer(l, i, window)
		if err != nil {
			return Report{}, err
		}
		defer p.client.Close()
		producers[i] = p
		go func() { ended <- p.run(ctx, begun) }()
	}
	var errs []error
	for range producers {
		errs = append(errs, <-ended)
	}
	if err := errors.Join(errs...); err != nil {
		return Report{}, err
	}
	var acked int64
	for _, p := range producers {
		acked += p.acked
	}
	for _, c := range consumers {
		if err := c.await(ctx, acked, l.Patience); err != nil {
			return Report{}, err
		}
	}
	stop()
	for _, c := range consumers {
		<-c.done
	}
	return l.report(producers, consumers), nil
}

// A window is the measured time: by when records were due.
type window struct{ from, to time.Time }

func (w window) holds(t time.Time) bool { return !t.Before(w.from) && t.Before(w.to) }

func (l Load) report(producers []*producer, consumers []*consumer) Report {
	r := Report{Seconds: l.For.Seconds()}
	ack, delay, endToEnd := histogram(), histogram(), histogram()
	var measured int64
	for _, p := range producers {
		ack.Merge(p.latency)
		delay.Merge(p.delay)
		r.Records += p.sent
		r.Failed += p.failed
		measured += p.measured
	}
	r.Bytes = r.Records * int64(l.RecordBytes)
	r.Acked = float64(measured) * float64(l.RecordBytes) / 1e6 / r.Seconds
	for _, c := range consumers {
		endToEnd.Merge(c.latency)
		r.Duplicated += c.duplicated
		r.Reordered += c.reordered
		r.Lost += r.Records - r.Failed - c.unique
	}
	r.Lost = max(r.Lost, 0) // a record that was not acknowledged may be there
	r.Ack, r.EndToEnd, r.Delay = quantiles(ack), quantiles(endToEnd), quantiles(delay)
	switch {
	case r.Lost+r.Duplicated+r.Reordered > 0:
		r.Invalid = fmt.Sprintf("%d records lost, %d duplicated, %d out of order", r.Lost, r.Duplicated, r.Reordered)
	case r.Failed > 0:
		r.Invalid = fmt.Sprintf("%d records were not acknowledged", r.Failed)
	case r.Delay.P99 > .1*r.Ack.P99:
		r.Invalid = fmt.Sprintf("the driver was %.1f ms late at p99, more than a tenth of the latency", r.Delay.P99)
	case r.Acked < .98*l.MBPerSecond:
		r.Invalid = fmt.Sprintf("%.1f of %.1f MB/s were acknowledged in time", r.Acked, l.MBPerSecond)
	}
	return r
}

func histogram() *hdrhistogram.Histogram { return hdrhistogram.New(1, 120_000_000, 3) }

func count(h *hdrhistogram.Histogram, d time.Duration) {
	_ = h.RecordValue(min(max(d.Microseconds(), 1), 120_000_000)) // within the bounds it was made with
}

func quantiles(h *hdrhistogram.Histogram) Quantiles {
	ms := func(q float64) float64 { return float64(h.ValueAtQuantile(q)) / 1000 }
	return Quantiles{ms(50), ms(99), ms(99.9), ms(100)}
}

// A producer sends its share of the records.
type producer struct {
	Load
	id     int
	client *kgo.Client
	window window

	sent int64
	// What follows is written by franz-go's one goroutine of promises, and read after Flush.
	latency, delay          *hdrhistogram.Histogram
	acked, failed, measured int64
	err                     error
}

func newProducer(l Load, id int, w window) (*producer, error) {
	opts := []kgo.Opt{
		kgo.SeedBrokers(l.Addr), kgo.DefaultProduceTopic(l.Topic), kgo.ProducerLinger(l.Linger),
		kgo.ProducerBatchMaxBytes(int32(l.BatchBytes)), kgo.ProducerBatchCompression(kgo.NoCompression()),
		kgo.MaxBufferedRecords(2_000_000), // an open loop must not be held back: what waits is in the latency
	}
	if l.Spread {
		opts = append(opts, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	}
	client, err := kgo.NewClient(opts...)
	if err != nil {
		return nil, err
	}
	return &producer{Load: l, id: id, client: client, window: w, latency: histogram(), delay: histogram()}, nil
}

// run sends records when they are due until the measured time is over, and waits for their acknowledgements.
func (p *producer) run(ctx context.Context, begun time.Time) error {
	every := time.Duration(float64(p.RecordBytes*p.Producers) / (p.MBPerSecond * 1e6) * float64(time.Second))
	phase := every * time.Duration(p.id) / time.Duration(p.Producers)
	for i := int64(0); ; i++ {
		due := begun.Add(phase + time.Duration(i)*every)
		if !due.Before(p.window.to) {
			break
		}
		now := time.Now()
		if wait := due.Sub(now); wait > 0 {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(wait):
			}
			now = time.Now()
		}
		if p.window.holds(due) {
			count(p.delay, now.Sub(due))
		}
		p.sent++
		p.client.Produce(ctx, p.record(due, i), func(_ *kgo.Record, err error) { p.done(due, err) })
	}
	if err := p.client.Flush(ctx); err != nil {
		return err
	}
	if p.failed > 0 && p.acked == 0 {
		return fmt.Errorf("no record was acknowledged: %w", p.err)
	}
	return nil
}

func (p *producer) done(due time.Time, err error) {
	now := time.Now()
	if err != nil {
		p.failed++
		p.err = err
		return
	}
	p.acked++
	if p.window.holds(due) {
		count(p.latency, now.Sub(due))
	}
	if p.window.holds(now) {
		p.measured++
	}
}

func (p *producer) record(due time.Time, i int64) *kgo.Record {
	value := make([]byte, p.RecordBytes)
	binary.BigEndian.PutUint64(value, uint64(due.UnixNano()))
	binary.BigEndian.PutUint64(value[8:], uint64(p.id)<<48|uint64(i))
	r := &kgo.Record{Value: value}
	if p.Spread {
		r.Partition = int32((i*int64(p.Producers) + int64(p.id)) % int64(p.Partitions))
	}
	return r
}
