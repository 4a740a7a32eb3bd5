package server

import (
	"context"
	"log/slog"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Options configures a Server. The zero value works.
type Options struct {
	// Limits may change at run time; nil means Kafka's defaults.
	Limits Limits
	// ProduceBudget and OtherBudget admit the bodies of requests, produces apart from the rest so that neither starves the
	// other (D11). Defaults: 256 MiB and 64 MiB. A frame's bytes are given back when its response was written.
	ProduceBudget, OtherBudget *Budget
	// ReadAheadRequests and ReadAheadBytes bound the produces of one connection that wait for their acknowledgement.
	// Defaults: 64 and 8 MiB.
	ReadAheadRequests int
	ReadAheadBytes    int64
	// FrameTimeout is how long a frame that was begun may go without a byte, and a response without one taken. Default: 10 s.
	FrameTimeout time.Duration
	Logger       *slog.Logger
	// Registerer receives the metrics; nil means none.
	Registerer prometheus.Registerer
}

// A Server serves one listener or several.
type Server struct{}

// New returns a Server that starts nothing.
func New(h Handler, o Options) *Server { return &Server{} }

// Serve accepts connections until ctx ends, Shutdown is called (nil then) or ln breaks. It closes ln. When ctx ends, all
// connections are closed at once. It returns when its connections' goroutines have.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error { return nil }

// Shutdown closes the listeners, ends the contexts of all requests, lets the responses of requests in flight be written, and
// closes the connections: idle ones at once, the others when they are done or ctx ends. It returns nil or ctx's cause.
func (s *Server) Shutdown(ctx context.Context) error { return nil }
