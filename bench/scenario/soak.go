package scenario

import (
	"context"
	"errors"
	"maps"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tidemill/tidemill/bench/kgodriver"
	"github.com/tidemill/tidemill/bench/peer"
	"github.com/tidemill/tidemill/bench/rawdriver"
	"github.com/tidemill/tidemill/bench/report"
)

// soakTopics are written to at 10 MB/s together. What each keeps is small, so that it is full long before the warm-up ends.
var soakTopics = []struct {
	name        string
	partitions  int
	mbPerSecond float64
	keys        int
	configs     map[string]string
}{
	{"by-size", 6, 6, 0, map[string]string{
		"cleanup.policy": "delete", "retention.bytes": strconv.Itoa(16 << 20), "segment.bytes": strconv.Itoa(2 << 20),
	}},
	{"by-time", 3, 2, 0, map[string]string{
		"cleanup.policy": "delete", "retention.ms": "60000", "segment.ms": "10000", "segment.bytes": strconv.Itoa(2 << 20),
	}},
	{"by-key", 3, 2, 10_000, map[string]string{
		"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.3", "segment.bytes": strconv.Itoa(2 << 20), "segment.ms": "10000",
		"delete.retention.ms": "10000",
	}},
}

// soak watches a broker whose data comes and goes: whatever it keeps must stop growing.
func soak(ctx context.Context, e *Env) error {
	etcd, err := e.Lab.Etcd()
	if err != nil {
		return err
	}
	defer etcd.Stop()
	b, stop, err := e.broker("std", -1, "--cluster", "etcd://"+etcd.Addr+"/bench", "--kafka", "log.retention.check.interval.ms=5000",
		"--kafka", "log.cleaner.backoff.ms=5000", "--kafka", "log.initial.task.delay.ms=5000")
	if err != nil {
		return err
	}
	defer stop()
	var loads []*kgodriver.Steady
	readers := kgodriver.Group{Addr: b.Addr, Name: "soak"}
	for _, t := range soakTopics {
		if err := rawdriver.CreateTopicWith(ctx, b.Addr, t.name, t.partitions, t.configs); err != nil {
			return err
		}
		loads = append(loads, &kgodriver.Steady{Addr: b.Addr, Topic: t.name, MBPerSecond: t.mbPerSecond, RecordBytes: 1000, Keys: t.keys})
		readers.Topics = append(readers.Topics, t.name)
	}
	var series report.Series
	long, cancel := context.WithTimeout(ctx, e.Soak)
	defer cancel()
	group, long := errgroup.WithContext(long)
	for _, l := range loads {
		group.Go(func() error { return l.Run(long) })
	}
	group.Go(func() error { return readers.Run(long) })
	group.Go(func() error {
		s := sampler{broker: b, etcd: etcd, loads: loads, group: &readers}
		return s.run(long, 5*time.Second, &series)
	})
	err = errors.Join(group.Wait(), ctx.Err())
	if files := e.writeSoak(&series); err == nil {
		err = files
	}
	if err != nil {
		return err
	}
	e.judgeSoak(&series, loads)
	return nil
}

// A sampler looks at a broker and at what lies around it.
type sampler struct {
	broker *peer.Broker
	etcd   *peer.Etcd
	loads  []*kgodriver.Steady
	group  *kgodriver.Group
}

// run samples until ctx ends. Rates are since the sample before.
func (s sampler) run(ctx context.Context, every time.Duration, to *report.Series) error {
	begun := time.Now()
	before, err := s.counts()
	if err != nil {
		return err
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for last := begun; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		sample, err := s.levels()
		if err != nil {
			return err
		}
		counts, err := s.counts()
		if err != nil {
			return err
		}
		now := time.Now()
		maps.Copy(sample, rates(before, counts, now.Sub(last)))
		to.Add(now.Sub(begun).Seconds(), sample)
		before, last = counts, now
	}
}

// rates is by how much each count grew a second.
func rates(before, after map[string]float64, in time.Duration) map[string]float64 {
	out := map[string]float64{}
	for name, n := range after {
		out[name] = (n - before[name]) / in.Seconds()
	}
	return out
}

// levels are what is there now.
func (s sampler) levels() (map[string]float64, error) {
	stored, err := s.broker.Stored()
	if err != nil {
		return nil, err
	}
	u, err := s.broker.Usage()
	if err != nil {
		return nil, err
	}
	db, err := s.etcd.DBBytes()
	if err != nil {
		return nil, err
	}
	out := map[string]float64{"memory MiB: broker RSS": mib(u.RSS), "memory MiB: etcd database": mib(int64(db))}
	for prefix, h := range stored {
		out["objects: "+prefix] = float64(h.Objects)
		out["bucket MB: "+prefix] = float64(h.Bytes) / 1e6
	}
	return out, nil
}

// counts only grow.
func (s sampler) counts() (map[string]float64, error) {
	stats, err := s.broker.Sim.Stats()
	if err != nil {
		return nil, err
	}
	u, err := s.broker.Usage()
	if err != nil {
		return nil, err
	}
	out := map[string]float64{"load: MB/s acknowledged": 0, "load: MB/s read": float64(s.group.Read()) / 1e6, "load: cores": u.CPU().Seconds()}
	for op, c := range stats.Ops {
		out["requests/s: "+string(op)] = float64(c.Requests)
	}
	for _, l := range s.loads {
		out["load: MB/s acknowledged"] += float64(l.Acked()) / 1e6
	}
	return out, nil
}
