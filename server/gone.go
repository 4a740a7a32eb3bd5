package server

import (
	"context"
	"syscall"
	"time"
)

// goneInterval is how often connections that wait for an answer are asked whether their client is still there.
const goneInterval = 2 * time.Second

// watchGone closes connections whose client was reset while a request of its waits, until ctx ends. While a handler parks
// nobody reads from the connection, so nobody would notice, and clients may ask to be parked for weeks. A client that only
// stopped to write is still there; one that closed its socket answers the kernel's keep-alive with a reset.
func (s *Server) watchGone(ctx context.Context) {
	tick := time.NewTicker(s.goneInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			for _, c := range s.waitingSince(now.Add(-s.goneInterval)) {
				if sc, ok := c.nc.(syscall.Conn); ok && socketFailed(sc) {
					c.abort()
				}
			}
		}
	}
}

// waitingSince returns the connections that were owed an answer at that time and still are.
func (s *Server) waitingSince(at time.Time) []*Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	var waiting []*Conn
	for c := range s.mu.conns {
		if c.owedSince(at) {
			waiting = append(waiting, c)
		}
	}
	return waiting
}

// owedSince reports whether the oldest request without an answer came before at.
func (c *Conn) owedSince(at time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.mu.queue) > 0 && c.mu.queue[0].request.Received.Before(at)
}
