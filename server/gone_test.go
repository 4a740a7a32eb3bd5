//go:build unix

package server

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/tidemill/tidemill/protocol"
)

// A client that is gone while its request is parked is noticed, though nobody reads from its connection; one that only has
// nothing more to say is not.
func TestGoneClients(t *testing.T) {
	h := make(gated, 10)
	s := New(h, Options{})
	s.goneInterval = 5 * time.Millisecond
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		<-served
	})
	dial := func() *net.TCPConn {
		nc, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { nc.Close() })
		if _, err := nc.Write(request(int16(protocol.KeyFetch), 4, 1, nil)); err != nil {
			t.Fatal(err)
		}
		return nc.(*net.TCPConn)
	}
	half := dial()
	waiting := <-h
	if err := half.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	gone := dial()
	parked := <-h
	if err := gone.SetLinger(0); err != nil { // a reset
		t.Fatal(err)
	}
	gone.Close()
	<-parked.ctx.Done()
	close(parked.leave)
	if waiting.ctx.Err() != nil {
		t.Error("a client that only closed its own direction was given up")
	}
	close(waiting.leave)
	buf := make([]byte, 8)
	if _, err := half.Read(buf); err != nil {
		t.Errorf("it got no answer: %v", err)
	}
}

// gated is a handler that keeps the reader until it is let go, as a long poll does.
type gated chan gatedCall

type gatedCall struct {
	ctx   context.Context
	leave chan struct{}
}

func (g gated) Handle(ctx context.Context, _ *Conn, r *Request, done func(Response)) {
	c := gatedCall{ctx, make(chan struct{})}
	g <- c
	<-c.leave
	done(reply(r))
}
