package s3store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// errStalled ends a request that makes no progress.
var errStalled = errors.New("the connection to the service carries nothing")

// A patience ends a request that makes no progress for a time. How long all of it may take is the caller's business: many large
// requests at once over a slow link each take long, and to begin them anew would only make them longer.
type patience struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	limit  time.Duration
	timer  *time.Timer
}

// newPatience returns the context for a request, which ends with ctx too. Release it after the request.
func newPatience(ctx context.Context, limit time.Duration) (context.Context, *patience) {
	p := &patience{limit: limit}
	p.ctx, p.cancel = context.WithCancelCause(ctx)
	p.timer = time.AfterFunc(limit, func() { p.cancel(fmt.Errorf("%w for %v", errStalled, limit)) })
	return p.ctx, p
}

// progress notes that bytes went or came; the next ones have times the limit.
func (p *patience) progress(times int64) { p.timer.Reset(p.limit * time.Duration(times)) }

// release ends the request's context.
func (p *patience) release() {
	p.timer.Stop()
	p.cancel(nil)
}

// explain returns err, or why the request was ended if the service did not answer it.
func (p *patience) explain(err error) error {
	if cause := context.Cause(p.ctx); err != nil && errors.Is(cause, errStalled) {
		if status, _ := answer(err); status == 0 {
			return cause
		}
	}
	return err
}

// A patientBody is an answer's body whose bytes are progress.
type patientBody struct {
	io.ReadCloser
	p *patience
}

// Read implements io.Reader.
func (b *patientBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if n > 0 {
		b.p.progress(1)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		err = b.p.explain(err)
	}
	return n, err
}

// Close implements io.Closer.
func (b *patientBody) Close() error {
	b.p.release()
	return b.ReadCloser.Close()
}

// A sender sends requests with the bodies that their contexts carry. The others have its patience: those bodies have one of their own.
type sender struct {
	http.Client
	patience time.Duration
}

// Do implements s3.HTTPClient.
func (s *sender) Do(r *http.Request) (*http.Response, error) {
	if body, ok := r.Context().Value(bodyKey{}).(*bodyReader); ok {
		if r.Body != nil && r.Body != http.NoBody {
			r.Body = body
		}
		return s.Client.Do(r)
	}
	ctx, p := newPatience(r.Context(), s.patience)
	resp, err := s.Client.Do(r.WithContext(ctx))
	if err != nil {
		err = p.explain(err)
		p.release()
		return nil, err
	}
	p.progress(1)
	resp.Body = &patientBody{resp.Body, p}
	return resp, nil
}
