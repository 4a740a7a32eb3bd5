package server

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A parked request learns of the shutdown and its answer is still written; idle connections close at once.
func TestShutdownDrains(t *testing.T) {
	h, calls := parked()
	inBubble(t, h, Options{}, func(t *testing.T, s *harness) {
		idle, parkedFetch, producer := s.dial(), s.dial(), s.dial()
		parkedFetch.send(request(fetch, 4, 1, nil), request(fetch, 4, 2, nil))
		f := mustNext(t, calls, 1)
		producer.send(request(produce, 3, 3, nil))
		p := mustNext(t, calls, 3)
		start := time.Now()
		shut := make(chan error, 1)
		go func() { shut <- s.server.Shutdown(t.Context()) }()
		idle.expectClosed()
		<-f.ctx.Done()
		if cause := context.Cause(f.ctx); !errors.Is(cause, ErrDraining) {
			t.Errorf("cause %v, want ErrDraining", cause)
		}
		f.done(reply(f.r))
		parkedFetch.expect(1)
		parkedFetch.expectClosed() // request 2 is not begun
		synctest.Wait()
		if len(shut) != 0 {
			t.Error("Shutdown did not wait for the produce")
		}
		p.done(reply(p.r))
		producer.expect(3)
		producer.expectClosed()
		if err := <-shut; err != nil || time.Since(start) > time.Second {
			t.Errorf("Shutdown: %v after %v", err, time.Since(start))
		}
		if err := <-s.served; err != nil {
			t.Errorf("Serve: %v, want nil", err)
		}
		s.served <- nil
		mustNotCall(t, calls)
	})
}

// Shutdown does not wait longer than its context for a handler that ignores everything.
func TestShutdownGivesUp(t *testing.T) {
	h, calls := parked()
	inBubble(t, h, Options{}, func(t *testing.T, s *harness) {
		c := s.dial()
		c.send(request(fetch, 4, 1, nil))
		f := mustNext(t, calls, 1)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if err := s.server.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want the deadline", err)
		}
		c.expectClosed()
		released := false
		r := reply(f.r)
		r.Release = func() { released = true }
		f.done(r)
		if !released {
			t.Error("a response after the end was not released")
		}
		if err := s.server.Shutdown(t.Context()); err != nil {
			t.Errorf("second Shutdown: %v", err)
		}
	})
}

// When Serve's context ends, connections are cut off in the middle of whatever they do.
func TestServeContextEnds(t *testing.T) {
	h, calls := parked()
	inBubble(t, h, Options{ProduceBudget: NewBudget(1)}, func(t *testing.T, s *harness) {
		a, b, half := s.dial(), s.dial(), s.dial()
		a.send(request(produce, 3, 1, nil))
		p := mustNext(t, calls, 1)
		b.send(request(produce, 3, 2, nil)) // waits for the budget
		half.send(request(metadata, 1, 3, nil)[:9])
		synctest.Wait()
		s.cancel()
		a.expectClosed()
		b.expectClosed()
		half.expectClosed()
		<-p.ctx.Done()
		p.done(reply(p.r))
	})
}

func TestHandlerPanics(t *testing.T) {
	var log bytes.Buffer
	after := make(chan func(), 1)
	h := handlerFunc(func(ctx context.Context, c *Conn, r *Request, done func(Response)) {
		switch r.Header.CorrelationID {
		case 1:
			after <- func() { done(reply(r)) } // somebody may still call it
			panic("before done")
		case 2:
			done(reply(r))
			panic("after done")
		case 4:
			panic("done is lost")
		}
		echo(ctx, c, r, done)
	})
	inBubble(t, h, Options{}, func(t *testing.T, s *harness) {
		s.server.opts.Logger = slog.New(slog.NewTextHandler(&log, nil))
		for _, id := range []int32{1, 2, 4} {
			c := s.dial()
			c.send(request(metadata, 1, id, []byte("body")))
			c.expectClosed()
		}
		(<-after)()
		c := s.dial()
		c.send(request(metadata, 1, 3, nil))
		c.expect(3)
		synctest.Wait()
	})
	for _, want := range []string{"before done", "after done", "key=Metadata", "version=1", "lifecycle_test.go"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log lacks %q:\n%s", want, log.String())
		}
	}
}

// A client that takes no bytes is closed, holds up nobody, and what it was owed is released.
func TestSlowReader(t *testing.T) {
	released := atomic.Int32{}
	h := handlerFunc(func(_ context.Context, _ *Conn, r *Request, done func(Response)) {
		resp := reply(r, make([]byte, 1<<20)...)
		resp.Release = func() { released.Add(1) }
		done(resp)
	})
	inBubble(t, h, Options{WriteTimeout: 30 * time.Second}, func(t *testing.T, s *harness) {
		slow, steady := s.dial(), s.dial()
		start := time.Now()
		slow.send(request(fetch, 4, 1, nil))
		steady.send(request(fetch, 4, 2, nil))
		steady.expect(2)
		if time.Since(start) != 0 {
			t.Error("one client waited for another")
		}
		<-time.After(31 * time.Second)
		synctest.Wait()
		if n := released.Load(); n != 2 {
			t.Errorf("%d responses released, want 2", n)
		}
		// A client that takes a little at a time is served as long as it takes. The pipe hands out a chunk per deadline.
		patient := s.dial()
		patient.send(request(fetch, 4, 3, nil))
		got := 0
		for buf := make([]byte, 128<<10); got < 8+(1<<20); {
			<-time.After(7 * time.Second)
			n, err := patient.Read(buf)
			if err != nil {
				t.Fatalf("after %d bytes: %v", got, err)
			}
			got += n
		}
	})
}

// serveTCP serves on loopback until the test ends.
func serveTCP(t *testing.T, h Handler) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := New(h, quiet(Options{}))
	served := make(chan error, 1)
	go func() { served <- s.Serve(context.Background(), ln) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return ln.Addr().String()
}

func dialTCP(t *testing.T, addr string) client {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return client{t, c}
}

// A client that closes its sending side still gets its responses.
func TestHalfClosed(t *testing.T) {
	h, calls := parked()
	c := dialTCP(t, serveTCP(t, h))
	if _, err := c.Write(append(request(produce, 3, 1, nil), request(produce, 3, 2, nil)...)); err != nil {
		t.Fatal(err)
	}
	if err := c.Conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	p1, p2 := <-calls, <-calls
	p2.done(reply(p2.r))
	p1.done(reply(p1.r))
	c.expect(1, 2)
	if rest, err := io.ReadAll(c); err != nil || len(rest) > 0 {
		t.Errorf("got %d bytes and %v, want the end", len(rest), err)
	}
}

// Idle connections cost one goroutine and little memory each.
func TestIdleConnections(t *testing.T) {
	const n = 2000
	addr := serveTCP(t, handlerFunc(echo))
	var before, after runtime.MemStats
	goroutines := runtime.NumGoroutine()
	runtime.GC()
	runtime.ReadMemStats(&before)
	for id := range int32(n) {
		c := dialTCP(t, addr)
		if _, err := c.Write(request(metadata, 1, id, make([]byte, 300))); err != nil {
			t.Fatal(err)
		}
		c.expect(id)
	}
	if got := runtime.NumGoroutine() - goroutines; got > n+10 {
		t.Errorf("%d goroutines for %d idle connections", got, n)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	perConn := int64(after.HeapInuse+after.StackInuse-before.HeapInuse-before.StackInuse) / n
	t.Logf("%d bytes per connection, the client's end included", perConn)
	if perConn > 10<<10*raceFactor {
		t.Errorf("%d bytes per connection, want at most 8 KiB and 2 KiB for the client's end", perConn)
	}
}

// A body that is larger than any buffer arrives whole, and its memory is used again.
func TestLargeFrames(t *testing.T) {
	addr := serveTCP(t, handlerFunc(func(_ context.Context, _ *Conn, r *Request, done func(Response)) {
		sum := byte(0)
		for _, b := range r.Body {
			sum += b
		}
		done(reply(r, sum))
	}))
	c := dialTCP(t, addr)
	for id, size := range []int{1, 2037, 2048, 70_000, 1 << 20, 3 << 20, 100} {
		body := bytes.Repeat([]byte{3}, size)
		c.send(request(produce, 3, int32(id), body))
		got, payload := c.recv()
		if got != int32(id) || payload[0] != byte(3*size) {
			t.Errorf("size %d: got response %d with sum %d, want %d with %d", size, got, payload[0], id, byte(3*size))
		}
	}
}

func TestConnTellsTheClient(t *testing.T) {
	conns := make(chan *Conn, 1)
	addr := serveTCP(t, handlerFunc(func(_ context.Context, c *Conn, r *Request, done func(Response)) {
		conns <- c
		done(reply(r))
	}))
	c := dialTCP(t, addr)
	frame := []byte{0, 0, 0, 12, 0, 3, 0, 1, 0, 0, 0, 1, 0, 2, 'm', 'e'}
	c.send(frame)
	c.expect(1)
	conn := <-conns
	if conn.ClientID() != "me" || conn.ID() == 0 {
		t.Errorf("client id %q, id %d", conn.ClientID(), conn.ID())
	}
	if conn.RemoteAddr().String() != c.LocalAddr().String() || conn.LocalAddr().String() != addr {
		t.Errorf("from %v to %v, want %v to %v", conn.RemoteAddr(), conn.LocalAddr(), c.LocalAddr(), addr)
	}
}

func BenchmarkSmallRequests(b *testing.B) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	s := New(handlerFunc(echo), quiet(Options{}))
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, ln) }()
	defer func() { cancel(); <-served }()
	nc, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	c := client{b, nc}
	frame := request(produce, 3, 1, make([]byte, 200))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Write(frame); err != nil {
			b.Fatal(err)
		}
		c.recv()
	}
}
