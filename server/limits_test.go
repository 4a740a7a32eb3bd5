package server

import (
	"context"
	"encoding/binary"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
)

func TestA1FrameSizes(t *testing.T) {
	size := func(n int32) []byte {
		return append(binary.BigEndian.AppendUint32(nil, uint32(n)), 0, 3, 0, 1, 0, 0, 0, 0)
	}
	tests := []struct {
		name   string
		frame  []byte
		closed bool
	}{
		{"negative", size(-1), true},
		{"zero", size(0), true},
		{"smaller than a header", size(7), true},
		{"above the limit", size(1<<20 + 1), true},
		{"first request above 512 KiB", request(metadata, 1, 1, make([]byte, 512<<10)), true},
		{"first request of 500 KiB", request(metadata, 1, 1, make([]byte, 500<<10)), false},
		{"first request a produce of 900 KiB", request(produce, 3, 1, make([]byte, 900<<10)), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, handlerFunc(echo), Options{Limits: &limits{size: 1 << 20}}, func(t *testing.T, s *harness) {
				c := s.dial()
				c.send(tt.frame)
				if tt.closed {
					c.expectClosed()
					return
				}
				c.expect(1)
				c.send(request(metadata, 1, 2, make([]byte, 600<<10)))
				c.expect(2)
			})
		})
	}
}

func TestA3UnsupportedRequests(t *testing.T) {
	tests := []struct {
		name         string
		key, version int16
		closed       bool
	}{
		{"unknown key", 4, 0, true},
		{"negative key", -1, 0, true},
		{"Produce v2", produce, 2, true},
		{"Produce v12", produce, 12, true},
		{"Metadata v-1", metadata, -1, true},
		{"ApiVersions v99", apiVersions, 99, false},
		{"ApiVersions v-1", apiVersions, -1, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h, calls := parked()
			inBubble(t, h, Options{}, func(t *testing.T, s *harness) {
				c := s.dial()
				c.send(request(produce, 3, 1, nil), request(tt.key, tt.version, 2, []byte{0}))
				p := mustNext(t, calls, 1)
				p.done(reply(p.r))
				c.expect(1) // what was asked before is still answered
				if tt.closed {
					c.expectClosed()
					return
				}
				v := mustNext(t, calls, 2)
				if v.r.Header.Version != tt.version {
					t.Errorf("version %d, want %d", v.r.Header.Version, tt.version)
				}
				v.done(reply(v.r))
				c.expect(2)
			})
		})
	}
}

// A7: idle connections are closed, never one that waits for us.
func TestA7Idle(t *testing.T) {
	h, calls := parked()
	inBubble(t, h, Options{Limits: &limits{idle: 10 * time.Minute}}, func(t *testing.T, s *harness) {
		c := s.dial()
		start := time.Now()
		c.send(request(produce, 3, 1, nil))
		p := mustNext(t, calls, 1)
		select {
		case <-p.ctx.Done():
			t.Error("closed in the middle of a request")
		case <-time.After(25 * time.Minute):
		}
		p.done(reply(p.r))
		c.expect(1)
		c.expectClosed()
		if d := time.Since(start); d != 35*time.Minute {
			t.Errorf("closed after %v, want 25 minutes of request and 10 idle", d)
		}
	})
}

// A7: a handler that finds the body malformed closes the connection.
func TestA7MalformedBody(t *testing.T) {
	closing := handlerFunc(func(_ context.Context, _ *Conn, _ *Request, done func(Response)) { done(Response{Close: true}) })
	inBubble(t, closing, Options{}, func(t *testing.T, s *harness) {
		c := s.dial()
		c.send(request(metadata, 1, 1, nil), request(metadata, 1, 2, nil))
		c.expectClosed()
	})
}

func TestStalledFrames(t *testing.T) {
	frame := request(metadata, 1, 1, make([]byte, 100))
	for _, n := range []int{1, 6, 8, 20, len(frame) - 1} {
		inBubble(t, handlerFunc(echo), Options{}, func(t *testing.T, s *harness) {
			c := s.dial()
			start := time.Now()
			c.send(frame[:n])
			c.expectClosed()
			if d := time.Since(start); d < 10*time.Second || d > 20*time.Second {
				t.Errorf("%d bytes: closed after %v, want about 10s", n, d)
			}
		})
	}
	t.Run("a byte now and then", func(t *testing.T) {
		inBubble(t, handlerFunc(echo), Options{}, func(t *testing.T, s *harness) {
			c := s.dial()
			start := time.Now()
			written := make(chan struct{})
			defer func() { <-written }()
			go func() {
				defer close(written)
				if _, err := c.Write(frame[:20]); err != nil {
					return
				}
				for _, b := range frame[20:] {
					if _, err := c.Write([]byte{b}); err != nil {
						return
					}
					<-time.After(9 * time.Second)
				}
			}()
			c.expectClosed()
			if d := time.Since(start); d > time.Minute {
				t.Errorf("a client held a request open for %v", d)
			}
		})
	})
}

// D11: a full produce budget stops the sockets that produce; others go on.
func TestFullProduceBudget(t *testing.T) {
	h, calls := parked()
	inBubble(t, h, Options{ProduceBudget: NewBudget(1500)}, func(t *testing.T, s *harness) {
		a, b := s.dial(), s.dial()
		a.send(request(produce, 3, 1, make([]byte, 1000)))
		p1 := mustNext(t, calls, 1)
		b.send(request(produce, 3, 2, make([]byte, 1000)))
		mustNotCall(t, calls)
		other := s.dial()
		other.send(request(metadata, 1, 3, make([]byte, 1000)))
		m := mustNext(t, calls, 3)
		m.done(reply(m.r))
		other.expect(3)
		// What a request retains still counts.
		release := p1.r.Retain()
		p1.done(reply(p1.r))
		a.expect(1)
		mustNotCall(t, calls)
		release()
		p2 := mustNext(t, calls, 2)
		p2.done(reply(p2.r))
		b.expect(2)
	})
}

func TestBudgetIsFair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBudget(100)
		ctx, cancel := context.WithCancel(t.Context())
		if err := b.Acquire(ctx, 60); err != nil {
			t.Fatal(err)
		}
		order := make(chan int64, 3)
		wait := func(ctx context.Context, n int64) {
			go func() {
				if b.Acquire(ctx, n) == nil {
					order <- n
				}
			}()
			synctest.Wait()
		}
		wait(t.Context(), 1000) // larger than all: admitted alone
		wait(ctx, 30)           // would fit, but is not let past
		wait(t.Context(), 20)
		cancel()
		synctest.Wait()
		if len(order) != 0 {
			t.Fatalf("%d was let past an earlier request", <-order)
		}
		b.Release(60)
		if got := <-order; got != 1000 || b.InUse() != 100 {
			t.Fatalf("got %d with %d in use, want 1000 with 100", got, b.InUse())
		}
		b.Release(1000)
		if got := <-order; got != 20 || b.InUse() != 20 {
			t.Fatalf("got %d with %d in use, want 20", got, b.InUse())
		}
	})
}

func TestConnectionLimits(t *testing.T) {
	for name, l := range map[string]*limits{"total": {total: 2}, "per address": {perIP: 2}} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, handlerFunc(echo), Options{Limits: l}, func(t *testing.T, s *harness) {
				a, b := s.dial(), s.dial()
				s.dial().expectClosed()
				if err := a.Close(); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				c := s.dial()
				for _, open := range []client{b, c} {
					open.send(request(metadata, 1, 1, nil))
					open.expect(1)
				}
			})
		})
	}
}

func TestMetrics(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	inBubble(t, handlerFunc(echo), Options{Registerer: reg}, func(t *testing.T, s *harness) {
		c := s.dial()
		c.send(request(metadata, 1, 1, []byte{1, 2}), request(apiVersions, 99, 2, []byte{0}), request(4, 0, 3, nil))
		c.expect(1, 2)
		c.expectClosed()
		synctest.Wait()
		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]float64{}
		for _, f := range families {
			for _, m := range f.GetMetric() {
				// One of the three is there.
				got[f.GetName()] += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
			}
		}
		want := map[string]float64{
			"tidemill_server_requests_total":       1, // the unknown version of ApiVersions is no version
			"tidemill_server_received_bytes_total": 14 + 2 + 14 + 1,
			"tidemill_server_sent_bytes_total":     8 + 2 + 8,
			"tidemill_server_refused_total":        1,
			"tidemill_server_connections":          0,
			"tidemill_server_request_seconds":      2,
			"tidemill_server_budget_used_bytes":    0,
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("metrics (-want +got):\n%s", diff)
		}
	})
}
