package server

import (
	"context"
	"syscall"
	"time"
)

// goneInterval is how often connections that wait for an answer are asked whether their client is still there.
const goneInterval = 2 * time.Second

// slowUnderPressure is how slowly a frame may come and an answer may go, in bytes per second and after pressureGrace, while
// others wait for the memory that it takes.
const (
	slowUnderPressure = 256 << 10
	pressureGrace     = 2 * time.Second
)

// pressureDeadline is until when n bytes that began to move may be all that did, should somebody wait for their memory.
func pressureDeadline(begun time.Time, n int) int64 {
	return begun.Add(pressureGrace + time.Duration(n)*time.Second/slowUnderPressure).UnixNano()
}

// watchConns looks after connections that nobody reads from or writes to, until ctx ends. It closes those whose client
// was reset while a request of its waits: while a handler parks nobody would notice, and clients may ask to be parked for
// weeks. A client that only stopped to write is still there; one that closed its socket answers the kernel's keep-alive
// with a reset. It also closes those that send or take their bytes slowly while others wait for the memory.
func (s *Server) watchConns(ctx context.Context) {
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
			s.relievePressure(now)
		}
	}
}

// relievePressure closes the connections that keep others waiting for memory.
func (s *Server) relievePressure(now time.Time) {
	reading := s.opts.ProduceBudget.Contended() || s.opts.OtherBudget.Contended()
	writing := s.opts.AnswerBudget != nil && s.opts.AnswerBudget.Contended()
	if !reading && !writing {
		return
	}
	late := func(deadline int64) bool { return deadline != 0 && deadline < now.UnixNano() }
	s.mu.Lock()
	var slow []*Conn
	for c := range s.mu.conns {
		if reading && late(c.readBy.Load()) || writing && late(c.writtenBy.Load()) {
			slow = append(slow, c)
		}
	}
	s.mu.Unlock()
	for _, c := range slow {
		s.metrics.refused.WithLabelValues("pressure").Inc()
		s.opts.Logger.Info("closing connection", "remote", c.RemoteAddr(), "client_id", c.ClientID(), "reason", "slow, and others wait for its memory")
		c.abort()
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
