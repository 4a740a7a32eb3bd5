package wal

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemill/tidemill/objectstore"
)

// A slowLink is a store whose PUTs share the bandwidth of a link evenly, on the bubble's clock.
type slowLink struct {
	*s3Model
	perSecond float64 // bytes, as the sizes that bodies stand for

	mu      sync.Mutex
	sending map[*sending]bool
	at      time.Time   // until when what was sent is counted
	next    *time.Timer // ends the transfer that is through first
}

type sending struct {
	left    float64
	through chan struct{}
}

func newSlowLink(perSecond float64) *slowLink {
	l := &slowLink{s3Model: newS3Model(1), perSecond: perSecond, sending: map[*sending]bool{}, at: time.Now()}
	l.next = time.AfterFunc(time.Hour, l.advance)
	return l
}

// advance counts what was sent since it was called last.
func (l *slowLink) advance() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.advanceLocked()
}

func (l *slowLink) advanceLocked() {
	each := l.perSecond * time.Since(l.at).Seconds() / float64(max(1, len(l.sending)))
	l.at = time.Now()
	least := 0.0
	for s := range l.sending {
		if s.left -= each; s.left < 1 {
			delete(l.sending, s)
			close(s.through)
		} else if least == 0 || s.left < least {
			least = s.left
		}
	}
	if n := len(l.sending); n > 0 {
		l.next.Reset(time.Duration(least*float64(n)/l.perSecond*float64(time.Second)) + 1)
	}
}

func (l *slowLink) Put(ctx context.Context, key string, body []byte) error {
	s := &sending{left: float64(len(body)) * sizeScale, through: make(chan struct{})}
	l.mu.Lock()
	l.advanceLocked()
	l.sending[s] = true
	l.advanceLocked()
	l.mu.Unlock()
	select {
	case <-s.through:
	case <-ctx.Done():
		l.mu.Lock()
		l.advanceLocked()
		delete(l.sending, s)
		l.advanceLocked()
		l.mu.Unlock()
		return fmt.Errorf("put %s: %w: %w", key, objectstore.ErrAmbiguous, ctx.Err())
	}
	l.s3Model.mu.Lock()
	defer l.s3Model.mu.Unlock()
	if l.held[key] {
		return objectstore.ErrConflict
	}
	l.held[key] = true
	return nil
}

// widen lets a writer close that never gets through otherwise.
func (l *slowLink) widen() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.advanceLocked()
	l.perSecond = 1e12
	l.advanceLocked()
}

// TestSlowLink: a backlog over a link that is too slow for a window of slots within the time that each has. The first PUTs all fail; then
// one after the other gets through, whatever the link carries.
func TestSlowLink(t *testing.T) {
	for _, c := range []struct {
		mbps       float64
		first, all time.Duration
	}{
		{6, 8 * time.Second, 40 * time.Second},
		{1, 16 * time.Second, 5 * time.Minute},
		{.4, 2 * time.Minute, 15 * time.Minute},
	} {
		t.Run(fmt.Sprintf("%v MB per s", c.mbps), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				link := newSlowLink(c.mbps * 1e6)
				defer link.next.Stop()
				store := objectstore.Hedge(link, link, objectstore.HedgeOptions{})
				o := Options{
					Window: MaxWindow, SlotBytes: 8 << 20 / sizeScale, Random: rand.NewPCG(1, 1), Logger: slog.New(slog.DiscardHandler),
				}
				sink := withPacedWriter(t, store, o, func(w *Writer, sink *paceSink) {
					for n := range int64(12) {
						sink.send(t, w, n, 8<<20/sizeScale)
					}
					for begun := time.Now(); w.Committed() < 11 && time.Since(begun) < c.all; {
						<-time.After(time.Second)
					}
					link.widen()
				})
				t.Logf("committed after %v", sink.took)
				if len(sink.took) < 12 || sink.took[0] > c.first || sink.took[11] > c.all {
					t.Errorf("%d of 12 slots committed after %v, want the first within %v and all within %v", len(sink.took), sink.took, c.first, c.all)
				}
			})
		})
	}
}
