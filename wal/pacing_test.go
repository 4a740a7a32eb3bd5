package wal

import (
	"context"
	"fmt"
	"iter"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemill/tidemill/objectstore"
	"github.com/tidemill/tidemill/protocol"
)

// sizeScale makes bodies smaller than they stand for: the model's time depends on the size, the test's memory should not.
const sizeScale = 64

// An s3Model is a store with the latencies of S3 Standard, log-normal with a median that grows with the size, and with a
// thousandth of outliers. It works on the bubble's clock.
type s3Model struct {
	mu   sync.Mutex
	rng  *rand.Rand
	held map[string]bool
	puts int
}

func newS3Model(seed uint64) *s3Model {
	return &s3Model{rng: rand.New(rand.NewPCG(seed, 1)), held: map[string]bool{}}
}

// latency draws one PUT's.
func (m *s3Model) latency(bytes int) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.puts++
	mb := float64(bytes) * sizeScale / 1e6
	median, sigma := 40+10*mb, .55
	outlier := 500 + 1500*m.rng.Float64()
	ms := median * math.Exp(sigma*m.rng.NormFloat64())
	if m.rng.Float64() < .001 {
		ms += outlier
	}
	return time.Duration(ms * float64(time.Millisecond))
}

func (m *s3Model) Put(ctx context.Context, key string, body []byte) error {
	t := time.NewTimer(m.latency(len(body)))
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
		return fmt.Errorf("put %s: %w: %w", key, objectstore.ErrAmbiguous, ctx.Err())
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.held[key] {
		return objectstore.ErrConflict
	}
	m.held[key] = true
	return nil
}

func (m *s3Model) Get(context.Context, string) ([]byte, error) { return nil, objectstore.ErrNotFound }
func (m *s3Model) ReadAt(context.Context, string, []byte, int64) error {
	return objectstore.ErrNotFound
}
func (m *s3Model) Delete(context.Context, ...string) error { return nil }
func (m *s3Model) List(context.Context, string, string) iter.Seq2[objectstore.Info, error] {
	return func(func(objectstore.Info, error) bool) {}
}

// paceSink notes how long requests took, which are numbered by their offsets, and what was cut together.
type paceSink struct {
	mu    sync.Mutex
	sent  map[int64]time.Time
	took  []time.Duration
	slots int
}

func (p *paceSink) Committed(s *Slot) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.slots++
	for _, c := range s.Chunks {
		for o := c.BaseOffset; o <= c.LastOffset; o++ {
			p.took = append(p.took, time.Since(p.sent[o]))
		}
	}
}

func (p *paceSink) Fenced(error) {}

// send appends a request of size bytes and notes when.
func (p *paceSink) send(t *testing.T, w *Writer, n int64, size int) {
	t.Helper()
	p.mu.Lock()
	p.sent[n] = time.Now()
	p.mu.Unlock()
	e := Entry{Partition: protocol.PartitionID{Partition: 1}, BaseOffset: n, LastOffset: n, Data: make([]byte, size)}
	if err := w.Append(e); err != nil {
		t.Fatal(err)
	}
	w.Nudge()
}

// withPacedWriter runs do on a writer whose clock is the bubble's, and returns what its sink saw.
func withPacedWriter(t *testing.T, store objectstore.Store, o Options, do func(*Writer, *paceSink)) *paceSink {
	t.Helper()
	sink := &paceSink{sent: map[int64]time.Time{}}
	w := NewWriter(Life{Broker: 1, Epoch: 1}, store, sink, o)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	do(w, sink)
	if err := w.Close(ctx); err != nil {
		t.Error(err)
	}
	cancel()
	<-ended
	return sink
}

var (
	forLatency = Options{PutsPerSecond: LatencyPutsPerSecond, EagerBytes: LatencyEagerBytes, Window: MaxWindow}
	forCost    = Options{PutsPerSecond: CostPutsPerSecond, Window: MaxWindow}
)

type paced struct {
	p50, p99, p999 time.Duration
	putsPerGB      float64 // hedges included
}

// pace sends requests of 64 KiB at a rate in MB/s for a minute, whatever becomes of the earlier ones, and measures each from
// the moment it was due.
func pace(t *testing.T, o Options, mbps float64, hedge bool) (r paced) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		const request = 64 << 10
		model := newS3Model(7)
		o.SlotBytes, o.EagerBytes = 8<<20/sizeScale, o.EagerBytes/sizeScale
		var store objectstore.Store = model
		if hedge {
			store = objectstore.Hedge(model, model, objectstore.HedgeOptions{})
		}
		rng := rand.New(rand.NewPCG(7, 2))
		gap := request / (mbps * 1e6) * float64(time.Second)
		var n int64
		sink := withPacedWriter(t, store, o, func(w *Writer, sink *paceSink) {
			begun := time.Now()
			for due := begun; due.Sub(begun) < time.Minute; n++ {
				due = due.Add(time.Duration(rng.ExpFloat64() * gap))
				<-time.After(time.Until(due))
				sink.send(t, w, n, request/sizeScale)
			}
		})
		slices.Sort(sink.took)
		at := func(q float64) time.Duration { return sink.took[int(q*float64(len(sink.took)-1))] }
		r = paced{at(.5), at(.99), at(.999), float64(model.puts) / (float64(n*request) / 1e9)}
	})
	return r
}

// TestPacingOnS3Standard measures both settings of docs/decisions/0004 on the model of S3 Standard, one PUT in a thousand
// 0.5 to 2 s late.
func TestPacingOnS3Standard(t *testing.T) {
	const ms = time.Millisecond
	for _, c := range []struct {
		name           string
		options        Options
		mbps           float64
		p50, p99, p999 time.Duration
		putsPerGB      float64
	}{
		{"latency, 5 MB/s", forLatency, 5, 110 * ms, 280 * ms, 800 * ms, 5600},
		{"latency, 30 MB/s", forLatency, 30, 110 * ms, 280 * ms, 800 * ms, 1450},
		{"latency, 100 MB/s", forLatency, 100, 150 * ms, 1200 * ms, 2500 * ms, 530},
		{"cost, 5 MB/s", forCost, 5, 300 * ms, 700 * ms, 1500 * ms, 680},
		{"cost, 30 MB/s", forCost, 30, 320 * ms, 900 * ms, 2000 * ms, 140},
		{"cost, 100 MB/s", forCost, 100, 300 * ms, 1200 * ms, 2500 * ms, 135},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := pace(t, c.options, c.mbps, true)
			t.Logf("p50 %d, p99 %d, p99.9 %d ms, %.0f PUTs per GB", r.p50.Milliseconds(), r.p99.Milliseconds(), r.p999.Milliseconds(), r.putsPerGB)
			if r.p50 > c.p50 || r.p99 > c.p99 || r.p999 > c.p999 || r.putsPerGB > c.putsPerGB {
				t.Errorf("want at most %v, %v, %v and %v PUTs per GB", c.p50, c.p99, c.p999, c.putsPerGB)
			}
		})
	}
	if plain, hedged := pace(t, forLatency, 30, false), pace(t, forLatency, 30, true); plain.p999 < 2*hedged.p999 {
		t.Errorf("p99.9 is %v without second attempts and %v with them: the model has no outliers to hedge", plain.p999, hedged.p999)
	}
}

// even is a store whose PUTs take the same time each.
type even struct {
	*s3Model
	takes time.Duration
}

func (e even) Put(ctx context.Context, _ string, _ []byte) error {
	e.mu.Lock()
	e.puts++
	e.mu.Unlock()
	select {
	case <-time.After(e.takes):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// TestLoneRecordGoesAtOnce: a record on an idle log takes one PUT, to the nanosecond, in every setting.
func TestLoneRecordGoesAtOnce(t *testing.T) {
	for name, o := range map[string]Options{"latency": forLatency, "cost": forCost, "free": {}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := even{newS3Model(1), 60 * time.Millisecond}
				const records = 100
				sink := withPacedWriter(t, store, o, func(w *Writer, sink *paceSink) {
					for n := range int64(records) {
						sink.send(t, w, n, 100)
						<-time.After(time.Second)
					}
				})
				for n, took := range sink.took {
					if took != store.takes {
						t.Fatalf("record %d took %v, a PUT takes %v", n, took, store.takes)
					}
				}
				if store.puts != records+1 { // and CLOSE
					t.Errorf("%d PUTs for %d records", store.puts, records)
				}
			})
		})
	}
}

// TestIdleLogSendsNothing for a day.
func TestIdleLogSendsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := even{newS3Model(1), 60 * time.Millisecond}
		withPacedWriter(t, store, forLatency, func(w *Writer, sink *paceSink) {
			sink.send(t, w, 0, 100)
			<-time.After(24 * time.Hour)
			if store.puts != 1 {
				t.Errorf("%d PUTs for one record", store.puts)
			}
		})
	})
}
