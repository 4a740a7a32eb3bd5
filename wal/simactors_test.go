package wal

import (
	"context"
	"encoding/binary"
	"errors"
	"iter"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/tidemill/tidemill/objectstore"
	"github.com/tidemill/tidemill/protocol"
)

// process may stop for a while and then go on, or stop for good. What reaches it meanwhile waits.
type process struct {
	paused, dead bool
	backlog      []func()
}

func (p *process) deliver(f func()) {
	switch {
	case p.dead:
	case p.paused:
		p.backlog = append(p.backlog, f)
	default:
		f()
	}
}

func (p *process) resume() {
	p.paused = false
	for len(p.backlog) > 0 && !p.paused && !p.dead {
		f := p.backlog[0]
		p.backlog = p.backlog[1:]
		f()
	}
}

// simWriter drives the real core, as Writer does.
type simWriter struct {
	process
	w       *world
	core    *core
	wake    uint64
	fenced  int
	closed  bool
	offsets map[int32]int64
	nextID  uint64
}

func newSimWriter(w *world) *simWriter {
	o := Options{
		Cluster: simCluster, Window: w.cfg.window, SlotBytes: w.cfg.slotBytes, FlushInterval: w.cfg.interval,
		PutsPerSecond: w.cfg.puts,
	}
	x := &simWriter{w: w, offsets: map[int32]int64{}, core: newCore(simLife, o.withDefaults(), rand.New(rand.NewPCG(w.rng.Uint64(), 1)))}
	x.core.faults = w.cfg.writerFaults
	return x
}

// input feeds the core and performs what it asks for.
func (x *simWriter) input(f func(now time.Duration)) {
	x.deliver(func() {
		f(x.w.now)
		x.pump()
	})
}

func (x *simWriter) pump() {
	if x.dead {
		return
	}
	again := x.core.step(x.w.now)
	for _, a := range x.core.take() {
		x.perform(a)
	}
	x.wake++
	if generation := x.wake; again != never {
		x.w.after(again-x.w.now, func() {
			if generation == x.wake {
				x.input(func(time.Duration) {})
			}
		})
	}
}

func (x *simWriter) perform(a action) {
	w, f := x.w, a.flight
	switch a.kind {
	case actPut:
		w.trace("put", f.slot.Seq, int64(f.attempts))
		if f.slot.Seq >= x.core.nextSeq || len(x.core.flights) > w.cfg.window {
			w.violate("window", "slot %d is outside of the window (W3)", f.slot.Seq)
		}
		w.store.put(f.slot.Key, f.slot.Object.Bytes(), func(err error) {
			x.input(func(now time.Duration) { x.core.putDone(now, f, err) })
		})
	case actRead:
		w.trace("read", f.slot.Seq, int64(f.failures))
		w.store.header(f.slot.Key, func(b []byte, err error) {
			x.input(func(now time.Duration) { x.core.readDone(now, f, b, err) })
		})
	case actCommit:
		w.model.committed(&f.slot)
	case actFenced:
		x.fenced++
		w.trace("fenced", x.core.committed, int64(len(x.core.flights)))
	case actClosed:
		w.trace("closed", f.slot.Seq, 0)
		x.closed = true
		w.model.closed(f.slot.Seq)
		x.finishClose(f.slot.Seq, x.core.closedPrev)
	case actAlarm:
		w.trace("alarm", 0, 0)
	}
}

// finishClose is the transaction behind CLOSE (W8), until its outcome is known.
func (x *simWriter) finishClose(n int64, digest Digest) {
	x.w.registry.finishSeal(n, digest, "", func(st StreamState, err error) {
		x.deliver(func() {
			if err != nil || st.Phase == PhaseOpen {
				x.w.after(100*time.Millisecond, func() { x.deliver(func() { x.finishClose(n, digest) }) })
			} else if st.Phase == PhaseSealing {
				x.w.trace("close overtaken", n, 0) // the sealer will find CLOSE
			}
		})
	})
}

// produce appends the entries of one request.
func (x *simWriter) produce() {
	x.input(func(now time.Duration) {
		if x.core.done() || x.core.closing {
			return
		}
		var entries []Entry
		for range 1 + x.w.rng.IntN(3) {
			entries = append(entries, x.entry())
		}
		x.core.append(now, entries)
		if x.w.chance(.8) {
			x.core.nudge()
		}
	})
}

func (x *simWriter) entry() Entry {
	x.nextID++
	p := x.w.rng.Int32N(3)
	data := binary.BigEndian.AppendUint64(nil, x.nextID)
	data = append(data, make([]byte, 8*x.w.rng.IntN(4))...)
	e := Entry{
		Partition: protocol.PartitionID{Topic: protocol.TopicID{9}, Partition: p}, LeaderEpoch: x.w.rng.Int32N(2),
		BaseOffset: x.offsets[p], LastOffset: x.offsets[p] + x.w.rng.Int64N(3), Data: data,
	}
	x.offsets[p] = e.LastOffset + 1
	x.w.model.appended(&e, x.nextID)
	return e
}

// simSealer runs the real sealer as a coroutine: each request suspends it until the simulation answers.
type simSealer struct {
	process
	w       *world
	name    string
	ctx     context.Context
	cancel  context.CancelFunc
	next    func() (func(func()), bool)
	stop    func()
	yield   func(func(func())) bool
	ahead   map[int64]*aheadRead
	done    bool
	started time.Duration
}

type aheadRead struct {
	done   bool
	object []byte
	err    error
	waiter func()
}

func startSealer(w *world, name string) *simSealer {
	x := &simSealer{w: w, name: name, ahead: map[int64]*aheadRead{}, started: w.now}
	x.ctx, x.cancel = context.WithCancel(context.Background())
	w.trace("sealer starts", int64(len(w.sealers)), 0)
	logic := &sealer{
		store: sealerStore{x}, registry: sealerRegistry{x}, reads: x, life: simLife,
		opts: SealOptions{Cluster: simCluster, Name: name, Logger: slog.New(slog.DiscardHandler)},
		sleep: func(ctx context.Context, d time.Duration) error {
			x.await(func(done func()) { w.after(d, done) })
			return ctx.Err()
		},
		random: w.rng.Int64N, faults: w.cfg.sealerFaults,
	}
	x.next, x.stop = iter.Pull(func(yield func(func(func())) bool) {
		x.yield = yield
		rec, err := logic.run(x.ctx)
		x.done = true
		if !x.dead {
			w.model.sealed(x, rec, err)
		}
	})
	w.sealers = append(w.sealers, x)
	w.after(0, x.step)
	return x
}

// step lets the coroutine run to its next request.
func (x *simSealer) step() {
	x.deliver(func() {
		if start, ok := x.next(); ok {
			start(x.step)
		}
	})
}

// await suspends the coroutine until start's argument is called.
func (x *simSealer) await(start func(done func())) { x.yield(start) }

// crash ends the sealer; requests on their way still land.
func (x *simSealer) crash() {
	if x.done || x.dead {
		return
	}
	x.w.trace("sealer crashes", int64(slices.Index(x.w.sealers, x)), 0)
	x.dead = true
	x.cancel()
	x.stop()
}

// get implements slotReader with reads ahead, whose answers may be old when they are judged.
func (x *simSealer) get(ctx context.Context, seq int64) ([]byte, error) {
	for s := seq; s <= seq+MaxWindow; s++ {
		x.readAhead(s)
	}
	r := x.ahead[seq]
	delete(x.ahead, seq)
	if !r.done {
		x.await(func(done func()) { r.waiter = done })
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return r.object, r.err
}

func (x *simSealer) readAhead(seq int64) {
	if x.ahead[seq] != nil {
		return
	}
	r := &aheadRead{}
	x.ahead[seq] = r
	x.w.store.get(SlotKey(simLife, seq), func(object []byte, err error) {
		r.done, r.object, r.err = true, object, err
		if r.waiter != nil {
			r.waiter()
		}
	})
}

func (x *simSealer) fresh(ctx context.Context, seq int64) ([]byte, error) {
	clear(x.ahead)
	return x.get(ctx, seq)
}

// sealerStore is the simulated store as the sealer's code sees it.
type sealerStore struct{ x *simSealer }

func (s sealerStore) Put(ctx context.Context, key string, body []byte) error {
	var out error
	s.x.await(func(done func()) { s.x.w.store.put(key, body, func(err error) { out = err; done() }) })
	return errors.Join(ctx.Err(), out)
}

func (s sealerStore) Get(ctx context.Context, key string) ([]byte, error) {
	var object []byte
	var out error
	s.x.await(func(done func()) {
		s.x.w.store.get(key, func(b []byte, err error) { object, out = b, err; done() })
	})
	return object, errors.Join(ctx.Err(), out)
}

func (s sealerStore) ReadAt(context.Context, string, []byte, int64) error { panic("not used") }
func (s sealerStore) Delete(context.Context, ...string) error             { panic("not used") }
func (s sealerStore) List(context.Context, string, string) iter.Seq2[objectstore.Info, error] {
	panic("not used")
}

// sealerRegistry is the simulated registry as the sealer's code sees it.
type sealerRegistry struct{ x *simSealer }

func (r sealerRegistry) call(ctx context.Context, f func(done func(StreamState, error))) (StreamState, error) {
	var st StreamState
	var out error
	r.x.await(func(done func()) { f(func(s StreamState, err error) { st, out = s, err; done() }) })
	return st, errors.Join(ctx.Err(), out)
}

func (r sealerRegistry) Load(ctx context.Context, _ Life) (StreamState, error) {
	return r.call(ctx, r.x.w.registry.load)
}

func (r sealerRegistry) BeginSeal(ctx context.Context, _ Life, rev int64, name string) (StreamState, error) {
	return r.call(ctx, func(done func(StreamState, error)) { r.x.w.registry.beginSeal(rev, name, done) })
}

func (r sealerRegistry) FinishSeal(ctx context.Context, _ Life, n int64, d Digest, key string) (StreamState, error) {
	return r.call(ctx, func(done func(StreamState, error)) { r.x.w.registry.finishSeal(n, d, key, done) })
}

func (r sealerRegistry) Trim(context.Context, Life, int64, int64) error { panic("not used") }

// collector trims and deletes: the owner while the log is open, the successor once it is sealed.
func (w *world) collect(successor bool) {
	rev, known := int64(1), w.writer.core.committed+1
	if successor {
		st := w.registry.state
		if st.Phase != PhaseSealed {
			return
		}
		rev, known = st.Rev, st.N
	}
	if known <= w.registry.state.Trim {
		return
	}
	from := w.registry.state.Trim
	t := from + 1 + w.rng.Int64N(known-from)
	w.registry.trim(rev, t, func(StreamState, error) {
		// Whatever the answer: delete what the registry says may go.
		end := w.registry.state.Deletable()
		if w.cfg.deleteSeal && w.registry.state.Phase == PhaseSealed && end == w.registry.state.N {
			end++
		}
		w.after(w.between(0, 10*time.Second), func() {
			for s := range end {
				w.store.remove(s)
			}
		})
	})
}

// model is what must hold.
type model struct {
	w        *world
	order    [3][]uint64 // entry ids per partition, as appended
	acked    map[int64]bool
	closedAt *int64
	results  []Recovery
	failures int
}

func (m *model) appended(e *Entry, id uint64) {
	p := e.Partition.Partition
	m.order[p] = append(m.order[p], id)
}

func (m *model) committed(s *Slot) {
	m.w.trace("commit", s.Seq, int64(s.Object.Size()))
	if m.acked[s.Seq] {
		m.w.violate("order", "slot %d committed twice", s.Seq)
	}
	if !m.w.cfg.writerFaults.ackAlone && !m.w.cfg.writerFaults.giveUp && s.Seq != int64(len(m.acked)) {
		m.w.violate("order", "slot %d committed after %d slots (W5)", s.Seq, len(m.acked))
	}
	m.acked[s.Seq] = true
	m.check()
}

func (m *model) closed(n int64) {
	m.closedAt = &n
	m.check()
}

func (m *model) sealed(x *simSealer, rec Recovery, err error) {
	m.w.trace("sealer ends", rec.N, rec.Trim)
	switch {
	case errors.Is(err, ErrQuarantine) && (m.w.cfg.getTruncated > 0 || m.w.cfg.getFlipped > 0) && x.started < m.w.healAt():
		// Both reads were damaged: loud, and wrong only in that it wants a person. Another sealer follows.
		m.failures++
	case err != nil:
		m.w.violate("sealer", "sealer %s: %v", x.name, err)
	default:
		m.results = append(m.results, rec)
		m.check()
	}
}

// check holds what was recovered against what was acknowledged.
func (m *model) check() {
	if len(m.results) == 0 {
		return
	}
	n := m.results[0].N
	for i := range m.results {
		if m.results[i].N != n || m.w.registry.state.N != n || m.results[i].Digest != m.results[0].Digest {
			m.w.violate("divergent", "sealers say that the log ends at %d and %d, the registry at %d", n, m.results[i].N, m.w.registry.state.N)
			return
		}
	}
	for s := range m.acked {
		if s >= n {
			m.w.violate("lost", "slot %d was acknowledged, but the log ends at %d", s, n)
			return
		}
	}
	if m.closedAt != nil && *m.closedAt != n {
		m.w.violate("lost", "the life closed itself at %d, but the log ends at %d", *m.closedAt, n)
		return
	}
	m.contents(&m.results[len(m.results)-1])
}

// contents compares the recovered entries, one by one, with the appended ones.
func (m *model) contents(r *Recovery) {
	recovered, ok := m.trimmedPart(r)
	if !ok {
		return
	}
	at := r.Trim - 1
	for i := range r.Chunks {
		c := &r.Chunks[i]
		if c.Seq != at && c.Seq != at+1 {
			m.w.violate("hole", "recovery jumps from slot %d to %d", at, c.Seq)
			return
		}
		at = c.Seq
		m.collect(&recovered, m.w.store.data[SlotKey(simLife, c.Seq)], &c.Chunk)
	}
	if at != r.N-1 {
		m.w.violate("hole", "recovery ends at slot %d, want %d", at, r.N-1)
		return
	}
	for p := range recovered {
		got, want := recovered[p], m.order[p]
		if len(got) > len(want) || !slices.Equal(got, want[:len(got)]) {
			m.w.violate("order", "partition %d: recovered entries %v are no prefix of %v", p, got, want)
			return
		}
	}
	m.digestChain(r)
}

// trimmedPart returns the entries that manifests hold: those of the slots below trim.
func (m *model) trimmedPart(r *Recovery) (ids [3][]uint64, ok bool) {
	for s := range r.Trim {
		object := m.w.store.data[SlotKey(simLife, s)]
		if object == nil {
			m.w.violate("hole", "slot %d below trim %d never held data", s, r.Trim)
			return ids, false
		}
		_, chunks, err := DecodeSlot(object)
		if err != nil {
			m.w.violate("format", "slot %d: %v", s, err)
			return ids, false
		}
		for i := range chunks {
			m.collect(&ids, object, &chunks[i])
		}
	}
	return ids, true
}

func (m *model) collect(ids *[3][]uint64, object []byte, c *Chunk) {
	if uint64(len(object)) < uint64(c.Pos)+uint64(c.Len) {
		m.w.violate("format", "chunk lies outside of its slot")
		return
	}
	data := object[c.Pos : c.Pos+c.Len]
	if err := c.Check(data); err != nil {
		m.w.violate("format", "recovered chunk: %v", err)
	}
	for ; len(data) >= 8; data = data[8:] {
		if id := binary.BigEndian.Uint64(data); id != 0 {
			ids[c.Partition.Partition] = append(ids[c.Partition.Partition], id)
		}
	}
}

func (m *model) digestChain(r *Recovery) {
	if r.N == 0 || r.Digest == (Digest{}) && r.Trim == r.N {
		return
	}
	h, _, err := DecodeSlot(m.w.store.data[SlotKey(simLife, r.N-1)])
	if err != nil || h.Digest != r.Digest {
		m.w.violate("digest", "the recovered digest %x is not that of slot %d", r.Digest, r.N-1)
	}
}
