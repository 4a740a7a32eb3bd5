package sim

import (
	"context"
	"errors"
	"time"
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
	// cut: etcd is out of its reach. reconnected is called when that is over. Both are owned by the world.
	cut         bool
	reconnected func()
	backlog     []func()
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

// cutOff takes etcd out of the process's reach: no answer arrives any more, and nothing more that it sends does.
func (p *process) cutOff() {
	if p.cut {
		return
	}
	w := p.w
	w.trace("cut off", "%s", p.name)
	p.cut = true
	w.after(w.between(100*time.Millisecond, 30*time.Second), p.reconnect)
	if w.chance(.3) {
		w.after(w.between(time.Second, 5*time.Second), func() { w.etcd.expire(p) })
	}
}

func (p *process) reconnect() {
	if p.cut {
		p.w.trace("reconnect", "%s", p.name)
		p.cut = false
		if p.reconnected != nil {
			p.reconnected()
		}
	}
}

// crash ends the process; what it has sent still lands.
func (p *process) crash() {
	if p.dead {
		return
	}
	p.dead, p.backlog = true, nil
	close(p.gone)
	p.cancel()
	p.w.living = nil
	p.w.stirred.Store(true)
}

// after lets something happen to the process when d has passed.
func (p *process) after(d time.Duration, f func()) {
	p.w.push(event{at: p.w.at + max(d, 0), run: f, to: p})
}

// post lets something happen to the process now. Any goroutine of it may call it.
func (p *process) post(what string, f func()) { p.w.post(p, what, f) }

// limited is a context that ends after a while. The limit is in the world's queue while somebody waits, and most who wait are answered
// long before.
type limited struct {
	context.Context
	p     *process
	until time.Duration
}

// Err implements context.Context.
func (l limited) Err() error {
	if err := l.Context.Err(); err != nil || l.p.w.passed() < l.until {
		return err
	}
	return context.DeadlineExceeded
}

// limit bounds what a context's owner does.
func (p *process) limit(ctx context.Context, d time.Duration) limited {
	l := limited{ctx, p, p.w.passed() + d}
	if outer, ok := ctx.(limited); ok {
		l.Context, l.until = outer.Context, min(l.until, outer.until)
	}
	return l
}

// ask lets the world answer a request: start is called by it, and calls done when the answer is there. nil: it is.
func (p *process) ask(ctx context.Context, what string, start func(done func())) error {
	answered, over, late := make(chan struct{}), false, false
	finish := func() {
		if !over {
			over = true
			close(answered)
			p.w.stirred.Store(true)
		}
	}
	l, bounded := ctx.(limited)
	p.post(what, func() {
		if bounded { // the goroutines of a process that is paused run on, so it hears of this
			p.w.push(event{at: max(l.until, p.w.at), over: &over, run: func() { late = true; finish() }})
		}
		start(func() { p.deliver(finish) })
	})
	if bounded {
		ctx = l.Context
	}
	select {
	case <-answered:
		if late {
			return context.DeadlineExceeded
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-p.gone:
		return errCrashed
	}
}

// spawn runs f in a goroutine of the process and then, by the world, done.
func (p *process) spawn(what string, f func(ctx context.Context) error, done func(error)) {
	p.w.start(func() {
		err := f(p.ctx)
		p.post("ends "+what, func() { done(err) })
	})
}

// pause waits for a while.
func pause(ctx context.Context, d time.Duration) error {
	if l, ok := ctx.(limited); ok {
		d = max(min(d, l.until-l.p.w.passed()), 0)
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
	return ctx.Err()
}
