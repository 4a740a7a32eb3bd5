package server

import (
	"errors"
	"net"
	"os"
	"time"

	"github.com/tidemill/tidemill/protocol"
)

const (
	// writeChunk is how much is written at a time.
	writeChunk = 1 << 20
	// writeMin is how much WriteTimeout is for.
	writeMin = 256 << 10
)

// A pending is a request without a written response.
type pending struct {
	conn     *Conn
	request  *Request
	size     int64
	response Response
	// ready belongs to the connection's mu.
	ready bool
}

// release gives back what the response and the request held.
func (p *pending) release() {
	if p.response.Release != nil {
		p.response.Release()
	}
	p.request.GiveBack()
}

// done takes the response. If it is next in order, it is written: by the reader if that is still in Handle, else by a
// goroutine that ends when nothing is ready, so that nobody's done waits for a slow client.
func (p *pending) done(resp Response) {
	c := p.conn
	c.mu.Lock()
	if p.ready {
		c.mu.Unlock()
		c.server.opts.Logger.Error("done called twice", "key", protocol.Key(p.request.Header.Key))
		if resp.Release != nil {
			resp.Release()
		}
		return
	}
	p.response, p.ready = resp, true
	if c.mu.broken {
		dropped := c.dropReadyLocked()
		c.mu.Unlock()
		for _, d := range dropped {
			d.release()
		}
		return
	}
	write := !c.mu.handling && c.beginWriteLocked()
	c.mu.Unlock()
	if write {
		go c.write() // owned by serve, which waits until writing is false
	}
}

// giveUp stands in for a done that a panic may have kept from being called.
func (p *pending) giveUp() {
	c := p.conn
	c.mu.Lock()
	called := p.ready
	c.mu.Unlock()
	if !called {
		p.done(Response{})
	}
}

// dropReadyLocked takes all ready requests out of the queue, in or out of order. The caller releases them without the lock.
// Those that are being written are not in it any more: the writer took them and releases them.
func (c *Conn) dropReadyLocked() []*pending {
	var dropped []*pending
	kept := c.mu.queue[:0]
	for _, p := range c.mu.queue {
		if p.ready {
			dropped = append(dropped, p)
			c.mu.queuedBytes -= p.size
		} else {
			kept = append(kept, p)
		}
	}
	clear(c.mu.queue[len(kept):])
	c.mu.queue = kept
	return dropped
}

// beginWriteLocked reports whether the caller is to write, and then marks it as writing.
func (c *Conn) beginWriteLocked() bool {
	if c.mu.writing || c.mu.broken || len(c.mu.queue) == 0 || !c.mu.queue[0].ready {
		return false
	}
	c.mu.writing = true
	return true
}

// write writes responses, all that are ready at a time, until the next in order is not ready.
func (c *Conn) write() {
	var batch []*pending
	for {
		c.mu.Lock()
		n := 0
		for n < len(c.mu.queue) && c.mu.queue[n].ready && !c.mu.broken {
			c.mu.queuedBytes -= c.mu.queue[n].size
			n++
		}
		if n == 0 {
			c.mu.writing = false
			c.mu.quietSince = time.Now()
			c.changed.Broadcast()
			c.mu.Unlock()
			return
		}
		batch = append(batch[:0], c.mu.queue[:n]...)
		rest := copy(c.mu.queue, c.mu.queue[n:])
		clear(c.mu.queue[rest:])
		c.mu.queue = c.mu.queue[:rest]
		c.mu.Unlock()
		c.writeBatch(batch)
	}
}

// writeBatch writes responses in one go, up to the first that closes the connection.
func (c *Conn) writeBatch(batch []*pending) {
	var bufs net.Buffers
	closing := false
	for _, p := range batch {
		if !p.response.Silent {
			bufs = append(bufs, p.response.Buffers...)
		}
		if closing = p.response.Close; closing {
			break
		}
	}
	err := c.writeBuffers(bufs)
	now := time.Now()
	for _, p := range batch {
		if err == nil {
			c.server.metrics.response(p.request.Header.Key, now.Sub(p.request.Received))
		}
		p.release()
	}
	if err != nil || closing {
		c.abort()
	}
}

// writeBuffers writes in chunks. A slow client is one that takes little for long, not one with much to take.
func (c *Conn) writeBuffers(bufs net.Buffers) error {
	var chunk net.Buffers
	for len(bufs) > 0 || len(chunk) > 0 {
		if len(chunk) == 0 {
			chunk, bufs = splitBuffers(bufs, writeChunk)
		}
		now := time.Now()
		if err := c.nc.SetWriteDeadline(now.Add(c.server.opts.WriteTimeout)); err != nil {
			return err
		}
		c.writtenBy.Store(pressureDeadline(now, writeChunk))
		n, err := chunk.WriteTo(c.nc) // leaves in chunk what it did not write
		c.writtenBy.Store(0)
		c.server.metrics.bytesOut.Add(float64(n))
		if err != nil && (n < writeMin || !errors.Is(err, os.ErrDeadlineExceeded)) {
			return err
		}
	}
	return nil
}

// splitBuffers cuts bufs after n bytes. It may change bufs.
func splitBuffers(bufs net.Buffers, n int) (head, tail net.Buffers) {
	for i, b := range bufs {
		if len(b) < n {
			n -= len(b)
			continue
		}
		if len(b) == n {
			return bufs[:i+1], bufs[i+1:]
		}
		head = append(append(head, bufs[:i]...), b[:n])
		bufs[i] = b[n:]
		return head, bufs[i:]
	}
	return bufs, nil
}

// awaitTurn waits until a request of size bytes may be read: a produce until the read-ahead has room, any other until all
// earlier responses were written (A2). It reports false when the connection is closing. The produces ahead are all that
// a produce can find in the queue, as any other request keeps the reader here until it is answered.
func (c *Conn) awaitTurn(produce bool, size int64) bool {
	o := &c.server.opts
	c.mu.Lock()
	defer c.mu.Unlock()
	for !c.mu.draining {
		room := len(c.mu.queue) < o.ReadAheadRequests && c.mu.queuedBytes+size <= o.ReadAheadBytes
		if len(c.mu.queue) == 0 && !c.mu.writing || produce && room && c.produceOnlyLocked() {
			return true
		}
		c.changed.Wait()
	}
	return false
}

// produceOnlyLocked reports whether all unanswered requests are produces.
func (c *Conn) produceOnlyLocked() bool {
	return len(c.mu.queue) == 0 || c.mu.queue[0].request.Header.Key == int16(protocol.KeyProduce)
}

// quiet returns since when the connection owes nothing; it is now while a response is owed.
func (c *Conn) quiet() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.mu.queue) > 0 || c.mu.writing {
		return time.Now()
	}
	return c.mu.quietSince
}
