package outagetest

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidemill/tidemill/internal/ledger"
)

// CheckReadable makes sure that a consumer that comes now reads everything that is acknowledged by now.
func (l *Load) CheckReadable(when string) {
	l.t.Helper()
	want := l.books.Acked()
	ctx, cancel := context.WithTimeout(l.t.Context(), patience)
	defer cancel()
	reader := l.client(kgo.ConsumeTopics(Idempotent, Plain), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	defer reader.Close()
	for len(want) > 0 {
		fetches := reader.PollFetches(ctx)
		if ctx.Err() != nil {
			l.t.Errorf("%s: %d acknowledged records cannot be read", when, len(want))
			return
		}
		fetches.EachRecord(func(r *kgo.Record) {
			at := ledger.Place{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset}
			l.books.See(at, name(r))
			delete(want, at)
		})
	}
}

// Finish ends the load, reads the whole log and fails the test for whatever contradicts what clients were told.
func (l *Load) Finish() {
	t := l.t
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	l.stopProducing()
	l.producing.Wait()
	for _, producer := range l.producers {
		if err := producer.Flush(ctx); err != nil {
			t.Fatalf("flush: %v", err)
		}
	}
	l.flooding.Wait()
	final := l.readAll(ctx)
	Eventually(t, "the group to have read everything", func() error {
		if _, seen, _ := l.books.Counts(); seen < len(final) {
			return fmt.Errorf("%d of %d records", seen, len(final))
		}
		return nil
	})
	l.stopConsuming()
	l.consuming.Wait()
	const shown = 20
	errs := l.books.Contradictions(final, Idempotent, Plain)
	for i, err := range errs {
		if i == shown {
			t.Errorf("and %d more", len(errs)-shown)
			break
		}
		t.Error(err)
	}
	acked, _, unknown := l.books.Counts()
	t.Logf("%d acknowledged, %d unknown, %d in the log, %d commits", acked, unknown, len(final), l.committed.Load())
}

// readAll reads both topics from the start to the end, and checks that no offset is missing in between.
func (l *Load) readAll(ctx context.Context) map[ledger.Place]string {
	t := l.t
	t.Helper()
	admin := l.client()
	ends, err := kadm.NewClient(admin).ListEndOffsets(ctx, Idempotent, Plain)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		t.Fatalf("list end offsets: %v", err)
	}
	want := 0
	ends.Each(func(o kadm.ListedOffset) { want += int(o.Offset) })
	reader := l.client(kgo.ConsumeTopics(Idempotent, Plain), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	final, next := map[ledger.Place]string{}, map[ledger.Place]int64{}
	for len(final) < want {
		fetches := reader.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			t.Fatalf("read %d of %d records: %v", len(final), want, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			log := ledger.Place{Topic: r.Topic, Partition: r.Partition}
			if r.Offset != next[log] {
				t.Errorf("%s/%d: offset %d follows %d", r.Topic, r.Partition, r.Offset, next[log]-1)
			}
			next[log] = r.Offset + 1
			final[ledger.Place{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset}] = name(r)
		})
	}
	return final
}

// An Observer asks the broker's HTTP address.
type Observer struct {
	T       testing.TB
	Address string
}

// Ready returns the status of /readyz and what it says.
func (o Observer) Ready() (status int, text string) {
	o.T.Helper()
	status, text, err := o.get("/readyz")
	if err != nil {
		o.T.Fatal(err)
	}
	return status, text
}

// AwaitReady returns when /readyz answers with status and words that contain text.
func (o Observer) AwaitReady(status int, text string) {
	o.T.Helper()
	Eventually(o.T, fmt.Sprintf("/readyz to answer %d with %q", status, text), func() error {
		got, said, err := o.get("/readyz")
		if err != nil || got != status || !strings.Contains(said, text) {
			return fmt.Errorf("it answers %d %q, error %w", got, said, err)
		}
		return nil
	})
}

// Metric returns the value of a series by its name and labels.
func (o Observer) Metric(series string) float64 {
	o.T.Helper()
	_, text, err := o.get("/metrics")
	if err != nil {
		o.T.Fatal(err)
	}
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, series+" "); ok {
			var v float64
			if _, err := fmt.Sscan(rest, &v); err != nil {
				o.T.Fatal(err)
			}
			return v
		}
	}
	o.T.Fatalf("no series %s", series)
	return 0
}

func (o Observer) get(path string) (status int, text string, err error) {
	response, err := http.Get("http://" + o.Address + path)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return response.StatusCode, string(body), err
}
