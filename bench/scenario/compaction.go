package scenario

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/tidemill/tidemill/bench/peer"
	"github.com/tidemill/tidemill/bench/rawdriver"
	"github.com/tidemill/tidemill/bench/report"
)

const compactedBytes = "tidemill_partition_compacted_bytes_total"

// compaction measures the broker while it compacts and does nothing else: records may not be compacted until all are written.
func compaction(ctx context.Context, e *Env) error {
	for _, s := range []struct {
		what   string
		record int
		bytes  float64
		judged bool
	}{{"records of 1 KiB", 1024, e.GB * 1e9 / 2, true}, {"records of 100 bytes", 100, e.GB * 1e9 / 8, false}} {
		if err := e.compact(ctx, s.what, s.record, int64(s.bytes), s.judged); err != nil {
			return fmt.Errorf("%s: %w", s.what, err)
		}
	}
	return nil
}

func (e *Env) compact(ctx context.Context, what string, record int, bytes int64, judged bool) error {
	const partitions = 4
	b, err := e.Lab.Tidemill(nil, -1, append(slices.Clone(e.Flags), "--kafka", "log.cleaner.backoff.ms=1000",
		"--kafka", "log.retention.check.interval.ms=1000", "--kafka", "log.initial.task.delay.ms=1000")...)
	if err != nil {
		return err
	}
	defer b.Discard()
	err = rawdriver.CreateTopicWith(ctx, b.Addr, "state", partitions, map[string]string{
		"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.01", "segment.bytes": strconv.Itoa(16 << 20),
		"min.compaction.lag.ms": strconv.FormatInt((24 * time.Hour).Milliseconds(), 10),
	})
	if err != nil {
		return err
	}
	if err := e.fill(b, "state", partitions, bytes, "-record", strconv.Itoa(record), "-keyed"); err != nil {
		return err
	}
	if err := e.quiet(ctx, b); err != nil {
		return err
	}
	before, err := holds(b)
	if err != nil {
		return err
	}
	if err := rawdriver.AlterTopic(ctx, b.Addr, "state", "min.compaction.lag.ms", "0"); err != nil {
		return err
	}
	read, cpu, took, err := watchCompaction(ctx, b)
	if err != nil {
		return err
	}
	after, err := holds(b)
	if err != nil {
		return err
	}
	cost := cpu.Seconds() / (read / 1e9)
	row := report.Row{
		What: what + ", not compressed, nearly all overwritten, bucket in a folder",
		Measured: fmt.Sprintf("%.2f CPU-s per GB read: %.1f GB in %.0f s; the bucket from %.2f to %.2f GB",
			cost, read/1e9, took.Seconds(), before/1e9, after/1e9),
	}
	if judged {
		row.Target, row.Verdict = "≤ 1.0 CPU-s/GB", report.Judge(cost <= 1)
	}
	if read < .5*float64(bytes) {
		row.Invalid = fmt.Sprintf("compaction read %.2f of %.2f GB", read/1e9, float64(bytes)/1e9)
	}
	e.add(row)
	return nil
}

// watchCompaction waits until compaction has begun and has read nothing more for a while, which is long enough to write what is
// left. It returns what was read and how long that took, and the broker's CPU time with that while.
func watchCompaction(ctx context.Context, b *peer.Broker) (read float64, cpu, took time.Duration, err error) {
	const look, settled, patience = time.Second, 10 * time.Second, 60 * time.Second
	start, err := b.Usage()
	if err != nil {
		return 0, 0, 0, err
	}
	begun := time.Now()
	moved, first, last := begun, -1., -1.
	for {
		m, err := b.Metrics()
		if err != nil {
			return 0, 0, 0, err
		}
		now, err := m.Need(compactedBytes)
		if err != nil {
			return 0, 0, 0, err
		}
		if first < 0 {
			first, last = now, now
		}
		if now > last {
			last, moved = now, time.Now()
		}
		still := time.Since(moved)
		if last == first && still > patience {
			return 0, 0, 0, fmt.Errorf("nothing was compacted within %s", patience)
		}
		if last > first && still > settled {
			break
		}
		if err := pause(ctx, look); err != nil {
			return 0, 0, 0, err
		}
	}
	end, err := b.Usage()
	return last - first, end.CPU() - start.CPU(), moved.Sub(begun), err
}

// holds is how many bytes of records are in the bucket.
func holds(b *peer.Broker) (float64, error) {
	stored, err := b.Stored()
	return float64(stored["wal"].Bytes + stored["segment"].Bytes), err
}
