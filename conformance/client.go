package conformance

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/protocol"
)

// patience bounds every wait for a broker: far beyond what a loaded machine takes, so that only what hangs is told.
const patience = time.Minute

// A Client speaks the protocol without a client library's opinions: any version, any bytes, one connection. What goes wrong
// with the connection fails the test.
type Client struct {
	T testing.TB
	// Name is the client id of the requests, "raw" at first.
	Name string
	Conn net.Conn
	// Corr is the correlation id of the last request.
	Corr int32
}

// Dial connects to a broker until the test ends.
func Dial(t testing.TB, addr string) *Client {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &Client{T: t, Conn: conn, Name: "raw"}
}

// Send writes a request with the version that it carries and returns its correlation id.
func (c *Client) Send(req kmsg.Request) int32 {
	c.T.Helper()
	c.Corr++
	f := kmsg.NewRequestFormatter(kmsg.FormatterClientID(c.Name))
	c.SendBytes(f.AppendRequest(nil, req, c.Corr))
	return c.Corr
}

// SendBytes writes what may be no request at all.
func (c *Client) SendBytes(frame []byte) {
	c.T.Helper()
	if _, err := c.Conn.Write(frame); err != nil {
		c.T.Fatal(err)
	}
}

// Receive reads one response frame and returns its correlation id and what follows.
func (c *Client) Receive() (int32, []byte, error) {
	if err := c.Conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return 0, nil, err
	}
	var size [4]byte
	if _, err := io.ReadFull(c.Conn, size[:]); err != nil {
		return 0, nil, err
	}
	frame := make([]byte, binary.BigEndian.Uint32(size[:]))
	if _, err := io.ReadFull(c.Conn, frame); err != nil {
		return 0, nil, err
	}
	return int32(binary.BigEndian.Uint32(frame)), frame[4:], nil
}

// Ask sends a request and decodes its answer.
func Ask[R kmsg.Response](c *Client, req kmsg.Request) R {
	c.T.Helper()
	return Answer[R](c, req, c.Send(req))
}

// Answer decodes the next response, which must be that of req.
func Answer[R kmsg.Response](c *Client, req kmsg.Request, corr int32) R {
	c.T.Helper()
	got, body, err := c.Receive()
	if err != nil {
		c.T.Fatalf("no answer to %T v%d: %v", req, req.GetVersion(), err)
	}
	if got != corr {
		c.T.Fatalf("answer %d came where %d was due", got, corr)
	}
	resp := req.ResponseKind()
	resp.SetVersion(req.GetVersion())
	if resp.IsFlexible() && resp.Key() != int16(protocol.KeyAPIVersions) {
		body = body[1:]
	}
	if err := resp.ReadFrom(body); err != nil {
		c.T.Fatalf("answer to %T v%d: %v", req, req.GetVersion(), err)
	}
	return resp.(R)
}

// CheckClosed makes sure that the broker closes the connection without another byte.
func (c *Client) CheckClosed() {
	c.T.Helper()
	_, body, err := c.Receive()
	if err == nil {
		c.T.Fatalf("got an answer of %d bytes, want a closed connection", len(body))
	}
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		c.T.Fatal("the connection stays open")
	}
}

// WantCode compares an error code.
func WantCode(t testing.TB, what string, got int16, want protocol.ErrorCode) {
	t.Helper()
	if protocol.ErrorCode(got) != want {
		t.Errorf("%s: got %v, want %v", what, protocol.ErrorCode(got), want)
	}
}

// WaitFor polls a condition that something outside of the test brings about.
func WaitFor(t testing.TB, what string, cond func() bool) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited in vain for %s", what)
		}
	}
}
