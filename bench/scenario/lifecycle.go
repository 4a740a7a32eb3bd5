package scenario

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/tidemill/tidemill/bench/observe"
	"github.com/tidemill/tidemill/bench/peer"
	"github.com/tidemill/tidemill/bench/rawdriver"
	"github.com/tidemill/tidemill/bench/report"
)

// budget is --memory of the scenarios that read more than fits: the default.
const budget = 512 << 20

// catchup reads a partition that is larger than memory from its beginning, after a restart. The bucket is a folder, so what is
// measured is the broker, not a network; the folder's files are in the page cache as far as the machine has room.
func catchup(ctx context.Context, e *Env) error {
	b, err := e.Lab.Tidemill(nil, -1, e.Flags...)
	if err != nil {
		return err
	}
	defer func() { b.Discard() }()
	if err := e.fill(b, "catchup", 1, int64(e.GB*1e9)); err != nil {
		return err
	}
	var cpu, speed, bare []float64
	var r rawdriver.Result
	for range e.Rounds {
		loop, err := e.Lab.ReadLoop(filepath.Join(b.Dir, "bucket"))
		if err != nil {
			return err
		}
		bare = append(bare, loop.CPUSeconds/(float64(loop.Bytes)/1e9))
		b.Stop()
		if b, err = e.again(ctx, b); err != nil {
			return err
		}
		c, err := measure(b, func() error {
			return e.Lab.Raw(-1, &r, "fetch", "-bootstrap", b.Addr, "-topic", "catchup", "-partitions", "1", "-conns", "1", "-once",
				"-max-bytes", strconv.Itoa(16<<20))
		})
		if err != nil {
			return err
		}
		cpu, speed = append(cpu, c.cpu.Seconds()/(float64(r.Bytes)/1e9)), append(speed, r.MBPerSecond())
	}
	what := fmt.Sprintf("%.1f GB in batches of 64 KiB, %.0f times --memory, bucket in a folder, one consumer from offset 0: ",
		float64(r.Bytes)/1e9, float64(r.Bytes)/budget)
	row := report.Row{
		What: what + "speed", Measured: spread(speed) + " MB/s", Target: "≥ 400 MB/s", Verdict: report.Judge(median(speed) >= 400),
	}
	if r.Bytes < 10*budget {
		row.Invalid = "less was read than 10 times --memory"
	}
	e.add(row)
	e.add(report.Row{What: what + "broker", Measured: spread(cpu) + " CPU-s/GB", Target: "≤ 0.5", Verdict: report.Judge(median(cpu) <= .5)})
	e.add(report.Row{
		What:     "the least it takes: the same files read, summed and sent by a bare loop",
		Measured: fmt.Sprintf("%s CPU-s/GB; the broker takes %.2f times that", spread(bare), median(cpu)/median(bare)),
	})
	return nil
}

// fill writes batches of 64 KiB to the partitions of a topic, a connection for each.
func (e *Env) fill(b *peer.Broker, topic string, partitions int, bytes int64, more ...string) error {
	const batch = 64 << 10
	n := strconv.Itoa(partitions)
	var r rawdriver.Result
	err := e.Lab.Raw(-1, &r, append([]string{"produce", "-bootstrap", b.Addr, "-topic", topic, "-partitions", n, "-conns", n,
		"-depth", "64", "-batch", strconv.Itoa(batch), "-requests", strconv.FormatInt(bytes/batch/int64(partitions)+1, 10)}, more...)...)
	e.Log("%s: wrote %.1f GB at %.0f MB/s", topic, float64(r.Bytes)/1e9, r.MBPerSecond())
	return err
}

// again starts a broker that has ended, on the same data, and waits until it is ready and has nothing to do.
func (e *Env) again(ctx context.Context, b *peer.Broker) (*peer.Broker, error) {
	b, err := e.Lab.Again(b)
	if err == nil {
		err = b.Ready()
	}
	if err == nil {
		err = e.quiet(ctx, b)
	}
	return b, err
}

// quiet waits until the broker does no more in the background than an idle one: less than 3 % of a core over 3 s. What was written
// before is on disk by then: its write-back would slow what etcd writes.
func (e *Env) quiet(ctx context.Context, b *peer.Broker) error {
	const look, limit = 3 * time.Second, 15 * time.Minute
	syscall.Sync()
	for deadline := time.Now().Add(limit); ; {
		c, err := measure(b, func() error { return pause(ctx, look) })
		if err != nil {
			return err
		}
		if c.cpu < look*3/100 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the broker is still at work after %s", limit)
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// replay measures what a consumer that reads old data does to those that are at the end.
func replay(ctx context.Context, e *Env) error {
	for _, store := range []string{"std", "folder"} {
		if err := e.replayOn(ctx, store); err != nil {
			return fmt.Errorf("%s: %w", store, err)
		}
	}
	return nil
}

// replayOn writes 10 times --memory, and applies the same load without a replay of that and with one. The simulator keeps all.
func (e *Env) replayOn(ctx context.Context, store string) error {
	name, b, stop, err := e.on(store)
	if err != nil {
		return err
	}
	defer stop()
	if err := e.fill(b, "old", 4, 10*budget); err != nil {
		return err
	}
	if err := e.quiet(ctx, b); err != nil {
		return err
	}
	l := standard("alone", 30)
	alone, _, err := apply(ctx, b, l)
	if err != nil {
		return err
	}
	l.Topic = "beside"
	idle, err := observe.Machine()
	if err != nil {
		return err
	}
	old := e.replaying(b, l.WarmUp+l.For+time.Second)
	beside, _, err := apply(ctx, b, l)
	r, failed := old()
	if err = errors.Join(err, failed); err != nil {
		return err
	}
	busy, err := observe.Machine()
	if err != nil {
		return err
	}
	what := fmt.Sprintf("30 MB/s on %s, without and with a replay of %.0f times --memory at %.0f MB/s: ", name, float64(r.Bytes)/budget, r.MBPerSecond())
	invalid := cmp.Or(alone.Invalid, beside.Invalid)
	if spare := busy.IdleSince(idle); invalid == "" && spare < .05 {
		invalid = fmt.Sprintf("the machine was busy: %.0f %% of the cores' time was left", spare*100)
	}
	if invalid == "" && r.Bytes < 10*budget {
		invalid = "the replay read less than 10 times --memory"
	}
	for _, q := range []struct {
		name         string
		alone, after float64
	}{{"ack p99", alone.Ack.P99, beside.Ack.P99}, {"end to end p99", alone.EndToEnd.P99, beside.EndToEnd.P99}} {
		e.add(report.Row{
			What: what + q.name, Measured: fmt.Sprintf("%.0f and %.0f ms: %.2f times", q.alone, q.after, q.after/q.alone),
			Target: "≤ 1.3 times", Verdict: report.Judge(q.after <= 1.3*q.alone), Invalid: invalid,
		})
	}
	return nil
}

// replaying reads what is old, again and again, in a process of its own. It returns what waits for its end.
func (e *Env) replaying(b *peer.Broker, d time.Duration) (wait func() (rawdriver.Result, error)) {
	var r rawdriver.Result
	ended := make(chan error, 1)
	go func() {
		ended <- e.Lab.Raw(-1, &r, "fetch", "-bootstrap", b.Addr, "-topic", "old", "-partitions", "4", "-conns", "4",
			"-max-bytes", strconv.Itoa(4<<20), "-mbps", fmt.Sprint(e.ReplayMBps), "-for", d.String())
	}()
	return func() (rawdriver.Result, error) {
		err := <-ended
		return r, err
	}
}

// on starts a broker on a folder, or on a simulator that has the latency of a profile.
func (e *Env) on(store string, flags ...string) (name string, b *peer.Broker, stop func(), err error) {
	if store != "folder" {
		b, stop, err = e.broker(store, -1, flags...)
		return "S3 " + store + " (simulated)", b, stop, err
	}
	if b, err = e.Lab.Tidemill(nil, -1, append(slices.Clone(e.Flags), flags...)...); err != nil {
		return "", nil, nil, err
	}
	return "a folder", b, b.Discard, nil
}
