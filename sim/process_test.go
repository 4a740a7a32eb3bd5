package sim

import (
	"context"
	"errors"
)

// process may stop for a while and then go on, or stop for good. What reaches it meanwhile waits, and so does what it sends: its
// goroutines run on, but nobody hears of it.
type process struct {
	w      *world
	name   string
	ctx    context.Context
	cancel context.CancelFunc
	// gone is closed when the process has crashed.
	gone         chan struct{}
	paused, dead bool // owned by the world
	backlog      []func()
}

var errCrashed = errors.New("simulated: the process has crashed")

func newProcess(w *world, name string) *process {
	p := &process{w: w, name: name, gone: make(chan struct{})}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p
}

// deliver performs f for the process: now, or when it goes on.
func (p *process) deliver(f func()) {
	switch {
	case p.dead:
	case p.paused || len(p.backlog) > 0:
		p.backlog = append(p.backlog, f)
	default:
		f()
	}
}

func (p *process) pause() {
	if !p.dead && !p.paused {
		p.w.trace("pause", "%s", p.name)
		p.paused = true
	}
}

func (p *process) resume() {
	if p.paused && !p.dead {
		p.w.trace("resume", "%s", p.name)
		p.paused = false
		p.w.after(0, p.catchUp)
	}
}

// catchUp delivers what has waited, one after the other.
func (p *process) catchUp() {
	if p.paused || p.dead || len(p.backlog) == 0 {
		return
	}
	f := p.backlog[0]
	p.backlog = p.backlog[1:]
	f()
	p.w.after(0, p.catchUp)
}

// crash ends the process; what it has sent still lands.
func (p *process) crash() {
	if p.dead {
		return
	}
	p.dead, p.backlog = true, nil
	close(p.gone)
	p.cancel()
}

// ask lets the world answer a request: start is called by it, and calls done when the answer is there. nil: it is.
func (p *process) ask(ctx context.Context, what string, start func(done func())) error {
	answered := make(chan struct{})
	p.w.post(p.name+" "+what, func() {
		p.deliver(func() { start(func() { p.deliver(func() { close(answered) }) }) })
	})
	select {
	case <-answered:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-p.gone:
		return errCrashed
	}
}

// spawn runs f in a goroutine of the process and then, by the world, done.
func (p *process) spawn(what string, f func(ctx context.Context) error, done func(error)) {
	go func() {
		err := f(p.ctx)
		p.w.post(p.name+" ends "+what, func() { p.deliver(func() { done(err) }) })
	}()
}
