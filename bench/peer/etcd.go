package peer

import (
	"fmt"
	"strings"

	"github.com/tidemill/tidemill/bench/observe"
	"github.com/tidemill/tidemill/internal/process"
)

// Etcd is a real etcd in a process of its own, so that what a broker asks of it can be counted.
type Etcd struct {
	*Process
	Addr    string
	metrics string
}

// Etcd starts an etcd.
func (l *Lab) Etcd() (*Etcd, error) {
	dir, err := l.Folder("etcd")
	if err != nil {
		return nil, err
	}
	addr, err := process.FreeAddress()
	if err != nil {
		return nil, err
	}
	metrics, err := process.FreeAddress()
	if err != nil {
		return nil, err
	}
	p, err := l.start("etcd", nil, []string{l.self, "etcd", "-dir", dir, "-listen", addr, "-metrics", metrics})
	if err != nil {
		return nil, err
	}
	e := &Etcd{p, addr, "http://" + metrics + "/metrics"}
	return e, p.until(readyLimit, func() error { _, err := e.Calls(); return err })
}

// Calls returns how often each method of etcd's was called.
func (e *Etcd) Calls() (map[string]int, error) {
	m, err := observe.Scrape(e.metrics)
	if err != nil {
		return nil, err
	}
	calls := map[string]int{}
	for series, n := range m {
		if labels, ok := strings.CutPrefix(series, "grpc_server_started_total{"); ok {
			_, rest, _ := strings.Cut(labels, `grpc_method="`)
			method, _, _ := strings.Cut(rest, `"`)
			calls[method] += int(n)
		}
	}
	if len(calls) == 0 {
		return nil, fmt.Errorf("etcd counts no calls at %s", e.metrics)
	}
	return calls, nil
}

// DBBytes is how large its database is on disk.
func (e *Etcd) DBBytes() (float64, error) {
	m, err := observe.Scrape(e.metrics)
	if err != nil {
		return 0, err
	}
	return m.Need("etcd_mvcc_db_total_size_in_bytes")
}
