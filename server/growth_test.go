package server

import (
	"context"
	"io"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"weak"
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

// A frame that waits to grow goes on once the others turn out to be such frames too: whether they ever come is another matter.
func TestGrowthWhenOthersBegin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBudget(100)
		for _, n := range []int64{60, 40} {
			if err := b.Acquire(t.Context(), n); err != nil {
				t.Fatal(err)
			}
		}
		b.begin(60)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		grown := make(chan int64, 1)
		go func() {
			n, _ := b.grow(ctx, 50, 200)
			grown <- n
		}()
		synctest.Wait()
		if b.InUse() != 100 {
			t.Fatal("a frame grew beyond the budget while another may still come to its end")
		}
		b.begin(40)
		synctest.Wait()
		cancel()
		if n := <-grown; n != 200 {
			t.Errorf("%d bytes were taken, want all 200", n)
		}
	})
}

// A handler that panics with the frame in hand never releases it: the budget comes back all the same, once.
func TestPanicGivesBudgetBack(t *testing.T) {
	for _, retain := range []bool{true, false} {
		handler := handlerFunc(func(_ context.Context, _ *Conn, r *Request, done func(Response)) {
			if retain {
				r.Retain()
			} else {
				r.GiveBack()
			}
			panic("on purpose")
		})
		inBubble(t, handler, Options{}, func(_ *testing.T, s *harness) {
			c := s.dial()
			c.send(request(produce, 3, 1, make([]byte, 1000)))
			_, _ = io.ReadAll(c)
		}) // which looks at the budgets
	}
}

// D11: the memory of a request that was given back is not kept by its waiting for an answer: no budget counts it any more.
func TestGivenBackFrameIsGarbage(t *testing.T) {
	var mu sync.Mutex
	var lent []weak.Pointer[byte]
	var waiting []*Request
	handler := handlerFunc(func(_ context.Context, _ *Conn, r *Request, done func(Response)) {
		if len(r.Body) == 0 {
			done(reply(r))
			return
		}
		mu.Lock()
		defer mu.Unlock()
		lent, waiting = append(lent, weak.Make(&r.Block().Bytes()[0])), append(waiting, r)
		release := r.Retain()
		r.GiveBack()
		release()
	})
	inBubble(t, handler, Options{}, func(t *testing.T, s *harness) {
		s.dial().warmUp().send(request(metadata, 1, 2, make([]byte, 17<<20))) // too large to be kept for the next
		synctest.Wait()
		runtime.GC()
		mu.Lock()
		defer mu.Unlock()
		if len(lent) != 1 || lent[0].Value() != nil {
			t.Errorf("of %d requests that wait the memory is held", len(waiting))
		}
		runtime.KeepAlive(waiting)
	})
}
