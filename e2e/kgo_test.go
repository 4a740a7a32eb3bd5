package e2e

import (
	"encoding/json"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/tidemill/tidemill/e2e/harness"
)

const (
	kgoPackage = "github.com/twmb/franz-go/pkg/kgo"
	// kgoRecords is what each chain of the group tests carries: the suite's own 500,000 need many more cores.
	kgoRecords = "150000"
	kgoLimit   = 20 * time.Minute
)

// kgoSkipped are the tests of the suite that are not run. Anything else that skips itself fails TestKgoSuite, so that a
// missing feature is not mistaken for a passing test.
var kgoSkipped = []struct{ name, reason string }{
	{"TestTxnEtl", "transactions: keys 24-28 are not advertised yet"},
	{"TestShareGroup", "share groups (KIP-932) are not advertised"},
	{"TestShareGroupETL", "share groups (KIP-932) are not advertised"},
	{"TestShareGroupAckOnClose", "share groups (KIP-932) are not advertised"},
	{"TestShareGroupOffsetsAdmin", "share groups (KIP-932) are not advertised"},
	{"TestConsumeRegexShareSkipsInternal", "share groups (KIP-932) are not advertised"},
	{"Test848RegexBrokerResolves", "the consumer protocol of KIP-848 is not advertised"},
	{"TestGroupETL/range/848", "the consumer protocol of KIP-848 is not advertised"},
	{"TestGroupETL/sticky/848", "the consumer protocol of KIP-848 is not advertised"},
	{"TestGroupETL/sticky/848/static", "the consumer protocol of KIP-848 is not advertised"},
	{"TestGroupSimple/848", "the consumer protocol of KIP-848 is not advertised"},
	{"TestIssueProduceBrokerTooOldFailsRecords", "wants a broker without Produce v2; Kafka advertises Produce from 0 and so do we"},
	{"TestSCRAMAuth", "needs a SASL listener"},
	{"TestSCRAMAuthBadCredentials", "needs a SASL listener"},
}

// A testEvent is one line of go test -json.
type testEvent struct {
	Action, Test, Output string
}

// TestKgoSuite runs the integration tests of franz-go's client, as they travel in its module, against the broker. Some have windows of
// their own of a few seconds, and run beside those that carry many records: what fails is run once more, alone.
func TestKgoSuite(t *testing.T) {
	broker := harness.NewBroker(t, harness.Settings{"group.initial.rebalance.delay.ms": "0"})
	first := runKgo(t, broker, t.Logf)
	t.Logf("%d tests passed, %d failed", first.passed, len(first.failed))
	const fewest = 100 // the suite has about 130 tests; a filter gone wrong would leave none
	if first.passed < fewest {
		t.Errorf("only %d tests passed: %v", first.passed, first.err)
	}
	const mostAgain = 3 // tests that do not keep their windows are few
	switch {
	case first.unfinished > 0 || len(first.failed) > mostAgain:
		t.Errorf("%d tests did not end, %v failed: %v", first.unfinished, first.failed, first.err)
	case len(first.failed) > 0:
		again := runKgo(t, broker, limited(t), "-parallel", "1", "-run", "^("+strings.Join(first.failed, "|")+")$")
		if again.err != nil || again.unfinished > 0 || again.passed < len(first.failed) {
			t.Errorf("failed twice: %v: %v", again.failed, again.err)
		}
	case first.err != nil:
		t.Errorf("go test %s: %v", kgoPackage, first.err)
	}
}

// A kgoRun is how a run of the suite, or of a part, ended.
type kgoRun struct {
	passed, unfinished int
	failed             []string // not subtests
	err                error
}

// runKgo runs the suite, and tells what each test that failed has printed. A test that skips itself and should not fails t.
func runKgo(t *testing.T, broker *harness.Broker, report func(string, ...any), args ...string) (r kgoRun) {
	args = append([]string{"test", "-json", "-count=1", "-timeout", kgoLimit.String(), "-skip", kgoSkip()}, append(args, kgoPackage)...)
	cmd := exec.Command("go", args...)
	cmd.Env = append(cmd.Environ(), "KGO_SEEDS="+broker.Addr, "KGO_TEST_RF=1", "KGO_TEST_RECORDS="+kgoRecords, "KGO_LOG_LEVEL=none")
	start := time.Now()
	out, err := cmd.Output()
	t.Logf("suite took %v", time.Since(start).Round(time.Second))
	r.err = err
	outputs := map[string][]string{}
	for line := range strings.Lines(string(out)) {
		var e testEvent
		if err := json.Unmarshal([]byte(line), &e); err != nil || e.Test == "" {
			continue
		}
		switch e.Action {
		case "run":
			r.unfinished++
		case "output":
			outputs[e.Test] = append(outputs[e.Test], e.Output)
		case "pass":
			r.unfinished--
			r.passed++
		case "skip":
			r.unfinished--
			if !kgoIsSkipped(e.Test) {
				t.Errorf("%s skipped itself: %s", e.Test, last(outputs[e.Test]))
			}
		case "fail":
			r.unfinished--
			report("%s failed:\n%s", e.Test, last(outputs[e.Test]))
			if !strings.Contains(e.Test, "/") {
				r.failed = append(r.failed, e.Test)
			}
		}
	}
	return r
}

// kgoSkip is the table as an argument of -skip. Names are whole, so TestShareGroup does not hide what it is a prefix of.
func kgoSkip() string {
	var patterns []string
	for _, s := range kgoSkipped {
		patterns = append(patterns, "^"+strings.ReplaceAll(s.name, "/", "$/^")+"$")
	}
	return strings.Join(patterns, "|")
}

func kgoIsSkipped(name string) bool {
	for _, s := range kgoSkipped {
		if s.name == name {
			return true
		}
	}
	return false
}

// last joins the last lines of a test's output.
func last(lines []string) string {
	const kept = 30
	return strings.Join(lines[max(0, len(lines)-kept):], "")
}
