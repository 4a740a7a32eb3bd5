package broker

import (
	"cmp"
	"context"
	"log/slog"
	"math"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tidemill/tidemill/metadata"
	"github.com/tidemill/tidemill/partition"
	"github.com/tidemill/tidemill/protocol"
)

// loadPace is how loads are measured and acted on. Tests shorten it.
type loadPace struct {
	// every is the time between samples, after each of which loads are published if they have changed.
	every time.Duration
	// halfLife is after what time a sample counts for half of one taken now, and how long a partition is measured before its load counts.
	halfLife time.Duration
	// rest and look are the controller's: see controller.Config.
	rest, look time.Duration
}

// defaultLoadPace: two minutes outlast a batch job's burst and the pause of a move, and tell of a lasting change before anybody complains.
var defaultLoadPace = loadPace{every: 30 * time.Second, halfLife: 2 * time.Minute}

const (
	// changeShare is how much of the loads has to change, as a share of their total, before they are published again: half of what starts
	// a balance.
	changeShare = 0.1
	// A change of less than these in a second is none, whatever the total: a tenth of what any balance is worth.
	bytesFloor    = 1e5
	requestsFloor = 10
)

// tellLoads measures what the broker's partitions cost and publishes it under the lease of r, until ctx ends. It asks etcd for nothing, and
// writes at most once in loadPace.every, whatever is produced and fetched.
func (b *Broker) tellLoads(ctx context.Context, r *metadata.Registration) {
	m := meter{halfLife: b.loadPace.halfLife, logs: map[protocol.PartitionID]*smoothed{}}
	var traffic []partition.Traffic
	var revision int64
	tick := time.NewTicker(b.loadPace.every)
	defer tick.Stop()
	for {
		img := b.meta.Image()
		traffic = b.logs.Traffic(traffic[:0])
		if b.allMeasured(img, traffic) {
			revision = img.Revision
		}
		m.sample(time.Now(), revision, traffic)
		loads := m.loads()
		b.load.Store(&loads.Total)
		if m.rounds() > 0 && (!r.LoadsShown() || m.changed(loads, b.newestOwned(img, loads.Measured))) {
			if err := r.PublishLoads(ctx, loads); err == nil {
				m.published = loads
			} else if ctx.Err() == nil {
				b.log.Warn("the loads of partitions were not published; they are with the next sample", slog.Any("error", err))
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// allMeasured reports whether traffic is of all partitions that img shows as this life's: one that it was given lately may not be open yet.
func (b *Broker) allMeasured(img *metadata.Image, traffic []partition.Traffic) bool {
	measured := make(map[protocol.PartitionID]bool, len(traffic))
	for i := range traffic {
		measured[traffic[i].ID] = true
	}
	all := true
	forEachPartition(img, func(_ *metadata.Topic, id protocol.PartitionID, p metadata.Partition) {
		all = all && (p.Owner != b.life || measured[id] || b.damaged.has(id, p.Rev))
	})
	return all
}

// newestOwned is the newest revision, up to one, at which this life became the owner of a partition.
func (b *Broker) newestOwned(img *metadata.Image, upTo int64) int64 {
	newest := int64(0)
	forEachPartition(img, func(_ *metadata.Topic, _ protocol.PartitionID, p metadata.Partition) {
		if p.Owner == b.life && p.Rev <= upTo {
			newest = max(newest, p.Rev)
		}
	})
	return newest
}

// registerLoads lets operators see the loads that brokers are balanced by.
func registerLoads(reg prometheus.Registerer, load *atomic.Pointer[metadata.Load]) error {
	for _, g := range []struct {
		name, help string
		of         func(metadata.Load) float64
	}{
		{"load_bytes_per_second", "Bytes appended and read, smoothed over minutes, by which brokers are balanced.",
			func(l metadata.Load) float64 { return l.BytesPerSecond }},
		{"load_requests_per_second", "Appends to partitions and reads of them, smoothed over minutes, by which brokers are balanced.",
			func(l metadata.Load) float64 { return l.RequestsPerSecond }},
	} {
		err := reg.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "tidemill", Subsystem: "broker", Name: g.name, Help: g.help}, func() float64 {
			if l := load.Load(); l != nil {
				return g.of(*l)
			}
			return 0
		}))
		if err != nil {
			return err
		}
	}
	return nil
}

// A meter makes smoothed loads of counters. It has no clock.
type meter struct {
	halfLife time.Duration
	logs     map[protocol.PartitionID]*smoothed
	// rounds taken, those of the last half-life and the one before: at the oldest, all logs of its revision had been measured for as long.
	taken []round
	// published is what was published last.
	published metadata.BrokerLoads
}

type round struct {
	at       time.Time
	revision int64
}

// smoothed is the load of a log: a mean of rates whose weights halve with each half-life. The sums are divided by the weights that there
// are, so a new log's load is the mean of what was seen of it, and does not begin at nothing.
type smoothed struct {
	last   partition.Traffic
	seen   time.Time
	sum    metadata.Load
	weight float64
}

// rounds is how many intervals loads are made of, at most those of a half-life.
func (m *meter) rounds() int { return len(m.taken) - 1 }

// sample takes what logs have counted until now. revision is that of an image all of whose partitions are among them.
func (m *meter) sample(now time.Time, revision int64, traffic []partition.Traffic) {
	m.taken = append(m.taken, round{now, revision})
	for len(m.taken) > 1 && now.Sub(m.taken[1].at) >= m.halfLife {
		m.taken = m.taken[1:]
	}
	for _, t := range traffic {
		s := m.logs[t.ID]
		if s == nil || s.last.LeaderEpoch != t.LeaderEpoch { // new, or it was elsewhere meanwhile
			m.logs[t.ID] = &smoothed{last: t, seen: now}
			continue
		}
		if dt := now.Sub(s.seen); dt > 0 {
			s.add(t, dt, m.halfLife)
		}
		s.last, s.seen = t, now
	}
	for id, s := range m.logs {
		if s.seen != now {
			delete(m.logs, id)
		}
	}
}

func (s *smoothed) add(t partition.Traffic, dt, halfLife time.Duration) {
	kept := math.Exp2(-dt.Seconds() / halfLife.Seconds())
	s.weight = s.weight*kept + 1 - kept
	s.sum.BytesPerSecond = s.sum.BytesPerSecond*kept + (1-kept)*float64(t.Bytes-s.last.Bytes)/dt.Seconds()
	s.sum.RequestsPerSecond = s.sum.RequestsPerSecond*kept + (1-kept)*float64(t.Requests-s.last.Requests)/dt.Seconds()
}

// loads returns what is to be published: whole numbers, the heaviest partitions if there are too many.
func (m *meter) loads() metadata.BrokerLoads {
	var out metadata.BrokerLoads
	if first := m.taken[0]; m.taken[len(m.taken)-1].at.Sub(first.at) >= m.halfLife {
		out.Measured = first.revision
	}
	for id, s := range m.logs {
		if s.weight == 0 {
			continue
		}
		l := metadata.Load{BytesPerSecond: math.Round(s.sum.BytesPerSecond / s.weight), RequestsPerSecond: math.Round(s.sum.RequestsPerSecond / s.weight)}
		if l == (metadata.Load{}) {
			continue
		}
		out.Total.BytesPerSecond += l.BytesPerSecond
		out.Total.RequestsPerSecond += l.RequestsPerSecond
		out.Partitions = append(out.Partitions, metadata.PartitionLoad{ID: id, Load: l})
	}
	if len(out.Partitions) > metadata.LoadsMax {
		slices.SortFunc(out.Partitions, func(x, y metadata.PartitionLoad) int {
			return cmp.Compare(share(y.Load, out.Total), share(x.Load, out.Total))
		})
		out.Partitions = out.Partitions[:metadata.LoadsMax]
	}
	return out
}

// share is how much of a total l is, in both dimensions together.
func share(l, total metadata.Load) float64 {
	return l.BytesPerSecond/max(1, total.BytesPerSecond) + l.RequestsPerSecond/max(1, total.RequestsPerSecond)
}

// changed reports whether loads tell something that is worth a write: a partition that the broker owns since newest is measured by now, or
// changeShare of the loads is elsewhere, or gone, or new.
func (m *meter) changed(loads metadata.BrokerLoads, newest int64) bool {
	if newest > m.published.Measured {
		return true
	}
	before := make(map[protocol.PartitionID]metadata.Load, len(m.published.Partitions))
	for _, p := range m.published.Partitions {
		before[p.ID] = p.Load
	}
	var bytes, requests float64
	note := func(a, b metadata.Load) {
		bytes += math.Abs(a.BytesPerSecond - b.BytesPerSecond)
		requests += math.Abs(a.RequestsPerSecond - b.RequestsPerSecond)
	}
	for _, p := range loads.Partitions {
		note(p.Load, before[p.ID])
		delete(before, p.ID)
	}
	for _, l := range before {
		note(metadata.Load{}, l)
	}
	total := m.published.Total
	return bytes >= max(changeShare*total.BytesPerSecond, bytesFloor) || requests >= max(changeShare*total.RequestsPerSecond, requestsFloor)
}
