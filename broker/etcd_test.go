package broker

import (
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/tidemill/tidemill/metadata/etcdembed"
)

// An externalEtcd is a real etcd that brokers reach over TCP and that a test can stop and start again on its folder.
type externalEtcd struct {
	t       *testing.T
	dir     string
	ln      net.Listener
	running sync.WaitGroup
	// asked counts the bytes that brokers have sent.
	asked atomic.Int64

	mu struct {
		sync.Mutex
		server *etcdembed.Server // nil while stopped
		conns  map[net.Conn]bool
	}
}

// startEtcd starts an etcd that ends with the test.
func startEtcd(t *testing.T) *externalEtcd {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "tm") //nolint:usetesting // short: a unix socket lies in it
	if err != nil {
		t.Fatal(err)
	}
	e := &externalEtcd{t: t, dir: dir, ln: ln}
	e.mu.conns = map[net.Conn]bool{}
	e.start()
	e.running.Go(e.accept)
	t.Cleanup(func() {
		ln.Close()
		e.stop()
		e.running.Wait()
		os.RemoveAll(dir)
	})
	return e
}

// url is what --cluster takes.
func (e *externalEtcd) url() string { return "etcd://" + e.ln.Addr().String() + "/test" }

func (e *externalEtcd) start() {
	e.t.Helper()
	server, err := etcdembed.Start(e.t.Context(), e.dir, nil)
	if err != nil {
		e.t.Fatal(err)
	}
	e.mu.Lock()
	e.mu.server = server
	e.mu.Unlock()
}

// stop ends etcd and cuts every connection; new ones are closed at once.
func (e *externalEtcd) stop() {
	e.mu.Lock()
	server := e.mu.server
	e.mu.server = nil
	for c := range e.mu.conns {
		c.Close()
	}
	e.mu.Unlock()
	if server != nil {
		server.Close()
	}
}

func (e *externalEtcd) accept() {
	for {
		client, err := e.ln.Accept()
		if err != nil {
			return
		}
		e.running.Go(func() { e.forward(client) })
	}
}

// A counter counts what is written to it.
type counter struct{ n *atomic.Int64 }

func (c counter) Write(p []byte) (int, error) {
	c.n.Add(int64(len(p)))
	return len(p), nil
}

func (e *externalEtcd) forward(client net.Conn) {
	defer client.Close()
	e.mu.Lock()
	var server net.Conn
	if e.mu.server != nil {
		var err error
		if server, err = net.Dial("unix", strings.TrimPrefix(e.mu.server.Endpoints()[0], "unix://")); err != nil {
			server = nil
		}
	}
	if server == nil {
		e.mu.Unlock()
		return
	}
	e.mu.conns[client], e.mu.conns[server] = true, true
	e.mu.Unlock()

	var both sync.WaitGroup
	for _, pair := range [][2]net.Conn{{client, server}, {server, client}} {
		both.Go(func() {
			var to io.Writer = pair[0]
			if pair[1] == client {
				to = io.MultiWriter(to, counter{&e.asked})
			}
			io.Copy(to, pair[1])
			pair[0].Close()
		})
	}
	both.Wait()
	e.mu.Lock()
	delete(e.mu.conns, client)
	delete(e.mu.conns, server)
	e.mu.Unlock()
}
