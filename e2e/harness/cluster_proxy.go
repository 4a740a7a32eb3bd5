package harness

import (
	"context"
	"net"
	"sync"
	"testing"
)

const (
	freePort = "127.0.0.1:0"
	// advertisedHost is what a broker with proxies calls itself. Clients take that name for clientsHost, with the same port: so brokers
	// and clients are told one address and come by two ways.
	advertisedHost, clientsHost = "localhost", "127.0.0.2"
)

// A Proxy passes TCP connections on, until it is told to hold what they carry. What it holds is delivered when it passes again: so
// does a network that was cut, if the connections last.
type Proxy struct {
	Addr   string // where it listens
	target string

	mu      sync.Mutex
	passing chan struct{} // closed while bytes pass
	conns   map[net.Conn]bool
	ended   bool
}

func startProxy(t testing.TB, listen, target string) *Proxy {
	t.Helper()
	l, err := net.Listen("tcp", listen)
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{Addr: l.Addr().String(), target: target, passing: make(chan struct{}), conns: map[net.Conn]bool{}}
	close(p.passing)
	var running sync.WaitGroup
	running.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return // closed with the test
			}
			running.Go(func() { p.serve(conn) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		p.Pass()
		p.closeAll()
		running.Wait()
	})
	return p
}

// Hold lets no byte pass, in either direction, and no new connection come about. Nobody is told.
func (p *Proxy) Hold() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.passing:
		p.passing = make(chan struct{})
	default:
	}
}

// Pass ends a Hold.
func (p *Proxy) Pass() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.passing:
	default:
		close(p.passing)
	}
}

func (p *Proxy) await() {
	p.mu.Lock()
	passing := p.passing
	p.mu.Unlock()
	<-passing
}

// serve carries one connection.
func (p *Proxy) serve(from net.Conn) {
	p.await()
	to, err := net.Dial("tcp", p.target)
	if err != nil {
		from.Close()
		return
	}
	if !p.keep(from, to) {
		return
	}
	var both sync.WaitGroup
	both.Go(func() { p.carry(to, from) })
	both.Go(func() { p.carry(from, to) })
	both.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, from)
	delete(p.conns, to)
}

func (p *Proxy) carry(to, from net.Conn) {
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		p.await() // also what ends a connection does not pass
		if n > 0 {
			if _, werr := to.Write(buffer[:n]); werr != nil {
				err = werr
			}
		}
		if err != nil {
			to.Close()
			from.Close()
			return
		}
	}
}

func (p *Proxy) keep(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		if p.ended {
			c.Close()
			continue
		}
		p.conns[c] = true
	}
	return !p.ended
}

func (p *Proxy) closeAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
	for c := range p.conns {
		c.Close()
	}
}

// JavaOptions let a client in a JVM reach the cluster, through the proxies for clients if there are any.
func (c *Cluster) JavaOptions() []string {
	c.t.Helper()
	if !c.options.Proxied {
		return nil
	}
	return []string{"-Djdk.net.hosts.file=" + WriteFile(c.t, "hosts", clientsHost+" "+advertisedHost+"\n")}
}

// dial connects clients of the test, through the proxies for clients.
func (c *Cluster) dial(ctx context.Context, network, address string) (net.Conn, error) {
	for _, n := range c.Nodes {
		if n.Addr == address && n.Clients != nil {
			address = n.Clients.Addr
			break
		}
	}
	var d net.Dialer
	return d.DialContext(ctx, network, address)
}
