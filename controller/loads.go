package controller

import (
	"context"
	"log/slog"
	"time"

	"github.com/tidemill/tidemill/metadata"
	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/wal"
)

const (
	// loadsEvery is as often as brokers publish.
	loadsEvery = 30 * time.Second
	// restFor is five times the half-life of smoothed loads: what they were before a move is 3 % of what they say then.
	restFor = 10 * time.Minute
)

// A LoadBook knows what partitions cost, also those that have just moved: what their last owner measured stands until the new one has
// measured them for long enough. Else they would seem to cost nothing where they went, and more would be sent after them. The zero value
// knows nothing. Its methods must not be called concurrently.
type LoadBook struct {
	known map[protocol.PartitionID]knownLoad
	// unknown counts the partitions whose load nobody can tell, as of the last Learn.
	unknown int
}

type knownLoad struct {
	Load
	owner wal.Life
	// settled: it was measured by this owner.
	settled bool
}

// told is what a broker has published, with what is not listed spread evenly over the partitions that are not.
type told struct {
	*metadata.BrokerLoads
	rest     Load
	unlisted int
}

// Learn takes over what brokers have published. What a broker says of a partition that img shows with another owner is ignored.
func (b *LoadBook) Learn(img *metadata.Image, loads map[int32]metadata.BrokerLoads) {
	brokers, listed := tellers(img, loads)
	known := make(map[protocol.PartitionID]knownLoad, len(b.known))
	b.unknown = 0
	for topic, t := range img.TopicsByID {
		for i := range t.Partitions {
			p, id := &t.Partitions[i], protocol.PartitionID{Topic: topic, Partition: int32(i)}
			from := brokers[p.Owner]
			here, isListed := listed[id]
			before, was := b.known[id]
			switch {
			case from != nil && p.Rev <= from.Measured && isListed:
				known[id] = knownLoad{here, p.Owner, true}
			case from != nil && p.Rev <= from.Measured:
				known[id] = knownLoad{from.share(), p.Owner, true}
			case was:
				known[id] = knownLoad{before.Load, p.Owner, before.settled && before.owner == p.Owner}
			case isListed: // better than nothing, if it is of some seconds only
				known[id] = knownLoad{here, p.Owner, false}
			case from == nil || p.LeaderEpoch > 0: // nobody says, or it was elsewhere before this controller looked
				b.unknown++
			}
		}
	}
	b.known = known
}

// tellers returns who has published what, and the loads of the partitions that they own.
func tellers(img *metadata.Image, loads map[int32]metadata.BrokerLoads) (map[wal.Life]*told, map[protocol.PartitionID]Load) {
	brokers, listed := map[wal.Life]*told{}, map[protocol.PartitionID]Load{}
	for id := range loads {
		l := loads[id]
		if img.Brokers[id].Life != l.Life {
			continue
		}
		t := &told{BrokerLoads: &l, rest: Load(l.Total)}
		brokers[l.Life] = t
		for _, p := range l.Partitions {
			t.rest.BytesPerSecond -= p.BytesPerSecond
			t.rest.RequestsPerSecond -= p.RequestsPerSecond
			topic := img.TopicsByID[p.ID.Topic]
			if topic != nil && int(p.ID.Partition) < len(topic.Partitions) && topic.Partitions[p.ID.Partition].Owner == l.Life {
				listed[p.ID] = Load(p.Load)
			}
		}
	}
	for topic, t := range img.TopicsByID {
		for i := range t.Partitions {
			p := &t.Partitions[i]
			if from := brokers[p.Owner]; from != nil && p.Rev <= from.Measured {
				if _, ok := listed[protocol.PartitionID{Topic: topic, Partition: int32(i)}]; !ok {
					from.unlisted++
				}
			}
		}
	}
	return brokers, listed
}

// share is what one of the partitions carries that are not listed.
func (t *told) share() Load {
	n := float64(max(1, t.unlisted))
	return Load{max(0, t.rest.BytesPerSecond) / n, max(0, t.rest.RequestsPerSecond) / n}
}

// Fill sets the loads of s, and which partitions came to their owners so lately that these have not measured them (P8). It sets none, so
// that a plan goes by count alone, while there are partitions whose load nobody can tell: their owners would seem to have room.
func (b *LoadBook) Fill(s *State) {
	if b.unknown > 0 || b.known == nil {
		return
	}
	for i := range s.Partitions {
		p := &s.Partitions[i]
		k := b.known[p.ID]
		p.Load, p.Recent = k.Load, !k.settled || k.owner != p.Owner
	}
}

// term is what a controller knows while it holds the office.
type term struct {
	since   time.Time
	book    LoadBook
	readAt  time.Time // when loads were last asked for
	reading bool
	// moved are partitions that were sent somewhere for balance, and when.
	moved map[protocol.PartitionID]sent
}

type sent struct {
	to wal.Life
	at time.Time
}

// fill sets what is known of loads, and which partitions rest. t may be nil.
func (t *term) fill(s *State, now time.Time, rest time.Duration) {
	if t == nil {
		return
	}
	t.book.Fill(s)
	for id, m := range t.moved {
		if now.Sub(m.at) >= rest {
			delete(t.moved, id)
		}
	}
	fresh := now.Sub(t.since) < rest
	for i := range s.Partitions {
		p := &s.Partitions[i]
		m, ok := t.moved[p.ID]
		p.Recent = p.Recent || fresh || ok && m.to == p.Owner
	}
}

// noteMoves remembers what is sent where for balance. One that does not get there does not count: see fill.
func (c *Controller) noteMoves(moves []Move) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range moves {
		if m.Reason == ReasonBalance && c.term != nil {
			c.term.moved[m.ID] = sent{m.To, time.Now()}
		}
	}
}

// endTerm forgets everything about loads: another broker is the controller, and what it moves is not seen here.
func (c *Controller) endTerm() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.term, c.waits, c.sweeping.due = nil, nil, time.Time{}
	c.Metrics.unknown(0)
	c.Metrics.stuck(0)
}

// readLoads asks for loads when it is time. It does not wait for them: what is to be done about dead brokers must not. If they cannot be
// read, plans go by those that were read last.
func (c *Controller) readLoads(ctx context.Context) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if c.term == nil {
		c.term = &term{since: now, moved: map[protocol.PartitionID]sent{}}
	}
	t := c.term
	if t.reading || !t.readAt.IsZero() && now.Sub(t.readAt) < c.LoadsEvery {
		return
	}
	t.reading, t.readAt = true, now
	c.suspects.running.Go(func() {
		loads, err := c.Cluster.Loads(ctx)
		c.mu.Lock()
		defer c.mu.Unlock()
		t.reading = false
		switch {
		case err == nil:
			t.book.Learn(c.Cluster.Image(), loads)
			c.Metrics.unknown(t.book.unknown)
		case ctx.Err() == nil:
			c.Logger.Warn("the loads of brokers were not read; those that were known stand", slog.Any("error", err))
		}
	})
}
