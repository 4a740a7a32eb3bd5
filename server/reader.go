package server

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"time"

	"github.com/tidemill/tidemill/internal/memory"
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
	if err := budget.Acquire(c.ctx, int64(memory.Size(size))); err != nil {
		return fmt.Errorf("admit %d bytes: %w", size, err)
	}
	f := &frame{block: c.server.opts.Memory.Get(size), budget: budget}
	f.refs.Store(1)
	if err := c.readBody(f.block.Bytes()); err != nil {
		f.release()
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
	c.setReadDeadline(time.Now().Add(c.server.opts.FrameTimeout))
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

// readBody fills buf with the frame, whose size field it drops. Each read must bring something within FrameTimeout, and the
// whole must not be slower than slowestRate.
func (c *Conn) readBody(buf []byte) error {
	if _, err := c.r.Discard(4); err != nil {
		return err
	}
	timeout := c.server.opts.FrameTimeout
	last := time.Now().Add(timeout + time.Duration(len(buf))*time.Second/slowestRate)
	for n := 0; n < len(buf); {
		if c.r.Buffered() == 0 {
			next := time.Now().Add(timeout)
			if next.After(last) {
				next = last
			}
			c.setReadDeadline(next)
		}
		m, err := c.r.Read(buf[n:])
		n += m
		if err != nil && n < len(buf) {
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
			r.frame.lost.Store(true)
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
