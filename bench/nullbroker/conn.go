package nullbroker

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	readBuffer = 256 << 10
	frameMax   = 128 << 20
)

// A conn is one client's connection, used by one goroutine.
type conn struct {
	broker *Broker
	nc     net.Conn

	in         []byte
	from, upTo int // in[from:upTo] is received and not yet handled

	out    []byte // answers to send, without what cuts adds
	cuts   []cut
	pieces [][]byte
	wake   chan struct{}
}

// A cut is where out is interrupted by bytes of the arena.
type cut struct {
	at     int
	pieces [][]byte
}

func newConn(b *Broker, nc net.Conn) *conn {
	return &conn{broker: b, nc: nc, in: make([]byte, readBuffer), wake: make(chan struct{}, 1)}
}

// serve handles requests until the connection ends.
func (c *conn) serve() {
	for {
		need, err := c.handleAll()
		if err != nil || c.flush() != nil {
			return
		}
		c.room(need)
		n, err := c.nc.Read(c.in[c.upTo:])
		if err != nil {
			return
		}
		c.upTo += n
	}
}

// handleAll handles all whole frames and returns how many bytes the next one needs from c.from on.
func (c *conn) handleAll() (need int, err error) {
	for {
		rest := c.in[c.from:c.upTo]
		if len(rest) < 4 {
			return 4, nil
		}
		size := int(int32(binary.BigEndian.Uint32(rest)))
		if size < 8 || size > frameMax {
			return 0, fmt.Errorf("frame of %d bytes", size)
		}
		if len(rest) < 4+size {
			return 4 + size, nil
		}
		if err := c.handle(rest[4 : 4+size]); err != nil {
			return 0, err
		}
		c.from += 4 + size
	}
}

// room makes place for need bytes from c.from on.
func (c *conn) room(need int) {
	switch {
	case c.from == c.upTo:
		c.from, c.upTo = 0, 0
	case c.from+need > len(c.in):
		c.upTo = copy(c.in, c.in[c.from:c.upTo])
		c.from = 0
	}
	if need > len(c.in) {
		c.in = slices.Grow(c.in[:c.upTo], need-c.upTo)
		c.in = c.in[:cap(c.in)]
	}
}

// flush sends all answers in one write.
func (c *conn) flush() error {
	if len(c.out) == 0 {
		return nil
	}
	var err error
	if len(c.cuts) == 0 {
		_, err = c.nc.Write(c.out)
	} else {
		var all net.Buffers
		at := 0
		for _, cut := range c.cuts {
			all = append(append(all, c.out[at:cut.at]), cut.pieces...)
			at = cut.at
		}
		all = append(all, c.out[at:])
		_, err = all.WriteTo(c.nc)
	}
	c.out, c.cuts, c.pieces = c.out[:0], c.cuts[:0], c.pieces[:0]
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
	if key == keyApiVersions && version > 3 {
		return c.respond(correlation, c.broker.apiVersions(0, errUnsupportedVersion))
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
		return nil
	case *kmsg.FetchRequest:
		return c.fetch(correlation, req)
	}
	return c.respond(correlation, c.broker.answer(req))
}

// respond encodes an answer that is not worth a special way.
func (c *conn) respond(correlation uint32, resp kmsg.Response) error {
	at := len(c.out)
	c.out = append(c.out, 0, 0, 0, 0)
	c.out = binary.BigEndian.AppendUint32(c.out, correlation)
	if resp.IsFlexible() && resp.Key() != keyApiVersions {
		c.out = append(c.out, 0)
	}
	c.out = resp.AppendTo(c.out)
	binary.BigEndian.PutUint32(c.out[at:], uint32(len(c.out)-at-4))
	return nil
}
