package sim

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/tidemill/tidemill/metadata"
)

// etcd is the agreed state: keys with revisions, changed by transactions that compare them. It is a model; the transactions themselves,
// see agreed, follow those of package metadata comparison by comparison.
type etcd struct {
	w    *world
	rev  int64
	keys map[string]kv
	// away: nothing answers.
	away bool
}

// kv is a value with the revision of its last change, and the operation that wrote it.
type kv struct {
	value any
	rev   int64
	op    string
	// lease is the process whose end takes the key away, if any.
	lease *process
}

type comparison struct {
	key string
	rev int64
}

type change struct {
	key string
	kv  kv // without a value: the key is deleted
	// ifRev, if set, makes the change only when the key is at this revision still.
	ifRev int64
}

// write is one transaction. Its attempts are the same, so the comparisons admit at most one of them.
type write struct {
	what string
	when []comparison
	then []change
	// gets are read after then, or when the comparisons failed.
	gets []string
	// op, if set, is the operation whose value in the first of gets shows that an earlier attempt was applied.
	op string
}

// delicate says how much more than of others a transaction's fate is worth not to be known.
func (t *write) delicate() float64 {
	switch {
	case len(t.then) == 0:
		return 0
	case strings.HasPrefix(t.what, "move"):
		return 10
	}
	return 1
}

type answer struct {
	succeeded bool
	rev       int64
	kvs       []kv
}

// apply is the instant of a transaction.
func (e *etcd) apply(t *write) answer {
	a := answer{succeeded: true, rev: e.rev}
	for _, c := range t.when {
		a.succeeded = a.succeeded && e.keys[c.key].rev == c.rev
	}
	if a.succeeded && len(t.then) > 0 {
		e.rev++
		a.rev = e.rev
		for _, c := range t.then {
			e.set(c)
		}
		e.w.trace("txn", "%d %s", e.rev, t.what)
		e.w.truth.agreed(t)
		e.w.changed()
	}
	for _, key := range t.gets {
		a.kvs = append(a.kvs, e.keys[key])
	}
	return a
}

func (e *etcd) set(c change) {
	if c.ifRev != 0 && e.keys[c.key].rev != c.ifRev {
		return
	}
	if c.kv.value == nil {
		delete(e.keys, c.key)
		return
	}
	c.kv.rev = e.rev
	e.keys[c.key] = c.kv
}

// expire takes away the keys of a process's lease.
func (e *etcd) expire(p *process) {
	t := &write{what: "lease of " + p.name + " ends"}
	for _, key := range sortedKeys(e.keys) {
		if e.keys[key].lease == p {
			t.then = append(t.then, change{key: key})
		}
	}
	if len(t.then) > 0 {
		e.apply(t)
	}
}

var (
	errSent   = errors.New("simulated: the connection broke")
	errUnsent = errors.New("simulated: etcd is not there")
)

// attempt sends a transaction once: it is applied, lost, applied without an answer, or applied long after it was given up.
func (e *etcd) attempt(by *process, t *write, answered func(answer, error)) {
	w, c := e.w, &e.w.cfg
	done := func(a answer, err error) {
		if by.cut && err == nil {
			a, err = answer{}, errSent
		}
		answered(a, err)
	}
	apply := func() answer { return e.apply(t) }
	there, back := w.delay(), w.delay()
	broken := func() { done(answer{}, errSent) }
	switch {
	case e.away || by.cut:
		w.after(back, func() { done(answer{}, errUnsent) })
	case w.faulty(c.cut * t.delicate()): // just behind it
		w.after(there, func() { apply() })
		by.cutOff()
		w.after(there+back, broken)
	case w.faulty(c.txnLost):
		w.after(there+back, broken)
	case w.faulty(c.txnApplied):
		w.after(there, func() { apply() })
		w.after(there+back, broken)
	case w.faulty(c.txnLate):
		w.after(w.between(0, [...]time.Duration{time.Second, 20 * time.Second}[w.rng.IntN(2)]), func() {
			w.trace("late txn", "%s", t.what)
			apply()
		})
		w.after(back, broken)
	case len(t.then) == 0:
		w.look(there, back, func() func() {
			a := apply()
			return func() { done(a, nil) }
		})
	default:
		w.after(there, func() {
			a := apply()
			w.after(back, func() { done(a, nil) })
		})
	}
}

const (
	// etcdTimeout bounds a call, as metadata.Config.Timeout does, and etcdRetry spaces its attempts. Both are other than there, so that
	// runs with an outage are short.
	etcdTimeout = 3 * time.Second
	etcdRetry   = 300 * time.Millisecond
)

// commit runs a transaction until its outcome is known or the time is over, as metadata.Store does.
func (c *agreed) commit(ctx context.Context, t write) (answer, bool, error) {
	ambiguous := false
	for {
		var a answer
		var out error
		err := c.p.ask(ctx, "txn "+t.what, func(done func()) {
			c.p.w.etcd.attempt(c.p, &t, func(x answer, err error) { a, out = x, err; done() })
		})
		switch {
		case errors.Is(err, errCrashed):
			return a, false, fmt.Errorf("%s: %w: %w", t.what, metadata.ErrUnknownOutcome, err)
		case err != nil:
			ambiguous = true
		case out == nil:
			return a, a.succeeded || ambiguous && t.op != "" && a.kvs[0].op == t.op, nil
		default:
			ambiguous, err = ambiguous || errors.Is(out, errSent), out
		}
		if stop := pause(ctx, etcdRetry); stop != nil && ambiguous && len(t.then) > 0 {
			return a, false, fmt.Errorf("%s: %w: %w", t.what, metadata.ErrUnknownOutcome, err)
		} else if stop != nil {
			return a, false, fmt.Errorf("%s: %w: %w", t.what, metadata.ErrUnavailable, err)
		}
	}
}
