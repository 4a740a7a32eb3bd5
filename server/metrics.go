package server

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tidemill/tidemill/protocol"
)

// metrics holds the instruments, resolved once per key and version as label lookups cost more than a small request.
type metrics struct {
	connections       prometheus.Gauge
	refused           *prometheus.CounterVec
	bytesIn, bytesOut prometheus.Counter
	apis              map[int16]*apiMetrics
}

type apiMetrics struct {
	min      int16
	requests []prometheus.Counter
	seconds  prometheus.Observer
}

func newMetrics(o Options) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: "tidemill", Subsystem: "server", Name: name, Help: help})
	}
	m := &metrics{
		connections: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: "tidemill", Subsystem: "server", Name: "connections", Help: "Open client connections.",
		}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "tidemill", Subsystem: "server", Name: "refused_total",
			Help: "Connections closed by the server, by reason.",
		}, []string{"reason"}),
		bytesIn:  counter("received_bytes_total", "Bytes of request frames."),
		bytesOut: counter("sent_bytes_total", "Bytes of response frames."),
		apis:     map[int16]*apiMetrics{},
	}
	requests := prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "tidemill", Subsystem: "server", Name: "requests_total", Help: "Requests, by request and version.",
	}, []string{"api", "version"})
	seconds := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: "tidemill", Subsystem: "server", Name: "request_seconds",
		Help:    "Time from a whole request to its written response.",
		Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
	}, []string{"api"})
	for _, a := range protocol.APIs() {
		am := &apiMetrics{min: a.Min, seconds: seconds.WithLabelValues(a.Name)}
		for v := a.Min; v <= a.Max; v++ {
			am.requests = append(am.requests, requests.WithLabelValues(a.Name, strconv.Itoa(int(v))))
		}
		m.apis[int16(a.Key)] = am
	}
	if o.Registerer != nil {
		o.Registerer.MustRegister(m.connections, m.refused, m.bytesIn, m.bytesOut, requests, seconds,
			budgetGauge("produce", o.ProduceBudget), budgetGauge("other", o.OtherBudget))
		if o.AnswerBudget != nil {
			o.Registerer.MustRegister(budgetGauge("answer", o.AnswerBudget))
		}
	}
	return m
}

func budgetGauge(kind string, b *Budget) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: "tidemill", Subsystem: "server", Name: "budget_used_bytes",
		Help: "Bytes of requests, and of records in answers, in memory.", ConstLabels: prometheus.Labels{"kind": kind},
	}, func() float64 { return float64(b.InUse()) })
}

// request counts a request; an ApiVersions request of an unknown version counts as none of the versions.
func (m *metrics) request(key, version int16, frameBytes int) {
	m.bytesIn.Add(float64(frameBytes))
	if a := m.apis[key]; a != nil && version >= a.min && int(version-a.min) < len(a.requests) {
		a.requests[version-a.min].Inc()
	}
}

func (m *metrics) response(key int16, took time.Duration) {
	if a := m.apis[key]; a != nil {
		a.seconds.Observe(took.Seconds())
	}
}
