// Package server accepts connections and keeps the order of requests and responses on each of them.
//
// It knows frames and their order, and no request but one fact: produces may overlap produces. Invariants: responses are
// written in the order of their requests; a request that is not a produce starts when all earlier responses are written,
// and those behind it wait (A2); no byte of a body is read before its Budget admits it (D11); at most one goroutine belongs
// to an idle connection.
package server

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/tidemill/tidemill/internal/memory"
	"github.com/tidemill/tidemill/protocol"
)

// ErrDraining is the cause of a request context's end when the server shuts down: a parked request is to answer what it has.
var ErrDraining = errors.New("server is shutting down")

// A Handler answers requests. Handle is called from the connection's reader goroutine, in the order of arrival, and must
// call done exactly once, from any goroutine, during the call or after it. It must not block for a produce, as the requests
// behind it would not be read. ctx ends when the connection closes or, with cause ErrDraining, when the server shuts down;
// done is still to be called then. A panic in Handle closes the connection.
type Handler interface {
	Handle(ctx context.Context, c *Conn, r *Request, done func(Response))
}

// A Request is one request as it came. It and what aliases its Body are valid until done was called and Response.Buffers
// was written: longer if retained, shorter if given back.
type Request struct {
	Header protocol.Header
	// Body is what follows the header. An ApiVersions request of an unknown version is passed on like any other: the handler
	// answers it with a version 0 body (A3).
	Body []byte
	// Received is when the frame was complete.
	Received time.Time

	frame *frame
	// given is set once the server's own reference to frame was dropped.
	given atomic.Bool
}

// GiveBack ends the use of Body before the answer, and returns the budget that its bytes take: a request that waits for
// something else, as a long poll does, would keep others out. Nothing that aliases Body may be read afterwards. More calls
// than one do nothing.
func (r *Request) GiveBack() {
	if !r.given.Swap(true) {
		r.drop()
	}
}

// drop gives one reference to the frame back. With the last one goes what keeps its memory reachable: a request that waits
// on would hold it though no budget counts it any more.
func (r *Request) drop() {
	if r.frame.release() {
		r.Body = nil
	}
}

// Retain keeps Body, and the budget that its bytes take, until release is called: a produce that timed out is answered
// while the log still reads its batches. Call it before done. release must be called exactly once.
func (r *Request) Retain() (release func()) {
	r.frame.refs.Add(1)
	return r.drop
}

// Block is the memory that Body lies in. Who retains it may read it on after the answer, beyond the server's budget.
func (r *Request) Block() *memory.Block { return r.frame.block }

// A Response is what a handler makes of a request.
type Response struct {
	// Buffers is the whole frame, with its size. The server owns the slice afterwards, and reads the bytes until Release.
	Buffers net.Buffers
	// Close closes the connection after this response and those before it were written (A7, A8). Buffers may be empty.
	Close bool
	// Silent means that there is no response: a produce with acks=0 (A8).
	Silent bool
	// Release, if set, is called exactly once when Buffers is no longer read, whether it was written or not.
	Release func()
}

// Limits are the settings that may change while the server runs. Methods are called often and from any goroutine.
type Limits interface {
	// MaxConnections bounds all connections together; 0 means no bound.
	MaxConnections() int
	// MaxConnectionsPerIP bounds the connections from one address; 0 means no bound.
	MaxConnectionsPerIP(ip netip.Addr) int
	// IdleTimeout is connections.max.idle.ms; 0 means never.
	IdleTimeout() time.Duration
	// MaxRequestBytes is socket.request.max.bytes.
	MaxRequestBytes() int
}
