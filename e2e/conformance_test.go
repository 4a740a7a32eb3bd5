package e2e

import (
	"testing"
	"time"

	"github.com/tidemill/tidemill/e2e/harness"
)

// TestConformanceOnKafka runs the conformance tests against Apache Kafka, where an expectation of ours that is wrong shows.
// make test runs the same tests against the broker of this repository.
func TestConformanceOnKafka(t *testing.T) {
	kafka := harness.NewKafka(t, harness.Settings{"group.initial.rebalance.delay.ms": "0"})
	t.Log(harness.Run(t, 10*time.Minute, "", "go", "-C", "..", "test", "./conformance", "-count=1", "-bootstrap", kafka.Addr))
}
