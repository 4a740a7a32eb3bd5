package server

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"time"

	"github.com/tidemill/tidemill/protocol"
)

const (
	// firstRequestMax bounds the first request of a connection unless it is a produce, which has a budget of its own. It is
	// Kafka's limit before authentication (A1).
	firstRequestMax = 512 << 10
	// slowestRate is how slowly a frame may trickle in, in bytes per second, on top of FrameTimeout.
	slowestRate = 16 << 10
	// prefix is what must be seen before a body is admitted: size, key and version.
	prefix = 8
	// headerMin is the least size of a frame: key, version and correlation id.
	headerMin = 8
)

// A refusal is a reason to close a connection that clients cause and metrics count.
type refusal struct {
	reason string
	detail string
}

func (r refusal) Error() string { return r.reason + ": " + r.detail }

// readRequests reads and dispatches requests in order until the connection is to be closed.
func (c *Conn) readRequests() {
	for {
		err := c.readRequest()
		if err == nil {
			continue
		}
		var r refusal
		if errors.As(err, &r) {
			c.server.metrics.refused.WithLabelValues(r.reason).Inc()
			c.server.opts.Logger.Info("closing connection", "remote", c.RemoteAddr(), "client_id", c.ClientID(), "reason", r.Error())
		} else if !errors.Is(err, io.EOF) && !c.isDraining() {
			c.server.opts.Logger.Debug("connection ended", "remote", c.RemoteAddr(), "client_id", c.ClientID(), "error", err)
		}
		return
	}
}

// readRequest handles one request. Its body is read only after its turn has come (A2) and its bytes were admitted (D11).
func (c *Conn) readRequest() error {
	if err := c.awaitFrame(); err != nil {
		return err
	}
	size, key, err := c.peek()
	if err != nil {
		return err
	}
	produce := key == int16(protocol.KeyProduce)
	if !c.awaitTurn(produce, int64(size)) {
		return io.EOF
	}
	budget := c.server.opts.OtherBudget
	if produce {
		budget = c.server.opts.ProduceBudget
	}
	f, err := c.readFrame(size, budget)
	if err != nil {
		return err
	}
	header, body, err := protocol.ParseHeader(f.block.Bytes())
	if err != nil {
		f.release()
		return refusal{"malformed", err.Error()}
	}
	c.started = true
	c.server.metrics.request(header.Key, header.Version, size+4)
	c.setClientID(header.ClientID)
	if !c.dispatch(&Request{Header: header, Body: body, Received: time.Now(), frame: f}, int64(size)) {
		return io.EOF
	}
	return nil
}

// setClientID stores only changes: a connection's client id hardly ever does.
func (c *Conn) setClientID(id *string) {
	old := c.clientID.Load()
	if id == nil && old == nil || id != nil && old != nil && *id == *old {
		return
	}
	c.clientID.Store(id)
}

// awaitFrame waits for the first byte of a frame. A connection that waits for us is not idle (A7).
func (c *Conn) awaitFrame() error {
	if c.r.Buffered() > 0 {
		return nil
	}
	since := time.Now()
	for {
		idle := c.server.opts.Limits.IdleTimeout()
		var deadline time.Time
		if idle > 0 {
			if q := c.quiet(); q.After(since) {
				since = q
			}
			deadline = since.Add(idle)
		}
		c.setReadDeadline(deadline)
		_, err := c.r.Peek(1)
		if err == nil {
			return nil
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) || c.isDraining() {
			return err
		}
		if idle > 0 && !c.quiet().After(since) {
			return refusal{"idle", idle.String()}
		}
	}
}

// peek reads the size and the key without taking them off, and refuses what is not served (A1, A3).
func (c *Conn) peek() (size int, key int16, err error) {
	if c.r.Buffered() < prefix {
		c.setReadDeadline(time.Now().Add(c.server.opts.FrameTimeout))
	}
	head, err := c.r.Peek(4)
	if err != nil {
		return 0, 0, c.slow(err)
	}
	size = int(int32(binary.BigEndian.Uint32(head)))
	if limit := c.server.opts.Limits.MaxRequestBytes(); size < headerMin || size > limit {
		return 0, 0, refusal{"size", fmt.Sprintf("request of %d bytes", size)}
	}
	if head, err = c.r.Peek(prefix); err != nil {
		return 0, 0, c.slow(err)
	}
	key = int16(binary.BigEndian.Uint16(head[4:]))
	version := int16(binary.BigEndian.Uint16(head[6:]))
	if !c.started && key != int16(protocol.KeyProduce) && size > firstRequestMax {
		return 0, 0, refusal{"size", fmt.Sprintf("request of %d bytes", size)}
	}
	// An ApiVersions request of any version gets an answer.
	if key != int16(protocol.KeyAPIVersions) && !protocol.Supported(key, version) {
		return 0, 0, refusal{"unsupported", fmt.Sprintf("%s version %d", protocol.Key(key), version)}
	}
	return size, key, nil
}

// An arrival is a frame that is coming.
type arrival struct {
	begun time.Time
	// n of size bytes are there.
	n, size int
	// mark is when markN bytes were there: what came fast enough before does not excuse what comes slowly now.
	mark  time.Time
	markN int
}

// pressureDeadline is the time up to which nothing more need come, should somebody wait for the memory.
func (a *arrival) pressureDeadline(now time.Time) int64 {
	deadline := pressureDeadline(a.mark, a.n-a.markN)
	if now.Sub(a.mark) > pressureGrace && deadline > now.Add(pressureGrace).UnixNano() {
		a.mark, a.markN = now, a.n
		deadline = pressureDeadline(now, 0)
	}
	return deadline
}

// readPiece reads a frame up to the end of buf, which holds what came before. Each read must bring something within
// FrameTimeout, and the whole must not be slower than slowestRate.
func (c *Conn) readPiece(a *arrival, buf []byte) error {
	timeout := c.server.opts.FrameTimeout
	last := a.begun.Add(timeout + time.Duration(a.size)*time.Second/slowestRate)
	defer c.readBy.Store(0)
	for a.n < len(buf) {
		if c.r.Buffered() == 0 {
			now := time.Now()
			next := now.Add(timeout)
			if next.After(last) {
				next = last
			}
			c.setReadDeadline(next)
			c.readBy.Store(a.pressureDeadline(now))
		}
		m, err := c.r.Read(buf[a.n:])
		a.n += m
		if err != nil && a.n < len(buf) {
			return c.slow(err)
		}
	}
	return nil
}

// slow tells a frame that stalled from a connection that ended.
func (c *Conn) slow(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) && !c.isDraining() {
		return refusal{"slow", "request stalled"}
	}
	return err
}

// dispatch hands a request to the handler and says whether the connection goes on.
func (c *Conn) dispatch(r *Request, size int64) (ok bool) {
	p := &pending{conn: c, request: r, size: size}
	c.mu.Lock()
	c.mu.queue = append(c.mu.queue, p)
	c.mu.queuedBytes += size
	c.mu.handling = true
	c.mu.Unlock()
	defer func() {
		if v := recover(); v != nil {
			c.server.opts.Logger.Error("handler panicked", "key", protocol.Key(r.Header.Key), "version", r.Header.Version,
				"panic", v, "stack", string(debug.Stack()))
			r.frame.lose()
			c.abort()
			p.giveUp()
			ok = false
		}
	}()
	c.server.handler.Handle(c.ctx, c, r, p.done)
	c.mu.Lock()
	c.mu.handling = false
	write := c.beginWriteLocked()
	c.mu.Unlock()
	if write {
		c.write()
	}
	return true
}
