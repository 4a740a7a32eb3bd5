package objectstore

import (
	"context"
	"errors"
	"iter"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// observed counts and times requests. See Observe.
type observed struct {
	Store
	put, get, readAt, list, remove opMetrics
}

// Observe returns a Store that counts the requests of s by operation and outcome, their bytes and their seconds, and
// those in flight, in reg. Several stores may share one reg: they add up, as the two of Hedge should.
func Observe(s Store, reg prometheus.Registerer) Store {
	requests := shared(reg, prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "tidemill_objectstore_requests_total", Help: "Requests to the object store that ended, by outcome.",
	}, []string{"op", "outcome"}))
	bytes := shared(reg, prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "tidemill_objectstore_bytes_total", Help: "Bytes of object bodies stored (put) or read (get, read_at).",
	}, []string{"op"}))
	seconds := shared(reg, prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "tidemill_objectstore_request_seconds", Help: "Time until a request to the object store ended.",
		Buckets: prometheus.ExponentialBuckets(0.0005, 2, 16), // 0.5 ms (local file) to 16 s (beyond every deadline)
	}, []string{"op"}))
	flying := shared(reg, prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "tidemill_objectstore_requests_in_flight", Help: "Requests to the object store now under way.",
	}, []string{"op"}))
	of := func(op string) opMetrics {
		return opMetrics{op, requests, bytes.WithLabelValues(op), seconds.WithLabelValues(op), flying.WithLabelValues(op)}
	}
	return &observed{Store: s, put: of("put"), get: of("get"), readAt: of("read_at"), list: of("list"), remove: of("delete")}
}

// shared registers c, or returns the collector that an earlier call registered under its name.
func shared[C prometheus.Collector](reg prometheus.Registerer, c C) C {
	err := reg.Register(c)
	if known, ok := errors.AsType[prometheus.AlreadyRegisteredError](err); ok {
		return known.ExistingCollector.(C)
	}
	if err != nil {
		panic(err) // names and labels above are constants: only a programming error gets here
	}
	return c
}

type opMetrics struct {
	op       string
	requests *prometheus.CounterVec
	bytes    prometheus.Counter
	seconds  prometheus.Observer
	flying   prometheus.Gauge
}

// begin notes a request's start; the returned func its end.
func (m *opMetrics) begin() func(bytes int, err error) {
	started := time.Now()
	m.flying.Inc()
	return func(bytes int, err error) {
		m.flying.Dec()
		m.seconds.Observe(time.Since(started).Seconds())
		m.requests.WithLabelValues(m.op, outcome(err)).Inc()
		if err == nil {
			m.bytes.Add(float64(bytes))
		}
	}
}

// outcome names an error for a metric label. A cancelled write counts as cancelled, not as ambiguous: the store is not
// to blame, and alerts are about the store.
func outcome(err error) string {
	if err == nil {
		return "ok"
	}
	for _, known := range [...]struct {
		err  error
		name string
	}{
		{context.Canceled, "cancelled"},
		{ErrNotFound, "not_found"},
		{ErrConflict, "conflict"},
		{ErrAmbiguous, "ambiguous"},
		{ErrRange, "range"},
		{ErrDenied, "denied"},
		{ErrNoBucket, "no_bucket"},
	} {
		if errors.Is(err, known.err) {
			return known.name
		}
	}
	return "error"
}

func (o *observed) Put(ctx context.Context, key string, body []byte) error {
	end := o.put.begin()
	err := o.Store.Put(ctx, key, body)
	end(len(body), err)
	return err
}

func (o *observed) PutBody(ctx context.Context, key string, body Body) error {
	end := o.put.begin()
	err := PutBody(ctx, o.Store, key, body)
	end(int(body.Size), err)
	return err
}

func (o *observed) Get(ctx context.Context, key string) ([]byte, error) {
	end := o.get.begin()
	body, err := o.Store.Get(ctx, key)
	end(len(body), err)
	return body, err
}

func (o *observed) ReadAt(ctx context.Context, key string, p []byte, off int64) error {
	end := o.readAt.begin()
	err := o.Store.ReadAt(ctx, key, p, off)
	end(len(p), err)
	return err
}

// Near implements NearStore.
func (o *observed) Near() bool { return Near(o.Store) }

// ReadSummed implements SummedStore.
func (o *observed) ReadSummed(ctx context.Context, key string, p []byte, off int64) (uint32, error) {
	end := o.readAt.begin()
	sum, err := ReadSummed(ctx, o.Store, key, p, off)
	end(len(p), err)
	return sum, err
}

// List counts one request for a whole iteration, and its time includes the caller's between objects.
func (o *observed) List(ctx context.Context, prefix, after string) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		var last error
		end := o.list.begin()
		defer func() { end(0, last) }()
		for info, err := range o.Store.List(ctx, prefix, after) {
			last = err
			if !yield(info, err) {
				return
			}
		}
	}
}

func (o *observed) Delete(ctx context.Context, keys ...string) error {
	end := o.remove.begin()
	err := o.Store.Delete(ctx, keys...)
	end(0, err)
	return err
}
