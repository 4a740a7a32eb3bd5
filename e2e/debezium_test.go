package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidemill/tidemill/e2e/harness"
)

const (
	// A table's rows are in the snapshot; after it, the shop makes its changes in rounds.
	snapshotRows = 1000
	roundChanges = 1000
	sourceName   = "shop-source"
	sinkName     = "shop-sink"
)

// TestDebezium streams a PostgreSQL database through Debezium into topics and from there into a file. The topics have what
// the broker's defaults give them. Whatever is killed, every change of a row arrives, for the first time in the order of its
// row, and what the topics say in the end is what the tables hold.
func TestDebezium(t *testing.T) {
	broker := harness.NewBroker(t, harness.Settings{"group.initial.rebalance.delay.ms": "0"})
	s := newShop(t, harness.NewPostgres(t))
	s.fill(snapshotRows)
	w := newWorker(t, broker, "plugin.path="+harness.PluginPath(t)+","+harness.DebeziumPath(t))
	w.start()
	w.must(http.MethodPut, "/connectors/"+sourceName+"/config", s.source())
	topics := newShopReader(t, broker)
	topics.wait("the snapshot", s.changes)
	file := &shopFile{t: t, seen: newTally(), path: filepath.Join(t.TempDir(), "out")}
	w.must(http.MethodPut, "/connectors/"+sinkName+"/config", file.sink())

	s.work(roundChanges)
	topics.wait("the stream", s.changes)
	file.wait(s.changes)
	topics.seen.checkOnce(t, "topics", s.changes)
	file.seen.checkOnce(t, "file", s.changes)

	topics.waitFlow(s)
	broker.Kill9()
	s.work(roundChanges)
	broker.Start()
	topics.wait("the changes around the broker's kill", s.changes)

	topics.waitFlow(s)
	w.process.Kill9()
	s.work(roundChanges)
	w.start()
	topics.wait("the changes around the worker's kill", s.changes)
	w.checkRunning(sourceName, sinkName)

	s.work(roundChanges)
	topics.wait("the last changes", s.changes)
	file.wait(s.changes)
	topics.check(s)
	file.seen.checkKnown(t, "file", s.changes)
	topics.checkReread(broker)
}

// source is the configuration that Debezium's tutorial ends with, and JSON without schemas.
func (s *shop) source() map[string]string {
	return map[string]string{
		"connector.class": "io.debezium.connector.postgresql.PostgresConnector", "tasks.max": "1", "plugin.name": "pgoutput",
		"database.hostname": s.db.Host, "database.port": s.db.Port, "database.dbname": "postgres",
		"database.user": harness.PostgresUser, "database.password": harness.PostgresPassword,
		"topic.prefix": "shop", "table.include.list": "public.customers,public.visits",
		"key.converter": "org.apache.kafka.connect.json.JsonConverter", "key.converter.schemas.enable": "false",
		"value.converter": "org.apache.kafka.connect.json.JsonConverter", "value.converter.schemas.enable": "false",
	}
}

// A shopReader keeps what it reads from the topics. It outlives kills of the broker.
type shopReader struct {
	t       *testing.T
	client  *kgo.Client
	records map[string][]*kgo.Record
	seen    tally
	gone    map[string]bool // topic and key of deleted rows
}

func newShopReader(t *testing.T, broker *harness.Broker) *shopReader {
	return &shopReader{
		t: t, records: map[string][]*kgo.Record{}, seen: newTally(), gone: map[string]bool{},
		client: broker.Client(kgo.ConsumeTopics(topicOf(customers), topicOf(visits)), kgo.MetadataMinAge(time.Second),
			kgo.ConsumeResetOffset(kgo.NewOffset().AtStart())),
	}
}

// wait reads until every change has come.
func (r *shopReader) wait(what string, changes []change) {
	r.t.Helper()
	begun := time.Now()
	r.until(what, func() error { return r.seen.missing(changes) })
	r.t.Logf("%s: there after %v", what, time.Since(begun).Round(time.Millisecond))
}

// waitFlow returns while changes are under way: after a round of which some have come, in the middle of another.
func (r *shopReader) waitFlow(s *shop) {
	r.t.Helper()
	s.work(roundChanges)
	r.wait("a round's first change", s.changes[:len(s.changes)-roundChanges+1])
	s.work(roundChanges)
	r.t.Logf("at the kill: %v", r.seen.missing(s.changes))
}

// until reads until nothing is missing.
func (r *shopReader) until(what string, missing func() error) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), pipelineLimit)
	defer cancel()
	for err := missing(); err != nil; err = missing() {
		fetches := r.client.PollFetches(ctx)
		if ctx.Err() != nil {
			r.t.Fatalf("%s: not within %v: %v", what, pipelineLimit, err)
		}
		fetches.EachError(func(topic string, partition int32, err error) { r.t.Logf("%s/%d: %v", topic, partition, err) })
		fetches.EachRecord(r.take)
	}
}

func (r *shopReader) take(record *kgo.Record) {
	r.t.Helper()
	log := r.records[record.Topic]
	if record.Partition != 0 || record.Offset != int64(len(log)) {
		r.t.Fatalf("%s/%d: offset %d follows %d records", record.Topic, record.Partition, record.Offset, len(log))
	}
	r.records[record.Topic] = append(log, record)
	if record.Value == nil {
		r.seen.tombstones++
		if !r.gone[record.Topic+string(record.Key)] {
			r.t.Errorf("%s@%d: a tombstone of %q, which was not deleted", record.Topic, record.Offset, record.Key)
		}
		return
	}
	_, c, err := decodeChange(record)
	if err != nil {
		r.t.Fatal(err)
	}
	if keyed := c.table == customers; keyed && string(record.Key) != c.key() || !keyed && record.Key != nil {
		r.t.Errorf("%s@%d: key %q of %+v", record.Topic, record.Offset, record.Key, c)
	}
	r.seen.changes[c]++
	if c.op == deleted {
		r.gone[record.Topic+string(record.Key)] = true
	}
}

func decodeChange(record *kgo.Record) (e envelope, c change, err error) {
	if err = json.Unmarshal(record.Value, &e); err == nil {
		c, err = e.change()
	}
	if err != nil {
		err = fmt.Errorf("%s@%d: %w: %s", record.Topic, record.Offset, err, record.Value)
	}
	return e, c, err
}

// check checks the order of each row's changes, and that the topics end as the tables do.
func (r *shopReader) check(s *shop) {
	r.t.Helper()
	r.seen.checkKnown(r.t, "topics", s.changes)
	report := limited(r.t)
	for _, table := range []string{customers, visits} {
		state, latest := map[int]shopRow{}, map[int]int{}
		for _, record := range r.records[topicOf(table)] {
			if record.Value == nil {
				continue
			}
			e, c, err := decodeChange(record)
			if err != nil {
				r.t.Fatal(err)
			}
			if e.After == nil {
				delete(state, c.id)
				continue
			}
			state[c.id] = *e.After
			if c.rev > latest[c.id]+1 {
				report("%s@%d: revision %d of row %d follows %d", record.Topic, record.Offset, c.rev, c.id, latest[c.id])
			}
			latest[c.id] = max(latest[c.id], c.rev)
		}
		want := s.table(table)
		if diff := cmp.Diff(want, state); diff != "" {
			r.t.Errorf("%s: the table (-) is not what its topic (+) says:\n%s", table, diff)
		}
		r.t.Logf("%s: %d rows, %d records in its topic", table, len(want), len(r.records[topicOf(table)]))
	}
}

// checkReread reads the topics again from their start: they have what was read the first time.
func (r *shopReader) checkReread(broker *harness.Broker) {
	r.t.Helper()
	again := newShopReader(r.t, broker)
	again.until("the topics once more", func() error {
		for topic, log := range r.records {
			if n := len(again.records[topic]); n < len(log) {
				return fmt.Errorf("%d of %d records of %s", n, len(log), topic)
			}
		}
		return nil
	})
	report := limited(r.t)
	for topic, log := range r.records {
		for i, want := range log {
			got := again.records[topic][i]
			if !bytes.Equal(got.Key, want.Key) || !bytes.Equal(got.Value, want.Value) {
				report("%s@%d: first %q = %q, then %q = %q", topic, i, want.Key, want.Value, got.Key, got.Value)
			}
		}
	}
}

// A shopFile is the file of a sink: one value a line, and null for a tombstone.
type shopFile struct {
	t    *testing.T
	path string
	seen tally
}

// sink is the configuration of a FileStreamSink. The consumer of a killed worker stays in the sink's group for a session.
func (f *shopFile) sink() map[string]string {
	return map[string]string{
		"connector.class": "FileStreamSink", "tasks.max": "1", "file": f.path,
		"topics": topicOf(customers) + "," + topicOf(visits), "consumer.override.session.timeout.ms": "10000",
	}
}

// wait reads the file until every change is there.
func (f *shopFile) wait(changes []change) {
	f.t.Helper()
	harness.Eventually(f.t, pipelineLimit, "every change is in the file", func() error {
		if err := f.read(); err != nil {
			return err
		}
		return f.seen.missing(changes)
	})
}

func (f *shopFile) read() error {
	f.seen = newTally()
	in, err := os.Open(f.path)
	if err != nil {
		return err
	}
	defer in.Close()
	for lines := json.NewDecoder(in); ; {
		var e *envelope
		if err := lines.Decode(&e); errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil // the last line may be under way
		} else if err != nil {
			return err
		}
		if e == nil {
			f.seen.tombstones++
			continue
		}
		c, err := e.change()
		if err != nil {
			return err
		}
		f.seen.changes[c]++
	}
}

func topicOf(table string) string { return "shop.public." + table }
