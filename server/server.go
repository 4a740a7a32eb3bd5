package server

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tidemill/tidemill/internal/memory"
)

// Options configures a Server. The zero value works.
type Options struct {
	// Limits may change at run time; nil means Kafka's defaults.
	Limits Limits
	// ProduceBudget and OtherBudget admit the bodies of requests, produces apart from the rest so that neither starves the
	// other (D11). Defaults: 256 MiB and 64 MiB. A frame's bytes are given back when its response was written.
	ProduceBudget, OtherBudget *Budget
	// AnswerBudget, if set, is what the handler counts its answers by: connections that take theirs slowly are closed while
	// somebody waits for it.
	AnswerBudget *Budget
	// Memory lends the memory of frames; nil means a pool of the server's own.
	Memory *memory.Pool
	// ReadAheadRequests and ReadAheadBytes bound the produces of one connection that wait for their acknowledgement. One
	// produce is always admitted. Defaults: 64 and 8 MiB.
	ReadAheadRequests int
	ReadAheadBytes    int64
	// FrameTimeout is how long a frame that was begun may go without a byte. Default: 10 s.
	FrameTimeout time.Duration
	// WriteTimeout is how long a client may take for each 256 KiB of responses. Default: 30 s.
	WriteTimeout time.Duration
	// Logger is slog.Default() if nil.
	Logger *slog.Logger
	// Registerer receives the metrics; nil means none.
	Registerer prometheus.Registerer
}

func (o Options) withDefaults() Options {
	if o.Limits == nil {
		o.Limits = DefaultLimits{}
	}
	if o.ProduceBudget == nil {
		o.ProduceBudget = NewBudget(256 << 20)
	}
	if o.OtherBudget == nil {
		o.OtherBudget = NewBudget(64 << 20)
	}
	if o.Memory == nil {
		o.Memory = memory.NewPool(keptBytes)
	}
	if o.ReadAheadRequests == 0 {
		o.ReadAheadRequests = 64
	}
	if o.ReadAheadBytes == 0 {
		o.ReadAheadBytes = 8 << 20
	}
	if o.FrameTimeout == 0 {
		o.FrameTimeout = 10 * time.Second
	}
	if o.WriteTimeout == 0 {
		o.WriteTimeout = 30 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return o
}

// DefaultLimits are Kafka's defaults: any number of connections, 10 minutes idle, requests of 100 MiB.
type DefaultLimits struct{}

// MaxConnections returns 0: no bound.
func (DefaultLimits) MaxConnections() int { return 0 }

// MaxConnectionsPerIP returns 0: no bound.
func (DefaultLimits) MaxConnectionsPerIP(netip.Addr) int { return 0 }

// IdleTimeout returns 10 minutes.
func (DefaultLimits) IdleTimeout() time.Duration { return 10 * time.Minute }

// MaxRequestBytes returns 100 MiB.
func (DefaultLimits) MaxRequestBytes() int { return 100 << 20 }

// A Server serves one listener or several. Its methods are safe for concurrent use.
type Server struct {
	handler Handler
	opts    Options
	metrics *metrics
	nextID  atomic.Uint64
	// goneInterval is the constant, but for tests.
	goneInterval time.Duration

	mu struct {
		sync.Mutex
		draining  bool
		listeners map[net.Listener]bool
		conns     map[*Conn]bool
		perIP     map[netip.Addr]int
		// empty is closed when draining and the last connection is gone.
		empty chan struct{}
	}
}

// New returns a Server that starts nothing.
func New(h Handler, o Options) *Server {
	o = o.withDefaults()
	s := &Server{handler: h, opts: o, goneInterval: goneInterval}
	s.mu.listeners = map[net.Listener]bool{}
	s.mu.conns = map[*Conn]bool{}
	s.mu.perIP = map[netip.Addr]int{}
	s.mu.empty = make(chan struct{})
	s.metrics = newMetrics(o)
	return s
}

// Serve accepts connections until ctx ends, Shutdown is called (nil then) or ln breaks. It closes ln. When ctx ends, all
// connections are closed at once. It returns when its connections' goroutines have.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	if !s.addListener(ln) {
		return ln.Close()
	}
	defer s.removeListener(ln)
	stop := context.AfterFunc(ctx, func() { _ = ln.Close() })
	defer stop()
	watching, unwatch := context.WithCancel(ctx)
	defer unwatch()
	wg.Go(func() { s.watchConns(watching) })
	err := s.accept(ctx, ln, &wg)
	if s.isDraining() {
		unwatch()
		wg.Wait() // Shutdown decides when to cut connections off
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// acceptPause is how long to wait when the process is out of file descriptors, as net/http does.
const acceptPause = 50 * time.Millisecond

func (s *Server) accept(ctx context.Context, ln net.Listener, wg *sync.WaitGroup) error {
	for {
		nc, err := ln.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) || ctx.Err() != nil {
				return err
			}
			var temporary interface{ Temporary() bool }
			if !errors.As(err, &temporary) || !temporary.Temporary() {
				return err
			}
			s.opts.Logger.Warn("accept", "error", err)
			select {
			case <-ctx.Done():
			case <-time.After(acceptPause):
			}
			continue
		}
		c := s.addConn(ctx, nc)
		if c == nil {
			_ = nc.Close()
			continue
		}
		wg.Go(func() {
			defer s.removeConn(c)
			c.serve()
		})
	}
}

func (s *Server) addListener(ln net.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.draining {
		return false
	}
	s.mu.listeners[ln] = true
	return true
}

func (s *Server) removeListener(ln net.Listener) {
	s.mu.Lock()
	delete(s.mu.listeners, ln)
	s.mu.Unlock()
	_ = ln.Close()
}

func (s *Server) isDraining() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.draining
}

func remoteIP(a net.Addr) netip.Addr {
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap()
}

// addConn returns nil for a connection that is one too many.
func (s *Server) addConn(ctx context.Context, nc net.Conn) *Conn {
	ip := remoteIP(nc.RemoteAddr())
	total, perIP := s.opts.Limits.MaxConnections(), s.opts.Limits.MaxConnectionsPerIP(ip)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.mu.draining:
		return nil
	case total > 0 && len(s.mu.conns) >= total:
		s.metrics.refused.WithLabelValues("connections").Inc()
		return nil
	case perIP > 0 && s.mu.perIP[ip] >= perIP:
		s.metrics.refused.WithLabelValues("connections_per_ip").Inc()
		return nil
	}
	c := newConn(ctx, s, nc, ip)
	s.mu.conns[c] = true
	s.mu.perIP[ip]++
	s.metrics.connections.Inc()
	return c
}

func (s *Server) removeConn(c *Conn) {
	s.metrics.connections.Dec()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.mu.conns, c)
	if s.mu.perIP[c.ip]--; s.mu.perIP[c.ip] == 0 {
		delete(s.mu.perIP, c.ip)
	}
	if s.mu.draining && len(s.mu.conns) == 0 {
		close(s.mu.empty)
	}
}

// Shutdown closes the listeners, ends the contexts of all requests, lets the responses of requests in flight be written, and
// closes the connections: idle ones at once, the others when they are done or ctx ends. It returns nil or ctx's cause. Only
// the first call does this; another one waits for the same end.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	first := !s.mu.draining
	s.mu.draining = true
	for ln := range s.mu.listeners {
		_ = ln.Close()
	}
	conns := make([]*Conn, 0, len(s.mu.conns))
	for c := range s.mu.conns {
		conns = append(conns, c)
	}
	if first && len(conns) == 0 {
		close(s.mu.empty)
	}
	s.mu.Unlock()
	for _, c := range conns {
		c.drain()
	}
	select {
	case <-s.mu.empty:
		return nil
	case <-ctx.Done():
	}
	for _, c := range conns {
		c.abort()
	}
	<-s.mu.empty
	return context.Cause(ctx)
}
