package server

import (
	"testing"
	"testing/synctest"
)

// A2: produces overlap, and their responses keep the order.
func TestA2PipelinedProduce(t *testing.T) {
	h, calls := parked()
	inBubble(t, h, Options{}, func(t *testing.T, s *harness) {
		c := s.dial()
		c.send(request(produce, 3, 1, nil), request(produce, 3, 2, nil), request(produce, 3, 3, nil))
		p1, p2, p3 := mustNext(t, calls, 1), mustNext(t, calls, 2), mustNext(t, calls, 3)
		p3.done(reply(p3.r))
		p1.done(reply(p1.r))
		c.expect(1)
		synctest.Wait()
		p2.done(reply(p2.r))
		c.expect(2, 3)
	})
}

// A2: a request that is not a produce waits for all before it, and those behind wait for it.
func TestA2InterleavedProduceAndMetadata(t *testing.T) {
	h, calls := parked()
	inBubble(t, h, Options{}, func(t *testing.T, s *harness) {
		c := s.dial()
		c.send(request(produce, 3, 1, nil), request(produce, 3, 2, nil), request(metadata, 1, 3, nil),
			request(produce, 3, 4, nil), request(produce, 3, 5, nil), request(fetch, 4, 6, nil), request(fetch, 4, 7, nil))
		p1, p2 := mustNext(t, calls, 1), mustNext(t, calls, 2)
		mustNotCall(t, calls)
		p2.done(reply(p2.r))
		mustNotCall(t, calls)
		p1.done(reply(p1.r))
		mustNotCall(t, calls) // the responses are not yet taken
		c.expect(1, 2)
		m3 := mustNext(t, calls, 3)
		mustNotCall(t, calls)
		go m3.done(reply(m3.r))
		c.expect(3)
		p4, p5 := mustNext(t, calls, 4), mustNext(t, calls, 5)
		mustNotCall(t, calls)
		p4.done(reply(p4.r))
		p5.done(reply(p5.r))
		c.expect(4, 5)
		f6 := mustNext(t, calls, 6)
		mustNotCall(t, calls)
		f6.done(reply(f6.r))
		c.expect(6)
		f7 := mustNext(t, calls, 7)
		f7.done(reply(f7.r))
		c.expect(7)
	})
}

func TestReadAheadIsBounded(t *testing.T) {
	body := make([]byte, 1000)
	tests := []struct {
		name string
		opts Options
		want int32
	}{
		{"requests", Options{ReadAheadRequests: 3}, 3},
		{"bytes", Options{ReadAheadBytes: 2500}, 2},
		{"one is always admitted", Options{ReadAheadBytes: 1}, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h, calls := parked()
			inBubble(t, h, tt.opts, func(t *testing.T, s *harness) {
				c := s.dial()
				var frames [][]byte
				for id := range int32(6) {
					frames = append(frames, request(produce, 3, id+1, body))
				}
				c.send(frames...)
				var got []call
				for id := range tt.want {
					got = append(got, mustNext(t, calls, id+1))
				}
				mustNotCall(t, calls)
				got[0].done(reply(got[0].r))
				c.expect(1)
				got = append(got[1:], mustNext(t, calls, tt.want+1))
				mustNotCall(t, calls)
				s.cancel()
				synctest.Wait()
				for _, p := range got {
					p.done(reply(p.r))
				}
			})
		})
	}
}

func TestResponsesAreCoalesced(t *testing.T) {
	h, calls := parked()
	inBubble(t, h, Options{}, func(t *testing.T, s *harness) {
		c := s.dial()
		c.send(request(produce, 3, 1, nil), request(produce, 3, 2, nil), request(produce, 3, 3, nil))
		p1, p2, p3 := mustNext(t, calls, 1), mustNext(t, calls, 2), mustNext(t, calls, 3)
		p2.done(reply(p2.r))
		p3.done(reply(p3.r))
		released := make(chan int, 3)
		r := reply(p1.r)
		r.Release = func() { released <- 1 }
		p1.done(r)
		c.expect(1)
		synctest.Wait()
		if len(released) != 0 {
			t.Error("the first response was finished before the others of its batch were written")
		}
		c.expect(2, 3)
		synctest.Wait()
		if len(released) != 1 {
			t.Error("the batch is written but not released")
		}
	})
}

// A8: a produce with acks=0 has no response, but keeps its place; an error closes the connection after earlier responses.
func TestA8SilentResponses(t *testing.T) {
	h, calls := parked()
	inBubble(t, h, Options{}, func(t *testing.T, s *harness) {
		c := s.dial()
		c.send(request(produce, 3, 1, nil), request(produce, 3, 2, nil), request(produce, 3, 3, nil), request(produce, 3, 4, nil))
		p1, p2, p3, p4 := mustNext(t, calls, 1), mustNext(t, calls, 2), mustNext(t, calls, 3), mustNext(t, calls, 4)
		p2.done(Response{Silent: true})
		p1.done(reply(p1.r))
		c.expect(1)
		p3.done(reply(p3.r))
		c.expect(3)
		p4.done(Response{Silent: true, Close: true})
		c.expectClosed()
	})
}
