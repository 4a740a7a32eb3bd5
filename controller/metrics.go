package controller

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are those of the controller that runs in a broker. A nil one counts nothing.
type Metrics struct {
	moves         *prometheus.CounterVec
	missing, held prometheus.Gauge
}

// NewMetrics registers them. The error is the Registerer's.
func NewMetrics(r prometheus.Registerer) (*Metrics, error) {
	m := &Metrics{
		moves: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "tidemill", Subsystem: "controller", Name: "planned_total",
			Help: "Partitions that plans of this broker, as the controller, sent elsewhere or called back, by reason.",
		}, []string{"reason"}),
		missing: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: "tidemill", Subsystem: "controller", Name: "unknown_loads",
			Help: "Partitions whose load this broker, as the controller, does not know: while there are any, plans go by count alone.",
		}),
		held: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: "tidemill", Subsystem: "controller", Name: "stuck_partitions",
			Help: "Partitions that this broker, as the controller, sent elsewhere, or found without an owner, minutes ago, and that are so still.",
		}),
	}
	return m, errors.Join(r.Register(m.moves), r.Register(m.missing), r.Register(m.held))
}

func (m *Metrics) planned(counts map[Reason]int) {
	if m == nil {
		return
	}
	for reason, n := range counts {
		m.moves.WithLabelValues(string(reason)).Add(float64(n))
	}
}

func (m *Metrics) unknown(partitions int) {
	if m != nil {
		m.missing.Set(float64(partitions))
	}
}

func (m *Metrics) stuck(partitions int) {
	if m != nil {
		m.held.Set(float64(partitions))
	}
}
