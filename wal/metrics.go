package wal

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are the writer's. A nil *Metrics counts nothing.
type Metrics struct {
	slots     prometheus.Counter
	bytes     prometheus.Counter
	puts      prometheus.Counter
	retries   prometheus.Counter
	conflicts prometheus.Counter
	alarms    prometheus.Counter
	latency   prometheus.Histogram
	window    prometheus.Gauge
	open      prometheus.Gauge
	// stalled is asked when it is scraped: while nothing happens nobody would set it.
	stalled prometheus.GaugeFunc
	writer  atomic.Pointer[Writer]
}

// NewMetrics registers the writer's metrics with r.
func NewMetrics(r prometheus.Registerer) (*Metrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "tidemill_wal_" + name, Help: help})
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: "tidemill_wal_" + name, Help: help})
	}
	m := &Metrics{
		slots:     counter("slots_committed_total", "Slots that are durable together with all slots before them."),
		bytes:     counter("slot_bytes_committed_total", "Bytes of committed slot objects."),
		puts:      counter("put_attempts_total", "Attempts to store a slot."),
		retries:   counter("put_retries_total", "Attempts to store a slot after an earlier one of unknown outcome."),
		conflicts: counter("put_conflicts_total", "Slots whose key was taken and whose header was read to learn by whom."),
		alarms:    counter("alarms_total", "Answers of the store that no correct store gives."),
		latency: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "tidemill_wal_commit_seconds", Help: "Time from the first batch of a slot to its commit.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .2, .4, .8, 1.6, 3.2, 6.4, 30},
		}),
		window: gauge("window_slots", "Slots sent and not yet committed."),
		open:   gauge("open_bytes", "Bytes appended and not yet cut into a slot."),
	}
	m.stalled = prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "tidemill_wal_stalled", Help: "1 while the oldest slot is unresolved for too long, or too much waits for a slot.",
	}, m.stalledNow)
	for _, c := range []prometheus.Collector{
		m.slots, m.bytes, m.puts, m.retries, m.conflicts, m.alarms, m.latency, m.window, m.open, m.stalled,
	} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *Metrics) committed(s *Slot, took time.Duration) {
	if m == nil {
		return
	}
	m.slots.Inc()
	m.bytes.Add(float64(s.Object.Size()))
	m.latency.Observe(took.Seconds())
}

func (m *Metrics) put(attempt int) {
	if m == nil {
		return
	}
	m.puts.Inc()
	if attempt > 1 {
		m.retries.Inc()
	}
}

func (m *Metrics) conflict() {
	if m != nil {
		m.conflicts.Inc()
	}
}

func (m *Metrics) alarm() {
	if m != nil {
		m.alarms.Inc()
	}
}

func (m *Metrics) state(window int, open int64) {
	if m == nil {
		return
	}
	m.window.Set(float64(window))
	m.open.Set(float64(open))
}

// watch makes the metrics those of w.
func (m *Metrics) watch(w *Writer) {
	if m != nil {
		m.writer.Store(w)
	}
}

func (m *Metrics) stalledNow() float64 {
	if w := m.writer.Load(); w != nil && w.Stalled() {
		return 1
	}
	return 0
}
