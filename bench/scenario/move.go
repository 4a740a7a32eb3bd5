package scenario

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/tidemill/tidemill/bench/kgodriver"
	"github.com/tidemill/tidemill/bench/peer"
	"github.com/tidemill/tidemill/bench/rawdriver"
	"github.com/tidemill/tidemill/bench/report"
	"github.com/tidemill/tidemill/bench/s3sim"
	"github.com/tidemill/tidemill/metadata"
)

const (
	movedTopic      = "moved"
	movedPartitions = 1000
	moveLimit       = 2 * time.Minute
)

// moving is a cluster whose partitions move.
type moving struct {
	e    *Env
	sim  *peer.Sim
	etcd *peer.Etcd
	meta *metadata.Store
}

// move1000 moves 1,000 partitions with data from one broker to another, and then lets a third one come.
func move1000(ctx context.Context, e *Env) error {
	etcd, err := e.Lab.Etcd()
	if err != nil {
		return err
	}
	defer etcd.Stop()
	sim, err := e.Lab.Sim("std")
	if err != nil {
		return err
	}
	defer sim.Stop()
	m := moving{e: e, sim: sim, etcd: etcd}
	first, err := m.start("1")
	if err != nil {
		return err
	}
	defer first.Discard()
	if m.meta, err = metadata.Open(ctx, metadata.Config{Endpoints: []string{etcd.Addr}, Name: "bench"}); err != nil {
		return err
	}
	defer func() { _ = m.meta.Close() }() // nothing of it is wanted any more
	stored, err := m.fill(first)
	if err != nil {
		return err
	}
	if err := e.quiet(ctx, first); err != nil {
		return err
	}
	if err := m.meta.SetDrain(ctx, 2, true); err != nil { // so that it gets nothing before its time
		return err
	}
	second, err := m.start("2")
	if err != nil {
		return err
	}
	defer second.Discard()
	if err := m.moveAll(ctx, second, stored); err != nil {
		return err
	}
	third, err := m.join(ctx)
	if err != nil {
		return err
	}
	defer third.Discard()
	return m.stopUnderLoad(ctx, first)
}

func (m *moving) start(id string) (*peer.Broker, error) {
	flags := append(slices.Clone(m.e.Flags), "--cluster", "etcd://"+m.etcd.Addr+"/bench", "--broker-id", id)
	return m.e.Lab.Tidemill(m.sim, -1, flags...)
}

// fill writes to all partitions and returns how many bytes.
func (m *moving) fill(b *peer.Broker) (int64, error) {
	const conns, parts, batch = 20, movedPartitions / 20, 64 << 10
	var r rawdriver.Result
	requests := int64(m.e.GB*1e9) / (conns * parts * batch)
	err := m.e.Lab.Raw(-1, &r, "produce", "-bootstrap", b.Addr, "-topic", movedTopic, "-partitions", strconv.Itoa(movedPartitions),
		"-conns", strconv.Itoa(conns), "-parts", strconv.Itoa(parts), "-depth", "2", "-batch", strconv.Itoa(batch),
		"-requests", strconv.FormatInt(requests+1, 10))
	return r.Bytes, err
}

// moveAll empties the first broker into the second, and sees what that took.
func (m *moving) moveAll(ctx context.Context, to *peer.Broker, stored int64) error {
	before, err := m.sim.Stats()
	if err != nil {
		return err
	}
	calls, err := m.etcd.Calls()
	if err != nil {
		return err
	}
	if err := m.meta.SetDrain(ctx, 1, true); err != nil {
		return err
	}
	begun := time.Now()
	if err := m.meta.SetDrain(ctx, 2, false); err != nil {
		return err
	}
	if err := m.until(ctx, func() (bool, error) { return m.owned(2) == movedPartitions, nil }); err != nil {
		return err
	}
	decided := time.Since(begun)
	open := func() (bool, error) {
		metrics, err := to.Metrics()
		if err != nil {
			return false, err
		}
		n, err := metrics.Need("tidemill_partition_adopted_total")
		return n >= movedPartitions, err
	}
	if err := m.until(ctx, open); err != nil {
		return err
	}
	took := time.Since(begun)
	after, err := m.sim.Stats()
	if err != nil {
		return err
	}
	calls2, err := m.etcd.Calls()
	if err != nil {
		return err
	}
	used := after.Since(before)
	m.e.add(report.Row{
		What:     fmt.Sprintf("%d partitions with %.1f GB to another broker, S3 Standard: until all are served there", movedPartitions, float64(stored)/1e9),
		Measured: fmt.Sprintf("%.2f s, of which %.2f s until all had their new owner", took.Seconds(), decided.Seconds()),
		Target:   "≤ 1 s", Verdict: report.Judge(took <= time.Second),
	})
	data := used.ByKey["segment"][s3sim.OpGet].Bytes + used.ByKey["segment"][s3sim.OpPut].Bytes + used.ByKey["wal"][s3sim.OpGet].Bytes + used.ByKey["wal"][s3sim.OpPut].Bytes
	m.e.add(report.Row{
		What: "the same: bytes of slots and segments read and written; of manifests; transactions of etcd",
		Measured: fmt.Sprintf("%d; %d KB written, %d KB read; %d", data, used.ByKey["manifest"][s3sim.OpPut].Bytes>>10,
			used.ByKey["manifest"][s3sim.OpGet].Bytes>>10, calls2["Txn"]-calls["Txn"]),
		Target: "0 bytes copied", Verdict: report.Judge(data == 0),
	})
	return m.meta.SetDrain(ctx, 1, false)
}

// join starts a third broker when the other two are even, and sees how long it takes to carry its share.
func (m *moving) join(ctx context.Context) (*peer.Broker, error) {
	even := func() (bool, error) { return m.owned(1) >= movedPartitions*45/100, nil }
	if err := m.until(ctx, even); err != nil {
		return nil, err
	}
	begun := time.Now()
	third, err := m.start("3")
	if err != nil {
		return nil, err
	}
	ready := time.Since(begun)
	share := func() (bool, error) { return m.owned(3) >= movedPartitions*30/100, nil }
	if err := m.until(ctx, share); err != nil {
		return third, err
	}
	m.e.add(report.Row{
		What:     "a third broker joins: from its start to its share",
		Measured: fmt.Sprintf("%.2f s, of which %.2f s until it was ready; it owns %d of %d partitions", time.Since(begun).Seconds(), ready.Seconds(), m.owned(3), movedPartitions),
	})
	return third, nil
}

// stopUnderLoad lets one broker own everything, 100 clients use it, and then ends it with SIGTERM.
func (m *moving) stopUnderLoad(ctx context.Context, b *peer.Broker) error {
	for _, id := range []int32{2, 3} {
		if err := m.meta.SetDrain(ctx, id, true); err != nil {
			return err
		}
	}
	if err := m.until(ctx, func() (bool, error) { return m.owned(1) == movedPartitions, nil }); err != nil {
		return err
	}
	l := standard("served", 0.5)
	l.Addr, l.Partitions, l.Producers, l.Consumers, l.For = b.Addr, 12, 50, 50, 20*time.Second
	type outcome struct {
		r   kgodriver.Report
		err error
	}
	ended := make(chan outcome, 1)
	go func() {
		r, err := l.Run(ctx)
		ended <- outcome{r, err}
	}()
	if err := pause(ctx, l.WarmUp+l.For/2); err != nil {
		return err
	}
	begun := time.Now()
	for _, id := range []int32{2, 3} { // its stop needs somebody to give the partitions to
		if err := m.meta.SetDrain(ctx, id, false); err != nil {
			return err
		}
	}
	b.Stop()
	took := time.Since(begun)
	o := <-ended
	if o.err != nil {
		return o.err
	}
	m.e.add(report.Row{
		What: fmt.Sprintf("SIGTERM of a broker with %d partitions and 100 clients: until it has ended", movedPartitions+l.Partitions),
		Measured: fmt.Sprintf("%.1f s; slowest acknowledgement %.0f ms; %d records, %d failed, %d lost, %d twice, %d out of order",
			took.Seconds(), o.r.Ack.Max, o.r.Records, o.r.Failed, o.r.Lost, o.r.Duplicated, o.r.Reordered),
		Target:  "≤ 20 s, nothing lost",
		Verdict: report.Judge(took <= 20*time.Second && o.r.Failed+o.r.Lost+o.r.Duplicated+o.r.Reordered == 0), Invalid: o.r.Invalid,
	})
	return nil
}

// owned counts the topic's partitions that a broker owns.
func (m *moving) owned(id int32) (n int) {
	t, ok := m.meta.Image().Topics[movedTopic]
	if !ok {
		return 0
	}
	for _, p := range t.Partitions {
		if p.Owner.Broker == id {
			n++
		}
	}
	return n
}

// until waits for a change of metadata, or a little, until done says so.
func (m *moving) until(ctx context.Context, done func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, moveLimit)
	defer cancel()
	for {
		changed := m.meta.Changed()
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-changed:
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
