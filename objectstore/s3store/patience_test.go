package s3store_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidemill/tidemill/objectstore"
)

// stallLimit is long for a step of the services below and short for all of them.
const stallLimit = time.Second

// slowService is a service whose sockets take little that it has not asked for, and which hands bodies to the handler as they come.
func slowService(t *testing.T, h http.HandlerFunc) *service {
	t.Helper()
	opened := newService(t)
	slow := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/key") {
			h(w, r)
			return
		}
		opened.Config.Handler.ServeHTTP(w, r)
	}))
	slow.Listener = smallBuffers{slow.Listener}
	slow.Start()
	t.Cleanup(slow.Close)
	return &service{Server: slow}
}

type smallBuffers struct{ net.Listener }

func (l smallBuffers) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if tcp, ok := c.(*net.TCPConn); ok {
		err = errors.Join(err, tcp.SetReadBuffer(64<<10))
	}
	return c, err
}

// TestSlowPut: many large Puts over a slow link take long each. One that goes on must not be ended, or all of them begin anew, for ever.
func TestSlowPut(t *testing.T) {
	s := slowService(t, func(w http.ResponseWriter, r *http.Request) {
		pace := time.NewTicker(stallLimit / 8)
		defer pace.Stop()
		for {
			if _, err := io.CopyN(io.Discard, r.Body, 512<<10); err != nil {
				return
			}
			<-pace.C
		}
	})
	config := s.config()
	config.PutTimeout = stallLimit
	store := open(t, config)
	if err := store.Put(t.Context(), "key", make([]byte, 16<<20)); err != nil {
		t.Errorf("a slow put: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), stallLimit/4)
	defer cancel()
	err := store.Put(ctx, "key", make([]byte, 16<<20))
	wantOnly(t, err, objectstore.ErrAmbiguous)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a slow put of a caller in a hurry: got error %v, want %v too", err, context.DeadlineExceeded)
	}
}

func TestStalledPut(t *testing.T) {
	over := make(chan struct{})
	s := slowService(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.CopyN(io.Discard, r.Body, 1<<20)
		<-over
	})
	defer close(over)
	config := s.config()
	config.PutTimeout = stallLimit
	err := open(t, config).Put(t.Context(), "key", make([]byte, 16<<20))
	wantOnly(t, err, objectstore.ErrAmbiguous)
	if err == nil || !strings.Contains(err.Error(), "carries nothing") || errors.Is(err, context.Canceled) {
		t.Errorf("a put that stalls: got error %v, want one that says so", err)
	}
}

// rangeOf returns the range that a request asks for.
func rangeOf(t *testing.T, r *http.Request) (first, last int) {
	t.Helper()
	if _, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &first, &last); err != nil {
		t.Errorf("range %q: %v", r.Header.Get("Range"), err)
	}
	return first, last
}

// beginRange answers with the header of a range.
func beginRange(w http.ResponseWriter, first, last int) {
	w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", first, last, last+1))
	w.Header().Set("Content-Length", fmt.Sprint(last+1-first))
	w.WriteHeader(http.StatusPartialContent)
	_ = http.NewResponseController(w).Flush() // the client must see it at once
}

func TestSlowRead(t *testing.T) {
	s := slowService(t, func(w http.ResponseWriter, r *http.Request) {
		first, last := rangeOf(t, r)
		beginRange(w, first, last)
		pace := time.NewTicker(stallLimit / 8)
		defer pace.Stop()
		for range 16 {
			_, _ = w.Write(make([]byte, (last+1-first)/16))
			_ = http.NewResponseController(w).Flush()
			<-pace.C
		}
	})
	config := s.config()
	config.ReadTimeout = stallLimit
	if err := open(t, config).ReadAt(t.Context(), "key", make([]byte, 1<<20), 0); err != nil {
		t.Errorf("a slow read: %v", err)
	}
}

// TestStalledRead: an answer that stalls is given up, and what it brought is not asked for again.
func TestStalledRead(t *testing.T) {
	const object = "0123456789"
	for _, c := range []struct {
		name  string
		sends int // of the answer to each request, before it stalls
		from  []int
		ok    bool
	}{
		{"half", 5, []int{0, 5}, true},
		{"a part", 4, []int{0, 4, 8}, true},
		{"little", 1, []int{0, 1, 2}, false},
		{"nothing", 0, []int{0, 0, 0}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			var from []int
			s := slowService(t, func(w http.ResponseWriter, r *http.Request) {
				first, last := rangeOf(t, r)
				mu.Lock()
				from = append(from, first)
				mu.Unlock()
				beginRange(w, first, last)
				_, _ = io.WriteString(w, object[first:min(first+c.sends, len(object))])
				_ = http.NewResponseController(w).Flush()
				if first+c.sends <= last {
					<-r.Context().Done()
				}
			})
			config := s.config()
			config.ReadTimeout = stallLimit
			p := make([]byte, len(object))
			err := open(t, config).ReadAt(t.Context(), "key", p, 0)
			if (err == nil) != c.ok || c.ok && string(p) != object {
				t.Errorf("read %q, error %v", p, err)
			}
			if err != nil && (!strings.Contains(err.Error(), "carries nothing") || errors.Is(err, context.Canceled)) {
				t.Errorf("got error %v, want one that says that it stalls", err)
			}
			mu.Lock()
			defer mu.Unlock()
			if !slices.Equal(from, c.from) {
				t.Errorf("asked from %v, want %v", from, c.from)
			}
		})
	}
}

// TestUnansweredRead is tried again, as any that fails on its way.
func TestUnansweredRead(t *testing.T) {
	s := newService(t)
	config := s.config()
	config.ReadTimeout = stallLimit
	store := open(t, config)
	s.respond(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	if _, err := store.Get(t.Context(), "key"); err == nil || !strings.Contains(err.Error(), "carries nothing") {
		t.Errorf("got error %v, want one that says that it stalls", err)
	}
	if got := s.requests.Load(); got != 3 {
		t.Errorf("get sent %d requests, want 3", got)
	}
}
