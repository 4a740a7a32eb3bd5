package server

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemill/tidemill/protocol"
)

const (
	produce     = int16(protocol.KeyProduce)
	fetch       = int16(protocol.KeyFetch)
	metadata    = int16(protocol.KeyMetadata)
	apiVersions = int16(protocol.KeyAPIVersions)
)

type handlerFunc func(ctx context.Context, c *Conn, r *Request, done func(Response))

func (f handlerFunc) Handle(ctx context.Context, c *Conn, r *Request, done func(Response)) {
	f(ctx, c, r, done)
}

// reply is a response frame with a payload.
func reply(r *Request, payload ...byte) Response {
	frame := binary.BigEndian.AppendUint32(nil, uint32(4+len(payload)))
	frame = binary.BigEndian.AppendUint32(frame, uint32(r.Header.CorrelationID))
	if len(payload) == 0 {
		return Response{Buffers: net.Buffers{frame}} // a pipe waits for somebody to read nothing
	}
	return Response{Buffers: net.Buffers{frame, payload}}
}

func echo(_ context.Context, _ *Conn, r *Request, done func(Response)) { done(reply(r, r.Body...)) }

// A call is a request that a parking handler got.
type call struct {
	ctx  context.Context
	conn *Conn
	r    *Request
	done func(Response)
}

// parked returns a handler that leaves all requests to the test.
func parked() (Handler, chan call) {
	calls := make(chan call, 1000)
	return handlerFunc(func(ctx context.Context, c *Conn, r *Request, done func(Response)) {
		calls <- call{ctx, c, r, done}
	}), calls
}

// A pipeListener hands out ends of net.Pipe, which synctest can wait for.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}
func (l *pipeListener) Close() error   { l.once.Do(func() { close(l.closed) }); return nil }
func (l *pipeListener) Addr() net.Addr { return &net.TCPAddr{} }

// A client is the other end of a connection.
type client struct {
	t testing.TB
	net.Conn
}

func request(key, version int16, id int32, body []byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(10+len(body)))
	b = binary.BigEndian.AppendUint16(b, uint16(key))
	b = binary.BigEndian.AppendUint16(b, uint16(version))
	b = binary.BigEndian.AppendUint32(b, uint32(id))
	return append(append(b, 0xff, 0xff), body...)
}

// send writes without waiting for the server to read.
func (c client) send(frames ...[]byte) {
	go func() {
		for _, f := range frames {
			if _, err := c.Write(f); err != nil {
				return
			}
		}
	}()
}

// recv reads one response and returns its correlation id and payload.
func (c client) recv() (int32, []byte) {
	c.t.Helper()
	var head [8]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		c.t.Fatalf("read response: %v", err)
	}
	payload := make([]byte, binary.BigEndian.Uint32(head[:])-4)
	if _, err := io.ReadFull(c, payload); err != nil {
		c.t.Fatalf("read payload: %v", err)
	}
	return int32(binary.BigEndian.Uint32(head[4:])), payload
}

func (c client) expect(ids ...int32) {
	c.t.Helper()
	for _, want := range ids {
		if got, _ := c.recv(); got != want {
			c.t.Fatalf("got response %d, want %d", got, want)
		}
	}
}

// expectClosed reads to the end, which must come without another byte.
func (c client) expectClosed() {
	c.t.Helper()
	if n, err := c.Read(make([]byte, 1)); n > 0 || err == nil || errors.Is(err, context.DeadlineExceeded) {
		c.t.Fatalf("got %d bytes and %v, want a closed connection", n, err)
	}
}

// A harness is a server on pipes.
type harness struct {
	t      *testing.T
	server *Server
	ln     *pipeListener
	served chan error
	cancel context.CancelFunc
}

func quiet(o Options) Options {
	o.Logger = slog.New(slog.DiscardHandler)
	return o
}

// inBubble runs a test with a server and fake time. The server must have stopped, with every goroutine, at the end.
func inBubble(t *testing.T, h Handler, o Options, f func(t *testing.T, s *harness)) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		s := &harness{t: t, server: New(h, quiet(o)), ln: newPipeListener(), served: make(chan error, 1), cancel: cancel}
		go func() { s.served <- s.server.Serve(ctx, s.ln) }()
		f(t, s)
		cancel()
		<-s.served
		if p, q := s.server.opts.ProduceBudget.InUse(), s.server.opts.OtherBudget.InUse(); p != 0 || q != 0 {
			t.Errorf("budgets in use after the end: %d and %d", p, q)
		}
	})
}

func (s *harness) dial() client {
	a, b := net.Pipe()
	s.ln.conns <- a
	s.t.Cleanup(func() { _ = b.Close() })
	return client{s.t, b}
}

// next returns the next call, after everything that can happen has; ok is false if there is none.
func next(calls chan call) (c call, ok bool) {
	synctest.Wait()
	select {
	case c = <-calls:
		return c, true
	default:
		return call{}, false
	}
}

func mustNext(t testing.TB, calls chan call, id int32) call {
	t.Helper()
	c, ok := next(calls)
	if !ok || c.r.Header.CorrelationID != id {
		t.Fatalf("got call %v of %+v, want request %d", ok, c.r, id)
	}
	return c
}

func mustNotCall(t testing.TB, calls chan call) {
	t.Helper()
	if c, ok := next(calls); ok {
		t.Fatalf("request %d was handled too early", c.r.Header.CorrelationID)
	}
}

// limits are settable limits.
type limits struct {
	DefaultLimits
	total, perIP, size int
	idle               time.Duration
}

func (l *limits) MaxConnections() int                { return l.total }
func (l *limits) MaxConnectionsPerIP(netip.Addr) int { return l.perIP }
func (l *limits) IdleTimeout() time.Duration         { return l.idle }
func (l *limits) MaxRequestBytes() int {
	if l.size > 0 {
		return l.size
	}
	return 100 << 20
}
