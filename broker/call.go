package broker

import (
	"context"
	"net"
	"sync"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/server"
)

// A call is one request being answered. Exactly one of its answering methods is called, once, from any goroutine.
type call struct {
	ctx     context.Context
	conn    *server.Conn
	request *server.Request
	header  protocol.Header
	done    func(server.Response)
	decoded *decodedCharge // nil for a request that is not counted
}

// reply answers with resp, whose version is set to the request's.
func (c *call) reply(resp kmsg.Response) {
	resp.SetVersion(c.header.Version)
	c.send(protocol.EncodeResponse(c.header.CorrelationID, resp))
}

// unlessDrained returns reply for a request that waits for other members of a group: when the server drains first, drained
// is sent instead, and what comes later is dropped.
func (c *call) unlessDrained(drained kmsg.Response) (reply func(kmsg.Response)) {
	var once sync.Once
	stop := context.AfterFunc(c.ctx, func() { once.Do(func() { c.reply(drained) }) })
	return func(resp kmsg.Response) {
		stop()
		once.Do(func() { c.reply(resp) })
	}
}

// send answers with whole frames.
func (c *call) send(frames ...[]byte) { c.done(server.Response{Buffers: net.Buffers(frames)}) }

// silent ends the call with no bytes at all (A8).
func (c *call) silent() { c.done(server.Response{Silent: true}) }

// hangUp closes the connection once everything before was answered (A3, A7, A8).
func (c *call) hangUp() { c.done(server.Response{Close: true, Silent: true}) }

// clientID returns the client id of the request header, "" for null.
func (c *call) clientID() string {
	if c.header.ClientID == nil {
		return ""
	}
	return *c.header.ClientID
}

// clientHost returns the peer's address as Kafka prints it: "/127.0.0.1".
func (c *call) clientHost() string {
	addr := c.conn.RemoteAddr()
	host, _, err := net.SplitHostPort(addr.String())
	if err != nil {
		return "/" + addr.String()
	}
	return "/" + host
}

// detach keeps the request's frame until the returned function is called, also when the request was answered before.
func (c *call) detach() (release func()) { return c.request.Retain() }
