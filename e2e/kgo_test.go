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
	kgoLimit   = 6 * time.Minute
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

// TestKgoSuite runs the integration tests of franz-go's client, as they travel in its module, against the broker.
func TestKgoSuite(t *testing.T) {
	broker := harness.NewBroker(t, harness.Settings{"group.initial.rebalance.delay.ms": "0"})
	cmd := exec.Command("go", "test", "-json", "-count=1", "-timeout", kgoLimit.String(), "-skip", kgoSkip(), kgoPackage)
	cmd.Env = append(cmd.Environ(), "KGO_SEEDS="+broker.Addr, "KGO_TEST_RF=1", "KGO_TEST_RECORDS="+kgoRecords, "KGO_LOG_LEVEL=none")
	start := time.Now()
	out, runErr := cmd.Output()
	t.Logf("suite took %v", time.Since(start).Round(time.Second))
	outputs := map[string][]string{}
	passed := 0
	report := limited(t)
	for line := range strings.Lines(string(out)) {
		var e testEvent
		if err := json.Unmarshal([]byte(line), &e); err != nil || e.Test == "" {
			continue
		}
		switch e.Action {
		case "output":
			outputs[e.Test] = append(outputs[e.Test], e.Output)
		case "pass":
			passed++
		case "skip":
			if !kgoIsSkipped(e.Test) {
				report("%s skipped itself: %s", e.Test, last(outputs[e.Test]))
			}
		case "fail":
			report("%s failed:\n%s", e.Test, last(outputs[e.Test]))
		}
	}
	t.Logf("%d tests passed", passed)
	if runErr != nil {
		t.Errorf("go test %s: %v", kgoPackage, runErr)
	}
	const fewest = 100 // the suite has about 130 tests; a filter gone wrong would leave none
	if passed < fewest {
		t.Errorf("only %d tests passed: %s", passed, clip(string(out)))
	}
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
