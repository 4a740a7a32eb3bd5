package harness

import (
	"path/filepath"
	"testing"

	"github.com/tidemill/tidemill/internal/proctest"
)

// NewKafka starts a real Apache Kafka of one node with empty data and waits until it is ready, whatever the broker under
// test is.
func NewKafka(t testing.TB, settings Settings) *Broker {
	t.Helper()
	b := &Broker{t: t, Addr: proctest.FreeAddress(t)}
	b.argv = kafkaArgv(t, filepath.Join(t.TempDir(), "data"), b.Addr, settings)
	b.Start()
	return b
}
