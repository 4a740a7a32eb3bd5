package server

import (
	"bufio"
	"context"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// readBufferSize holds several small requests; larger ones are read past it.
const readBufferSize = 2 << 10

// A Conn is one client connection, as handlers see it. Methods are safe for concurrent use.
type Conn struct {
	id     uint64
	ip     netip.Addr
	server *Server
	nc     net.Conn
	// parent is what Serve was given; ctx is what handlers get, and also ends when the server drains.
	parent context.Context
	ctx    context.Context
	cancel context.CancelCauseFunc

	clientID atomic.Pointer[string]

	// readBy and writtenBy are the pressureDeadlines of the frame that is coming and of the bytes that are being written, in
	// Unix nanoseconds; 0 without any.
	readBy, writtenBy atomic.Int64

	// r and started belong to the reader goroutine. started says that a request was read.
	r       *bufio.Reader
	started bool

	mu struct {
		sync.Mutex
		// queue holds the requests without a written response, in order of arrival.
		queue []*pending
		// queuedBytes is the sum of their frames.
		queuedBytes int64
		// handling is set while the reader is in Handle: it will write what is ready by then.
		handling bool
		// writing is set while somebody writes responses.
		writing bool
		// quietSince is when the last response was written.
		quietSince time.Time
		// draining is set when nothing more is to be read.
		draining bool
		// broken is set when nothing more is to be written.
		broken bool
	}
	// changed is signalled when the queue shrinks, writing ends or broken is set.
	changed sync.Cond
}

func newConn(ctx context.Context, s *Server, nc net.Conn, ip netip.Addr) *Conn {
	c := &Conn{id: s.nextID.Add(1), ip: ip, server: s, nc: nc, parent: ctx, r: bufio.NewReaderSize(nc, readBufferSize)}
	c.ctx, c.cancel = context.WithCancelCause(ctx)
	c.changed.L = &c.mu
	return c
}

// ID is unique within the process.
func (c *Conn) ID() uint64 { return c.id }

// RemoteAddr is the client's address.
func (c *Conn) RemoteAddr() net.Addr { return c.nc.RemoteAddr() }

// LocalAddr is the address that the client reached.
func (c *Conn) LocalAddr() net.Addr { return c.nc.LocalAddr() }

// ClientID is the client id of the latest request, "" if it had none.
func (c *Conn) ClientID() string {
	if p := c.clientID.Load(); p != nil {
		return *p
	}
	return ""
}

// serve reads requests until the connection ends, then waits for the responses in flight and closes it.
func (c *Conn) serve() {
	stop := context.AfterFunc(c.parent, c.abort)
	defer stop()
	c.readRequests()
	c.mu.Lock()
	for (len(c.mu.queue) > 0 && !c.mu.broken) || c.mu.writing {
		c.changed.Wait()
	}
	c.mu.Unlock()
	c.abort()
}

// drain makes the reader stop before its next request and ends the contexts of requests in flight.
func (c *Conn) drain() {
	c.mu.Lock()
	c.mu.draining = true
	_ = c.nc.SetReadDeadline(time.Unix(1, 0))
	c.changed.Broadcast()
	c.mu.Unlock()
	c.cancel(ErrDraining)
}

// abort closes the connection now. Responses that are still to come are released unwritten.
func (c *Conn) abort() {
	c.mu.Lock()
	c.mu.draining, c.mu.broken = true, true
	dropped := c.dropReadyLocked()
	c.changed.Broadcast()
	c.mu.Unlock()
	_ = c.nc.Close()
	c.cancel(net.ErrClosed)
	for _, p := range dropped {
		p.release()
	}
}

// setReadDeadline keeps a deadline that drain has set.
func (c *Conn) setReadDeadline(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.mu.draining {
		_ = c.nc.SetReadDeadline(t)
	}
}

func (c *Conn) isDraining() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.draining
}
