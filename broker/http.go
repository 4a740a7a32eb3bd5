package broker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

var (
	errNotServing = errors.New("not serving: starting or stopping")
	errStalled    = errors.New("storage is stalled: the oldest write is not durable for more than 5 s")
)

// etcdSilenceMax is longer than any pause between two answers of an etcd that is well: the lease is refreshed each 3 s or so.
const etcdSilenceMax = 10 * time.Second

// httpHandler serves operators: metrics, liveness, readiness and profiles.
func (b *Broker) httpHandler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(b.reg, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := b.ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		if silent := b.meta.Silence(); silent > etcdSilenceMax {
			// Nothing that clients do all day needs etcd, so the broker stays ready.
			fmt.Fprintf(w, "ok, but etcd has not answered for %v\n", silent.Round(time.Second))
			return
		}
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return mux
}

// serveHTTP serves operators until ctx ends.
func (b *Broker) serveHTTP(ctx context.Context, ln net.Listener) error {
	s := &http.Server{Handler: b.httpHandler(), ReadHeaderTimeout: 10 * time.Second, BaseContext: func(net.Listener) context.Context { return ctx }}
	stop := context.AfterFunc(ctx, func() { _ = s.Close() })
	defer stop()
	if err := s.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve HTTP: %w", err)
	}
	return nil
}
