package e2e

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidemill/tidemill/e2e/harness"
)

const (
	compactionTester = "org.apache.kafka.tools.LogCompactionTester"
	// compactionMessages go to each topic of each tester; a tenth of it is the number of keys.
	compactionMessages = 60_000
	compactionTopics   = 2
	testerLimit        = 4 * time.Minute
)

// TestLogCompactionTester runs Apache Kafka's own torture test of compaction with every codec at the same time: it produces
// updates and deletes of few keys, reads what is left, and compares the last value of each key. The tool sets nothing but the
// policy, so the broker's settings make segments short. The testers are held, in the sleep that they have for it, until the
// cleaner has come round and the broker was killed: what they read is compacted, and comes from storage.
func TestLogCompactionTester(t *testing.T) {
	broker := harness.NewBroker(t, eager(harness.Settings{
		"log.roll.ms": "200", "log.segment.bytes": "1048576", "log.cleaner.delete.retention.ms": "1000",
	}))
	client := broker.Client()
	var testers []*tester
	for _, codec := range []string{"none", "gzip", "snappy", "lz4", "zstd"} {
		testers = append(testers, startTester(t, broker, codec))
	}
	harness.Eventually(t, testerLimit, "every tester has produced", func() error {
		var errs []error
		for _, x := range testers {
			errs = append(errs, x.hold())
		}
		return errors.Join(errs...)
	})
	for _, x := range testers {
		for _, topic := range x.topics() {
			x.waitCompacted(client, topic)
		}
	}
	broker.Kill9()
	broker.Start()
	for _, x := range testers {
		x.process.Send(syscall.SIGCONT)
	}
	for _, x := range testers {
		t.Run(x.codec, x.check)
	}
}

// A tester is one run of the tool.
type tester struct {
	t       *testing.T
	codec   string
	process *harness.Process
	held    bool
}

func startTester(t *testing.T, broker *harness.Broker, codec string) *tester {
	t.Helper()
	argv := harness.Java(t, 128, compactionTester, "--bootstrap-server", broker.Addr, "--compression-type", codec,
		"--messages", strconv.Itoa(compactionMessages), "--duplicates", "10", "--percent-deletes", "10",
		"--topics", strconv.Itoa(compactionTopics), "--sleep", "10")
	argv = slices.Insert(argv, slices.Index(argv, "-cp"), "-Djava.io.tmpdir="+t.TempDir())
	return &tester{t: t, codec: codec, process: harness.Start(t, "tester-"+codec, argv...)}
}

// hold stops the tester where it sleeps between production and consumption.
func (x *tester) hold() error {
	select {
	case <-x.process.Exited():
		x.t.Fatalf("%s: the tester exited with status %d", x.codec, x.process.ExitCode())
	default:
	}
	if !x.held && !strings.Contains(x.process.Output(), "Sleeping for") {
		return fmt.Errorf("%s: still producing", x.codec)
	}
	if !x.held {
		x.process.Send(syscall.SIGSTOP)
		x.held = true
	}
	return nil
}

// topics are those that the tester has made up.
func (x *tester) topics() []string {
	found := regexp.MustCompile(`to topics (\S+)`).FindStringSubmatch(x.process.Output())
	if found == nil {
		x.t.Fatalf("%s: no topics in %q", x.codec, x.process.Output())
	}
	names := strings.Split(found[1], ",")
	if len(names) != compactionTopics {
		x.t.Fatalf("%s: topics %v", x.codec, names)
	}
	return names
}

// waitCompacted waits until half of the records are gone: of nine updates in ten, all but the active segment's could be.
func (x *tester) waitCompacted(client *kgo.Client, topic string) {
	x.t.Helper()
	waitStored(x.t, client, topic, 0, topic+" is compacted", func(s *stored) error {
		if s.start != 0 || s.end != compactionMessages {
			x.t.Fatalf("%s: offsets %d to %d, want 0 to %d", topic, s.start, s.end, compactionMessages)
		}
		if s.removed() < compactionMessages/2 {
			return fmt.Errorf("%s: %d of %d records are left", x.codec, len(s.records), compactionMessages)
		}
		return nil
	})
}

// check waits until the tester has compared what it read and checks what it says.
func (x *tester) check(t *testing.T) {
	select {
	case <-x.process.Exited():
	case <-time.After(testerLimit):
		t.Fatalf("the tester is not done within %v", testerLimit)
	}
	out := x.process.Output()
	if code := x.process.ExitCode(); code != 0 || !strings.Contains(out, "Data verification is completed") {
		t.Fatalf("status %d\n%s", code, out)
	}
	rows := regexp.MustCompile(`(\d+) rows of data produced, (\d+) rows of data consumed`).FindStringSubmatch(out)
	values := regexp.MustCompile(`Validated (\d+) values, 0 mismatches`).FindStringSubmatch(out)
	if rows == nil || values == nil {
		t.Fatalf("no figures in\n%s", out)
	}
	produced, _ := strconv.Atoi(rows[1])
	consumed, _ := strconv.Atoi(rows[2])
	if produced != compactionMessages*compactionTopics || consumed > produced/2 || values[1] == "0" {
		t.Errorf("%d produced, %d consumed, %s values compared", produced, consumed, values[1])
	}
	t.Logf("%d produced, %d consumed, %s values compared", produced, consumed, values[1])
}
