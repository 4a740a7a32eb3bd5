package s3store_test

import (
	"bytes"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/tidemill/tidemill/objectstore"
)

// TestPeerAutoMQ6BodyReusedUnderALateAttempt: a Put that was given up has let go of its body. Whoever uses that memory again
// does not change what the service still receives of the old attempt.
func TestPeerAutoMQ6BodyReusedUnderALateAttempt(t *testing.T) {
	for _, key := range []string{"key", "a key/é"} { // by the template and by the SDK
		t.Run(key, func(t *testing.T) { checkBodyReuse(t, key) })
	}
}

func checkBodyReuse(t *testing.T, key string) {
	s := newService(t)
	slow := newSlowProxy(t, s.Listener.Addr().String())
	config := s.config()
	config.Endpoint = "http://" + slow.Addr().String()
	config.PutTimeout = 2 * time.Second
	store := open(t, config)
	body := bytes.Repeat([]byte("a"), 32<<20) // more than sockets hold
	slow.hold()
	wantOnly(t, store.Put(t.Context(), key, body), objectstore.ErrAmbiguous)
	copy(body, bytes.Repeat([]byte("z"), len(body)))
	got := slow.rest()
	if !bytes.Contains(got, []byte("aaaa")) {
		t.Fatalf("the service received %d bytes of the attempt: the test tests nothing", len(got))
	}
	if i := bytes.Index(got, []byte("zzzz")); i >= 0 {
		t.Errorf("byte %d of %d is of whoever used the memory next", i, len(got))
	}
}

// A slowProxy forwards connections until it is told to hold one that sends an object.
type slowProxy struct {
	net.Listener
	t    *testing.T
	to   string
	held chan net.Conn
	on   chan struct{}
}

func newSlowProxy(t *testing.T, to string) *slowProxy {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &slowProxy{Listener: ln, t: t, to: to, held: make(chan net.Conn, 16), on: make(chan struct{})}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go p.serve(conn)
		}
	}()
	return p
}

// hold reads nothing from now on of connections that send.
func (p *slowProxy) hold() { close(p.on) }

func (p *slowProxy) serve(conn net.Conn) {
	server, err := net.Dial("tcp", p.to)
	if err != nil {
		conn.Close()
		return
	}
	go func() {
		_, _ = io.Copy(conn, server)
		conn.Close()
	}()
	buf := make([]byte, 4096)
	for {
		n, err := conn.Read(buf)
		select {
		case <-p.on:
			if strings.HasPrefix(string(buf[:n]), "PUT ") {
				p.held <- conn
				return
			}
		default:
		}
		if err != nil {
			server.Close()
			return
		}
		if _, err := server.Write(buf[:n]); err != nil {
			conn.Close()
			return
		}
	}
}

// rest returns what the held attempt still sends until its connection ends.
func (p *slowProxy) rest() []byte {
	p.t.Helper()
	var conn net.Conn
	select {
	case conn = <-p.held:
	case <-time.After(time.Minute):
		p.t.Fatal("the attempt did not reach the service: the test tests nothing")
	}
	defer conn.Close()
	if err := conn.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		p.t.Fatal(err)
	}
	got, _ := io.ReadAll(conn) // a reset is an end too
	return got
}
