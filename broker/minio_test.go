package broker

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tidemill/tidemill/internal/miniotest"
	"github.com/tidemill/tidemill/internal/outagetest"
)

// TestMinIO is a whole broker on a real bucket, through pauses and restarts of the service and its own.
func TestMinIO(t *testing.T) {
	m := miniotest.Start(t)
	t.Setenv("AWS_ACCESS_KEY_ID", m.AccessKey)
	t.Setenv("AWS_SECRET_ACCESS_KEY", m.SecretKey)
	b, faults := prepareFaulty(t, "--bucket", minioURL(m, "a/prefix"))
	b.start()
	load := b.load(outagetest.Options{Restarts: true, ProduceTimeout: time.Second})

	b.shutdown()
	for line := range strings.Lines(b.logs.String()) {
		// Half a second for etcd and one for clients may be too short on a busy machine, and nothing is lost by that.
		late := strings.Contains(line, "liveness key stays") || strings.Contains(line, "connections were cut")
		if strings.Contains(line, "WARN") && !late {
			t.Errorf("a clean stop warned: %s", line)
		}
	}
	b.start()
	if strings.Contains(b.logs.String(), "ended the log of a previous life") {
		t.Error("a start after a clean stop had to end a log")
	}
	load.AwaitProgress("after a restart")

	m.Pause()
	b.observe().AwaitReady(http.StatusServiceUnavailable, "stalled") // what MinIO had answered before is acknowledged by now
	acked := load.Acked()
	<-time.After(3 * time.Second)
	if n := load.Acked() - acked; n > 0 {
		t.Errorf("%d records were acknowledged while nothing could be stored", n)
	}
	m.Resume()
	load.AwaitProgress("after a pause")
	m.Restart()
	load.AwaitProgress("after MinIO was killed and started")

	b.kill(faults())
	b.start()
	if !strings.Contains(b.logs.String(), "ended the log of a previous life") {
		t.Error("the start after a crash ended no log")
	}
	load.AwaitProgress("after a crash")
	load.Finish()
}
