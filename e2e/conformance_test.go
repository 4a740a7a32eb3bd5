package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/tidemill/tidemill/e2e/harness"
)

// TestConformanceOnKafka runs the conformance tests against Apache Kafka, where an expectation of ours that is wrong shows.
// make test runs the same tests against the broker of this repository.
func TestConformanceOnKafka(t *testing.T) {
	kafka := harness.NewKafka(t, harness.Settings{"group.initial.rebalance.delay.ms": "0"})
	out, err := harness.TryRun(10*time.Minute, "", "go", "-C", "..", "test", "./conformance", "-count=1", "-v", "-bootstrap", kafka.Addr)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, line := range strings.Split(out, "\n") {
		if strings.HasPrefix(line, "--- ") || strings.HasPrefix(line, "ok ") {
			t.Log(line)
		}
	}
	if n := strings.Count(out, "--- PASS"); n < 300 {
		t.Errorf("%d tests and subtests ran, want the whole suite", n)
	}
}
