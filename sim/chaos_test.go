package sim

import (
	"context"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"time"

	"github.com/tidemill/tidemill/partition"
	"github.com/tidemill/tidemill/protocol"
)

const (
	// settleTime bounds how long a cluster may take to be well again once nothing goes wrong any more.
	settleTime = 3 * time.Minute
	// outageMax is how long etcd may be away: longer than a move waits.
	outageMax = 15 * time.Second
)

func newWorld(seed uint64, verbose bool) *world {
	rng := rand.New(rand.NewPCG(seed, 0x7469646d))
	w := &world{clock: newClock(), cfg: drawConfig(rng), rng: rng, hash: fnv.New64a(), verbose: verbose, calm: true}
	w.bucket = &bucket{w: w, objects: map[string][]byte{}}
	w.etcd = &etcd{w: w, keys: map[string]kv{}}
	w.truth = newTruth(w)
	return w
}

// run plays the seed: a cluster forms, lives through chaos, must be well again, and is started once more from what it stored.
func (w *world) run() *violation {
	w.form()
	w.chaos()
	w.runUntil(w.now()+w.cfg.span, nil)
	w.heal()
	w.inspect("healed")
	if w.violation == nil && w.chance(.2) {
		w.linger()
		w.inspect("long after")
	}
	if w.violation == nil && w.chance(.1) {
		w.restart()
		w.inspect("restarted")
	}
	w.end()
	return w.violation
}

// form boots the brokers and creates the partitions.
func (w *world) form() {
	for i := range w.cfg.brokers {
		w.brokers = append(w.brokers, &broker{w: w, id: int32(i)})
	}
	for _, b := range w.brokers {
		b.boot()
	}
	w.runUntil(w.now()+settleTime, func() bool { return len(w.alive()) == len(w.brokers) })
	create := &write{what: "create topic"}
	for i := range int32(w.cfg.partitions) {
		owner := w.brokers[w.rng.IntN(len(w.brokers))].now
		create.then = append(create.then, change{key: partKey(partition0(i)), kv: kv{value: partValue{owner: owner.life}}})
	}
	w.etcd.apply(create)
	w.runUntil(w.now()+200*time.Millisecond, nil)
}

// chaos plans clients and faults.
func (w *world) chaos() {
	c := &w.cfg
	w.calm = false
	for i := range c.producers {
		p := &producer{
			w: w, id: int64(100 + i), part: partition0(w.rng.Int32N(int32(c.partitions))), left: c.batches,
			arrival: map[*node]time.Duration{}, back: map[*node]time.Duration{},
		}
		w.clients = append(w.clients, p)
		w.after(w.between(0, time.Second), p.pump)
	}
	for i := range c.partitions {
		r := &reader{w: w, part: partition0(int32(i))}
		w.readers = append(w.readers, r)
		w.after(0, r.poll)
	}
	at := func(times int, f func()) {
		for range times {
			w.after(w.between(0, c.span), f)
		}
	}
	at(c.crashes, func() { w.someone((*node).die) })
	at(c.pauses, func() {
		w.someone(func(n *node) {
			n.pause()
			w.after(w.between(100*time.Millisecond, 20*time.Second), n.resume)
			if w.chance(.7) { // its lease ends, and perhaps it is started again beside itself
				w.after(w.between(time.Second, 5*time.Second), func() { w.etcd.expire(n.process) })
			}
			if w.chance(.3) && n.broker.now == n {
				w.after(w.between(time.Second, 5*time.Second), func() {
					if n.broker.now == n {
						n.broker.boot()
					}
				})
			}
		})
	})
	at(c.leases, func() {
		w.trace("all leases end", "")
		for _, n := range w.alive() {
			w.etcd.expire(n.process)
		}
	})
	at(c.outages, func() {
		w.trace("etcd away", "")
		w.etcd.away = true
		w.after(w.between(time.Second, outageMax), func() { w.trace("etcd back", ""); w.etcd.away = false })
	})
	at(c.trims, w.trim)
	at(c.seals, func() { w.someone((*node).panicAbout) })
}

// someone does f to a process that serves.
func (w *world) someone(f func(n *node)) {
	if n, ok := pick(w, w.alive()); ok {
		f(n)
	}
}

// trim deletes some of the records of a partition (M7).
func (w *world) trim() {
	id := partition0(w.rng.Int32N(int32(w.cfg.partitions)))
	n := w.leader(id)
	if n == nil {
		return
	}
	n.after(w.delay(), func() {
		if !n.ready {
			return
		}
		l, open := n.set.Get(id)
		if !open {
			return
		}
		p := w.truth.part(id)
		offset := w.rng.Int64N(p.acked + 1)
		p.asked = max(p.asked, offset)
		var start int64
		n.spawn("delete records", func(ctx context.Context) (err error) {
			start, err = l.DeleteRecords(ctx, offset)
			return err
		}, func(err error) {
			if err == nil {
				w.truth.trimmed(n, id, start)
			}
		})
	})
}

// panicAbout lets a node end the log of another one, which is well, perhaps as one of two.
func (n *node) panicAbout() {
	w := n.w
	other, ok := pick(w, w.alive())
	if !ok {
		return
	}
	n.deliver(func() { n.pursue(other.life) })
	if w.chance(.4) {
		w.someone(func(second *node) {
			second.after(w.delay(), func() { second.pursue(other.life) })
		})
	}
}

// heal ends all faults and waits until everything is served and acknowledged.
func (w *world) heal() {
	if w.violation != nil {
		return
	}
	w.trace("heal", "")
	w.calm, w.etcd.away = true, false
	for n := range w.processes() {
		n.resume()
		n.reconnect()
	}
	w.changed()
	w.runUntil(w.now()+settleTime, w.well)
	if w.violation == nil && w.ailing() != "" {
		w.violate("liveness", "%v after the last fault: %s", settleTime, w.ailing())
	}
}

// well is asked after every event, and looks now and then.
func (w *world) well() bool {
	if now := w.now(); now >= w.looked {
		w.looked = now + 50*time.Millisecond
		return w.ailing() == ""
	}
	return false
}

// ailing says what is not as it should be in a cluster without faults, "" if nothing is.
func (w *world) ailing() string {
	for _, p := range w.clients {
		if !p.done() {
			return fmt.Sprintf("producer %d of %d has %d batches left", p.id, p.part.Partition, p.left+len(p.unacked))
		}
	}
	for i := range int32(w.cfg.partitions) {
		if n := w.ownerOf(partition0(i)); n == nil {
			return fmt.Sprintf("the owner of %d does not serve", i)
		} else if n.owned(partition0(i)) == nil {
			return fmt.Sprintf("%d is not open at %s", i, n.name)
		}
	}
	return ""
}

// linger lets the cluster run on until everything has gone that was doomed while there were faults, or is found by another sweep.
func (w *world) linger() {
	w.trace("linger", "")
	w.runUntil(w.now()+w.cfg.sweepTime()+5*time.Second, nil)
	w.truth.garbage()
	for _, n := range w.alive() {
		for i := range int32(w.cfg.partitions) {
			if _, open := n.set.Get(partition0(i)); open && n != w.ownerOf(partition0(i)) {
				w.violate("ownership", "partition %d is open at %s, long after it has left", i, n.name)
			}
		}
	}
}

// restart ends every process and starts the brokers anew.
func (w *world) restart() {
	w.trace("restart", "")
	for _, n := range w.alive() {
		n.die()
	}
	w.runUntil(w.now()+settleTime, w.well)
	if w.violation == nil && w.ailing() != "" {
		w.violate("liveness", "%v after a restart: %s", settleTime, w.ailing())
	}
}

// inspect reads every partition from its owner, or, when that ends meanwhile, from the next one.
func (w *world) inspect(when string) {
	left, trouble := w.cfg.partitions, error(nil)
	for i := range int32(w.cfg.partitions) {
		var by *node
		var look func()
		look = func() { // until it is read: what is on its way when the faults end may fail yet, and an old process find out and end
			if by == nil || by.dead {
				by = w.inspectOne(when, i, func(err error) {
					by, trouble = nil, err
					if err == nil {
						left, look = left-1, func() {}
					}
				})
			}
			w.after(100*time.Millisecond, func() { look() })
		}
		w.after(0, look)
	}
	w.runUntil(w.now()+settleTime, func() bool { return left == 0 })
	if w.violation == nil && left > 0 {
		w.violate("read", "%s: %v later partitions cannot be read: %v", when, settleTime, trouble)
	}
}

// inspectOne begins to read a partition from its owner, if it has one.
func (w *world) inspectOne(when string, i int32, done func(error)) *node {
	id := partition0(i)
	n := w.ownerOf(id)
	if n == nil {
		return nil
	}
	l := n.owned(id)
	if l == nil {
		return nil
	}
	if st := l.State(); st.HighWatermark < w.truth.part(id).acked {
		w.violate("lost", "%s: %d ends at %d, and was acknowledged up to %d", when, i, st.HighWatermark, w.truth.part(id).acked)
	}
	w.truth.start(n, id, l.State().LogStart)
	n.readAll(id, l, done)
	return n
}

// ownerOf returns the process that agreed state names as the owner, if it serves.
func (w *world) ownerOf(id protocol.PartitionID) *node {
	v, _ := w.etcd.keys[partKey(id)].value.(partValue)
	for _, n := range w.alive() {
		if n.life == v.owner {
			return n
		}
	}
	return nil
}

// owned returns the log of a partition that the node owns, if it knows so: one that left and came back may still be as it was before.
func (n *node) owned(id protocol.PartitionID) *partition.Log {
	if l, open := n.set.Get(id); open && l.Settled() && n.owns(id, l.State().LeaderEpoch) {
		return l
	}
	return nil
}

// end stops every process, so that the bubble can end.
func (w *world) end() {
	w.ended = w.now()
	for n := range w.processes() {
		n.crash()
	}
	w.alarm.Reset(time.Minute) // what does not heed the end of its process, as a move, goes by timeouts
	<-w.alarm.C
	close(w.jobs)
}
