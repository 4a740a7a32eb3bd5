package e2e

import (
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync/atomic"
	"testing"
	"time"
)

// A faultyS3 stands between a broker and its S3 service. It is well until it is told otherwise.
type faultyS3 struct {
	Endpoint string
	fault    atomic.Pointer[s3Fault]
	faulted  atomic.Int64
}

// An s3Fault is what happens to each request; pass sends it on.
type s3Fault func(w http.ResponseWriter, r *http.Request, pass http.Handler)

// startFaultyS3 runs a proxy in front of the service at endpoint until the test ends.
func startFaultyS3(t *testing.T, endpoint string) *faultyS3 {
	t.Helper()
	target, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	// The Host header is signed, so it stays as it came.
	pass := &httputil.ReverseProxy{
		Rewrite:      func(r *httputil.ProxyRequest) { r.SetURL(target); r.Out.Host = r.In.Host },
		Transport:    &http.Transport{MaxIdleConnsPerHost: 64},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}
	p := &faultyS3{}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p.Endpoint = "http://" + ln.Addr().String()
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if fault := p.fault.Load(); fault != nil {
			p.faulted.Add(1)
			(*fault)(w, r, pass)
			return
		}
		pass.ServeHTTP(w, r)
	})}
	go server.Serve(ln)
	t.Cleanup(func() { server.Close() })
	return p
}

// set changes what happens; nil heals.
func (p *faultyS3) set(f s3Fault) {
	if f == nil {
		p.fault.Store(nil)
		return
	}
	p.fault.Store(&f)
}

// slowDown answers as S3 does when it is asked too much.
func slowDown(w http.ResponseWriter, r *http.Request, _ http.Handler) {
	io.Copy(io.Discard, r.Body)
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(http.StatusServiceUnavailable)
	io.WriteString(w, `<?xml version="1.0" encoding="UTF-8"?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>`)
}

// slow adds a latency to each request.
func slow(by time.Duration) s3Fault {
	return func(w http.ResponseWriter, r *http.Request, pass http.Handler) {
		select {
		case <-time.After(by):
			pass.ServeHTTP(w, r)
		case <-r.Context().Done():
		}
	}
}

// landsButErrs lets a PUT do its work and answers with an error; what it already did is told truly (412).
func landsButErrs(w http.ResponseWriter, r *http.Request, pass http.Handler) {
	if r.Method != http.MethodPut {
		pass.ServeHTTP(w, r)
		return
	}
	pass.ServeHTTP(&lyingWriter{ResponseWriter: w, lie: func(status int) bool { return status == http.StatusOK }}, r)
}

// neverTells lets a PUT do its work and answers with an error whatever came of it.
func neverTells(w http.ResponseWriter, r *http.Request, pass http.Handler) {
	if r.Method != http.MethodPut {
		pass.ServeHTTP(w, r)
		return
	}
	pass.ServeHTTP(&lyingWriter{ResponseWriter: w, lie: func(int) bool { return true }}, r)
}

// A lyingWriter turns some answers into 500.
type lyingWriter struct {
	http.ResponseWriter
	lie  func(status int) bool
	lied bool
}

func (l *lyingWriter) WriteHeader(status int) {
	if l.lie(status) {
		l.lied, status = true, http.StatusInternalServerError
		l.Header().Del("Content-Length")
	}
	l.ResponseWriter.WriteHeader(status)
}

func (l *lyingWriter) Write(p []byte) (int, error) {
	if l.lied {
		return len(p), nil
	}
	return l.ResponseWriter.Write(p)
}
