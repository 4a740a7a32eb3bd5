package peer

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"

	"github.com/tidemill/tidemill/bench/observe"
	"github.com/tidemill/tidemill/bench/s3sim"
)

// Again starts a broker on the data of b, which has ended, at the same addresses. It does not wait until it is ready.
func (l *Lab) Again(b *Broker) (*Broker, error) {
	again := *b
	var err error
	again.Process, err = l.start(brokerName, b.env, b.argv)
	return &again, err
}

// Discard stops the broker and removes what it had on disk, so that gigabytes of one run are not written back during the next.
func (b *Broker) Discard() {
	b.Stop()
	_ = os.RemoveAll(b.Dir) // Close tries again
}

// Ready waits until the broker calls itself ready.
func (b *Broker) Ready() error {
	return b.until(readyLimit, func() error {
		resp, err := http.Get("http://" + b.HTTP + "/readyz")
		if err != nil {
			return err
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("readyz answers %s", resp.Status)
		}
		return nil
	})
}

// Metrics are what the broker says of itself.
func (b *Broker) Metrics() (observe.Metrics, error) {
	return observe.Scrape("http://" + b.HTTP + "/metrics")
}

// Stored is what lies in the broker's bucket, by the first part of keys.
func (b *Broker) Stored() (map[string]s3sim.Holding, error) {
	if b.Sim == nil {
		return folderHolds(filepath.Join(b.Dir, "bucket"))
	}
	stats, err := b.Sim.Stats()
	return stats.Stored, err
}
