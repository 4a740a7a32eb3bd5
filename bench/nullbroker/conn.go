package nullbroker

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	readBuffer = 64 << 10
	frameMax   = 128 << 20
	// unsentMax bounds the answers that wait for a client to read them.
	unsentMax = 4 << 20
)

// A conn is one client's connection. One goroutine reads and handles, another writes, as in a broker whose answers come later.
type conn struct {
	broker *Broker
	nc     net.Conn
	wake   chan struct{} // for a fetch that waits; of the reader

	answer answers // being made, of the reader

	mu     sync.Mutex
	moved  sync.Cond
	unsent answers
	ended  bool
}

// answers are bytes to send: out, interrupted by pieces of the arena.
type answers struct {
	out   []byte
	cuts  []cut
	size  int // of the pieces
	spare net.Buffers
}

// A cut is where out is interrupted.
type cut struct {
	at     int
	pieces [][]byte
}

func newConn(b *Broker, nc net.Conn) *conn {
	c := &conn{broker: b, nc: nc, wake: make(chan struct{}, 1)}
	c.moved.L = &c.mu
	return c
}

// serve handles requests until the connection ends.
func (c *conn) serve() {
	var writer sync.WaitGroup
	writer.Go(c.write)
	defer writer.Wait()
	defer c.end()
	r := bufio.NewReaderSize(c.nc, readBuffer)
	frame := make([]byte, readBuffer)
	var head [4]byte
	for {
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return
		}
		size := int(int32(binary.BigEndian.Uint32(head[:])))
		if size < 8 || size > frameMax {
			return
		}
		if size > cap(frame) || c.broker.options.Plain {
			frame = make([]byte, size)
		}
		frame = frame[:size]
		if _, err := io.ReadFull(r, frame); err != nil {
			return
		}
		if err := c.handle(frame); err != nil {
			return
		}
		if !c.hand() {
			return
		}
	}
}

// hand gives the answer to the writer; false when the connection has ended.
func (c *conn) hand() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.unsent.out)+c.unsent.size > unsentMax && !c.ended {
		c.moved.Wait()
	}
	c.unsent.add(&c.answer)
	c.moved.Broadcast()
	return !c.ended
}

// add moves other's bytes to the end.
func (a *answers) add(other *answers) {
	at := len(a.out)
	a.out = append(a.out, other.out...)
	for _, cut := range other.cuts {
		cut.at += at
		a.cuts = append(a.cuts, cut)
	}
	a.size += other.size
	other.reset()
}

func (a *answers) reset() { a.out, a.cuts, a.size = a.out[:0], a.cuts[:0], 0 }

// end stops the writer.
func (c *conn) end() {
	c.nc.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	c.moved.Broadcast()
}

// write sends answers, as many as there are in one write.
func (c *conn) write() {
	var now answers
	for {
		c.mu.Lock()
		for len(c.unsent.out) == 0 && !c.ended {
			c.moved.Wait()
		}
		if c.ended {
			c.mu.Unlock()
			return
		}
		now, c.unsent = c.unsent, now
		c.moved.Broadcast()
		c.mu.Unlock()
		if now.send(c.nc) != nil {
			c.end()
			return
		}
	}
}

func (a *answers) send(nc net.Conn) (err error) {
	defer a.reset()
	if len(a.cuts) == 0 {
		_, err = nc.Write(a.out)
		return err
	}
	all := a.spare[:0]
	at := 0
	for _, cut := range a.cuts {
		all = append(append(all, a.out[at:cut.at]), cut.pieces...)
		at = cut.at
	}
	all = append(all, a.out[at:])
	a.spare = all
	_, err = all.WriteTo(nc)
	return err
}

var errHeader = errors.New("unreadable request header")

// handle answers one request.
func (c *conn) handle(frame []byte) error {
	key := int16(binary.BigEndian.Uint16(frame))
	version := int16(binary.BigEndian.Uint16(frame[2:]))
	correlation := binary.BigEndian.Uint32(frame[4:])
	rest := frame[8:]
	if len(rest) < 2 {
		return errHeader
	}
	client := max(int(int16(binary.BigEndian.Uint16(rest))), 0)
	if len(rest) < 2+client {
		return errHeader
	}
	rest = rest[2+client:]
	if key == keyAPIVersions && version > 3 {
		c.respond(correlation, c.broker.apiVersions(0, errUnsupportedVersion))
		return nil
	}
	if !supported(key, version) {
		return fmt.Errorf("key %d version %d is not supported", key, version)
	}
	req := kmsg.RequestForKey(key)
	req.SetVersion(version)
	if req.IsFlexible() {
		if len(rest) == 0 || rest[0] != 0 { // tags, of which no client sends any
			return errHeader
		}
		rest = rest[1:]
	}
	if err := req.(kmsg.UnsafeReadFrom).UnsafeReadFrom(rest); err != nil {
		return err
	}
	switch req := req.(type) {
	case *kmsg.ProduceRequest:
		c.produce(correlation, req)
	case *kmsg.FetchRequest:
		c.fetch(correlation, req)
	default:
		c.respond(correlation, c.broker.answer(req))
	}
	return nil
}

// respond encodes an answer that is not worth a special way.
func (c *conn) respond(correlation uint32, resp kmsg.Response) {
	out := append(c.answer.out, 0, 0, 0, 0)
	out = binary.BigEndian.AppendUint32(out, correlation)
	if resp.IsFlexible() && resp.Key() != keyAPIVersions {
		out = append(out, 0)
	}
	out = resp.AppendTo(out)
	binary.BigEndian.PutUint32(out, uint32(len(out)-4))
	c.answer.out = out
}
