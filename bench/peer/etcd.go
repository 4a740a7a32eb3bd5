package peer

import (
	"bufio"
	"fmt"
	"net/http"
	"strconv"
	"strings"
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
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	metrics, err := freeAddr()
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
	resp, err := http.Get(e.metrics)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	calls := map[string]int{}
	in := bufio.NewScanner(resp.Body)
	for in.Scan() {
		line, ok := strings.CutPrefix(in.Text(), "grpc_server_started_total{")
		if !ok {
			continue
		}
		_, rest, _ := strings.Cut(line, `grpc_method="`)
		method, _, _ := strings.Cut(rest, `"`)
		n, err := strconv.ParseFloat(line[strings.LastIndexByte(line, ' ')+1:], 64)
		if err != nil {
			return nil, fmt.Errorf("etcd's metrics: %s: %w", line, err)
		}
		calls[method] += int(n)
	}
	if len(calls) == 0 {
		return nil, fmt.Errorf("etcd counts no calls at %s", e.metrics)
	}
	return calls, in.Err()
}
