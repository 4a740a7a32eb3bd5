package broker

import (
	"math"
	"testing"
	"time"

	"github.com/tidemill/tidemill/metadata"
	"github.com/tidemill/tidemill/partition"
	"github.com/tidemill/tidemill/protocol"
)

const sampleEvery = 30 * time.Second

// A metered meter is fed by a test: rates by partition, from now on.
type metered struct {
	meter
	now     time.Time
	rev     int64
	counted map[int32]*partition.Traffic
}

func newMetered() *metered {
	m := &metered{now: time.Unix(1_700_000_000, 0), counted: map[int32]*partition.Traffic{}}
	m.meter = meter{halfLife: defaultLoadPace.halfLife, logs: map[protocol.PartitionID]*smoothed{}}
	return m
}

func loadID(p int32) protocol.PartitionID {
	return protocol.PartitionID{Topic: protocol.TopicID{1}, Partition: p}
}

// after lets time pass with some rates of bytes, a thousandth of them in requests, then takes a sample.
func (m *metered) after(d time.Duration, rates map[int32]float64) metadata.BrokerLoads {
	m.now = m.now.Add(d)
	m.rev++
	var all []partition.Traffic
	for p, rate := range rates {
		t := m.counted[p]
		if t == nil {
			t = &partition.Traffic{ID: loadID(p)}
			m.counted[p] = t
		}
		t.Bytes += int64(rate * d.Seconds())
		t.Requests += int64(rate / 1000 * d.Seconds())
		all = append(all, *t)
	}
	m.sample(m.now, m.rev, all)
	return m.loads()
}

func (m *metered) of(p int32) float64 {
	for _, l := range m.loads().Partitions {
		if l.ID == loadID(p) {
			return l.BytesPerSecond
		}
	}
	return 0
}

// TestSmoothing: loads are right from the second sample on, follow a change by half in a half-life, and do not outlive their log.
func TestSmoothing(t *testing.T) {
	m := newMetered()
	near := func(what string, got, want float64) {
		t.Helper()
		if math.Abs(got-want) > 1+want/1000 {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	steady := map[int32]float64{0: 2e6, 1: 1e3}
	m.after(0, steady)
	near("with one sample", m.of(0), 0)
	l := m.after(sampleEvery, steady)
	near("with two", m.of(0), 2e6)
	near("in all", l.Total.BytesPerSecond, 2.001e6)
	near("requests in all", l.Total.RequestsPerSecond, 2001)
	for range 3 {
		l = m.after(sampleEvery, steady)
		if m.rev < 5 && l.Measured != 0 {
			t.Errorf("after %d samples all is taken for measured", m.rev)
		}
	}
	if l.Measured != 1 {
		t.Errorf("measured up to revision %d after a half-life, want that of its beginning", l.Measured)
	}
	for range 40 {
		l = m.after(sampleEvery, steady)
	}
	if l.Measured != m.rev-4 || len(m.taken) != 5 {
		t.Errorf("at revision %d: measured %d, by %d samples", m.rev, l.Measured, len(m.taken))
	}
	for range 4 {
		m.after(sampleEvery, map[int32]float64{0: 0, 1: 0})
	}
	near("a half-life after it ended", m.of(0), 1e6)
	m.after(2*time.Minute, map[int32]float64{0: 0, 1: 0})
	near("one more, in one late sample", m.of(0), 0.5e6)
	m.counted[0].LeaderEpoch, m.counted[0].Bytes = 2, 0 // it was elsewhere meanwhile
	m.after(sampleEvery, map[int32]float64{0: 7e6, 1: 0})
	near("back, not measured yet", m.of(0), 0)
	m.after(sampleEvery, map[int32]float64{0: 7e6, 1: 0})
	near("back", m.of(0), 7e6)
	m.after(sampleEvery, map[int32]float64{1: 0})
	if near("gone", m.of(0), 0); len(m.logs) != 1 {
		t.Errorf("%d logs are remembered", len(m.logs))
	}
}

// TestLoadsAreToldWhenTheyChange: noise is not worth a write to etcd, and neither is what is next to nothing.
func TestLoadsAreToldWhenTheyChange(t *testing.T) {
	loads := func(measured int64, of ...float64) metadata.BrokerLoads {
		l := metadata.BrokerLoads{Measured: measured}
		for i, x := range of {
			each := metadata.Load{BytesPerSecond: x, RequestsPerSecond: x / 1e5}
			l.Total.BytesPerSecond += each.BytesPerSecond
			l.Total.RequestsPerSecond += each.RequestsPerSecond
			if x > 0 {
				l.Partitions = append(l.Partitions, metadata.PartitionLoad{ID: loadID(int32(i)), Load: each})
			}
		}
		return l
	}
	told := loads(10, 4e6, 4e6, 2e6)
	for _, c := range []struct {
		name   string
		was    metadata.BrokerLoads
		now    metadata.BrokerLoads
		newest int64
		want   bool
	}{
		{"nothing new", told, told, 9, false},
		{"time went by", told, loads(90, 4e6, 4e6, 2e6), 10, false},
		{"a partition is measured now", told, loads(20, 4e6, 4e6, 2e6), 11, true},
		{"all swing by a twentieth", told, loads(10, 4.2e6, 3.8e6, 2.05e6), 9, false},
		{"one is up by a tenth of the whole", told, loads(10, 5e6, 4e6, 2e6), 9, true},
		{"the whole is the same, elsewhere", told, loads(10, 4.5e6, 3.5e6, 2e6), 9, true},
		{"one is gone", told, loads(10, 4e6, 4e6), 9, true},
		{"one is new", told, loads(10, 4e6, 4e6, 2e6, 1e6), 9, true},
		{"little is tenfold", loads(10, 9e3), loads(10, 90e3), 9, false},
		{"little is much", loads(10, 9e3), loads(10, 900e3), 9, true},
	} {
		if got := (&meter{published: c.was}).changed(c.now, c.newest); got != c.want {
			t.Errorf("%s: changed is %v", c.name, got)
		}
	}
	many := loads(10, 4e6)
	many.Total.RequestsPerSecond += 20
	many.Partitions = append(many.Partitions, metadata.PartitionLoad{ID: loadID(7), Load: metadata.Load{RequestsPerSecond: 20}})
	if !(&meter{published: loads(10, 4e6)}).changed(many, 9) {
		t.Error("requests alone are not noticed")
	}
}

// TestHeaviestAreTold: of too many partitions those are listed that matter, by bytes or by requests, and all are in the total.
func TestHeaviestAreTold(t *testing.T) {
	m := newMetered()
	rates := map[int32]float64{}
	const all = metadata.LoadsMax + 500
	for p := range int32(all) {
		rates[p] = 2000
	}
	rates[0], rates[1] = 5e6, 4e6
	m.after(0, rates)
	m.counted[2].Requests += 100_000
	l := m.after(sampleEvery, rates)
	found := 0
	for _, p := range l.Partitions {
		if p.ID.Partition <= 2 {
			found++
		}
	}
	if len(l.Partitions) != metadata.LoadsMax || found != 3 {
		t.Errorf("%d partitions are listed, %d of the heavy ones", len(l.Partitions), found)
	}
	if want := 9e6 + 2000*float64(all-2); math.Abs(l.Total.BytesPerSecond-want) > 1000 {
		t.Errorf("in all %v bytes/s, want %v", l.Total.BytesPerSecond, want)
	}
}
