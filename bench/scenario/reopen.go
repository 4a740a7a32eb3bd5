package scenario

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tidemill/tidemill/bench/peer"
	"github.com/tidemill/tidemill/bench/rawdriver"
	"github.com/tidemill/tidemill/bench/report"
)

// reopenLimit is how long a broker may take from its start until it has answered.
const reopenLimit = 2 * time.Second

// reopen measures how long after its start a broker with a long log, or with many, has answered fetches anywhere in them.
// Batches have one record each, so that every offset begins one.
func reopen(ctx context.Context, e *Env) error {
	if err := e.reopenLong(ctx, 1_000_000); err != nil {
		return err
	}
	return e.reopenMany(ctx, 1000, 100)
}

func (e *Env) reopenLong(ctx context.Context, batches int) error {
	b, err := e.Lab.Tidemill(nil, -1, e.Flags...)
	if err != nil {
		return err
	}
	defer func() { b.Discard() }()
	err = e.Lab.Raw(-1, &rawdriver.Result{}, "produce", "-bootstrap", b.Addr, "-topic", "long", "-partitions", "1", "-conns", "1",
		"-depth", "512", "-batch", "200", "-record", "100", "-requests", strconv.Itoa(batches))
	if err != nil {
		return err
	}
	if err := e.quiet(ctx, b); err != nil {
		return err
	}
	for _, end := range endings {
		end.of(b)
		begun := time.Now()
		if b, err = e.Lab.Again(b); err != nil {
			return err
		}
		var took []time.Duration
		reader := rawdriver.Reader{Addr: b.Addr, Topic: "long"}
		for _, offset := range []int{0, batches / 2, batches - 1} {
			if err := e.await(ctx, &reader, 0, int64(offset)); err != nil {
				return fmt.Errorf("%w\n%s", err, b.Tail())
			}
			took = append(took, time.Since(begun))
		}
		reader.Close()
		e.add(report.Row{
			What:     fmt.Sprintf("one partition of %d batches, %s: from its start until fetches at the first offset, in the middle, at the end", batches, end.name),
			Measured: fmt.Sprintf("%.2f, %.2f, %.2f s", took[0].Seconds(), took[1].Seconds(), took[2].Seconds()),
			Target:   "< 2 s", Verdict: report.Judge(took[2] < reopenLimit),
		})
	}
	return nil
}

// endings are how a broker ends before it is started again.
var endings = []struct {
	name string
	of   func(*peer.Broker)
}{{"after kill -9", func(b *peer.Broker) { b.Kill() }}, {"after a stop", func(b *peer.Broker) { b.Stop() }}}

// await waits for an answer, for much longer than it should take.
func (e *Env) await(ctx context.Context, r *rawdriver.Reader, partition int32, offset int64) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return r.Await(ctx, partition, offset)
}

// reopenMany asks each of many partitions for its first and its last record, 16 at a time.
func (e *Env) reopenMany(ctx context.Context, partitions, batches int) error {
	const conns = 10
	b, err := e.Lab.Tidemill(nil, -1, e.Flags...)
	if err != nil {
		return err
	}
	defer func() { b.Discard() }()
	err = e.Lab.Raw(-1, &rawdriver.Result{}, "produce", "-bootstrap", b.Addr, "-topic", "many", "-partitions", strconv.Itoa(partitions),
		"-conns", strconv.Itoa(conns), "-parts", strconv.Itoa(partitions/conns), "-depth", "4", "-batch", "200", "-record", "100",
		"-requests", strconv.Itoa(batches))
	if err != nil {
		return err
	}
	if err := e.quiet(ctx, b); err != nil {
		return err
	}
	for _, end := range endings {
		end.of(b)
		begun := time.Now()
		if b, err = e.Lab.Again(b); err != nil {
			return err
		}
		first := rawdriver.Reader{Addr: b.Addr, Topic: "many"}
		err := e.await(ctx, &first, 0, 0)
		first.Close()
		one := time.Since(begun)
		if err == nil {
			err = e.askAll(ctx, b, partitions, batches)
		}
		if err != nil {
			return fmt.Errorf("%w\n%s", err, b.Tail())
		}
		all := time.Since(begun)
		e.add(report.Row{
			What:     fmt.Sprintf("%d partitions of %d batches, %s: from its start until the first one, until all have answered at both ends", partitions, batches, end.name),
			Measured: fmt.Sprintf("%.2f, %.2f s", one.Seconds(), all.Seconds()), Target: "< 2 s", Verdict: report.Judge(all < reopenLimit),
		})
	}
	return nil
}

func (e *Env) askAll(ctx context.Context, b *peer.Broker, partitions, batches int) error {
	const readers = 16
	group, ctx := errgroup.WithContext(ctx)
	for i := range readers {
		group.Go(func() error {
			r := rawdriver.Reader{Addr: b.Addr, Topic: "many"}
			defer r.Close()
			for p := i; p < partitions; p += readers {
				for _, offset := range []int64{0, int64(batches) - 1} {
					if err := e.await(ctx, &r, int32(p), offset); err != nil {
						return err
					}
				}
			}
			return nil
		})
	}
	return group.Wait()
}
