package server

import (
	"context"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// large is a frame of 2 MiB, which grows as it comes.
func large(correlation int32) []byte { return request(metadata, 1, correlation, make([]byte, 2<<20)) }

// warmUp makes the first request, which may not be large.
func (c client) warmUp() client {
	c.send(request(metadata, 1, 1, nil))
	c.expect(1)
	return c
}

// D11: what is claimed and does not come keeps nobody out.
func TestClaimsTakeNoMemory(t *testing.T) {
	inBubble(t, handlerFunc(echo), Options{OtherBudget: NewBudget(1 << 20)}, func(t *testing.T, s *harness) {
		for range 3 {
			c := s.dial().warmUp()
			c.send(large(2)[:1000])
		}
		start := time.Now()
		s.dial().warmUp()
		if d := time.Since(start); d > 0 {
			t.Errorf("another client waited %v", d)
		}
	})
}

// Frames that together need more than there is do not wait for each other for ever.
func TestGrowingFramesFinish(t *testing.T) {
	brief := handlerFunc(func(_ context.Context, _ *Conn, r *Request, done func(Response)) { done(reply(r)) })
	inBubble(t, brief, Options{OtherBudget: NewBudget(1 << 20)}, func(t *testing.T, s *harness) {
		clients := make([]client, 4)
		for i := range clients {
			clients[i] = s.dial().warmUp()
			clients[i].send(large(2)[:200<<10])
		}
		synctest.Wait()
		for _, c := range clients {
			c.send(large(2)[200<<10:])
		}
		var answers sync.WaitGroup
		for _, c := range clients {
			answers.Go(func() {
				if _, err := io.ReadFull(c, make([]byte, 8)); err != nil {
					t.Errorf("no answer: %v", err)
				}
			})
		}
		answers.Wait()
		synctest.Wait()
		if n := s.server.opts.OtherBudget.InUse(); n != 0 {
			t.Errorf("%d bytes are still taken", n)
		}
	})
}

// Those who send slowly are closed once others wait for what they hold, and not before.
func TestPressure(t *testing.T) {
	inBubble(t, handlerFunc(echo), Options{OtherBudget: NewBudget(512 << 10)}, func(t *testing.T, s *harness) {
		slow := []client{s.dial().warmUp(), s.dial().warmUp()}
		for _, c := range slow {
			c.send(large(2)[:100<<10])
		}
		<-time.After(8 * time.Second) // nobody minds
		start := time.Now()
		s.dial().warmUp()
		if d := time.Since(start); d > 2*goneInterval+pressureGrace {
			t.Errorf("another client waited %v", d)
		}
		for _, c := range slow {
			c.expectClosed()
		}
	})
}
