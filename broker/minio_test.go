package broker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidemill/tidemill/internal/miniotest"
	"github.com/tidemill/tidemill/objectstore"
)

// TestMinIO is a whole broker on a real bucket, through pauses and restarts of the service and its own.
func TestMinIO(t *testing.T) {
	m := miniotest.Start(t)
	t.Setenv("AWS_ACCESS_KEY_ID", m.AccessKey)
	t.Setenv("AWS_SECRET_ACCESS_KEY", m.SecretKey)
	dead := &atomic.Bool{}
	b := startBrokerOn(t, func(below objectstore.Store) objectstore.Store { return mortal{below, dead} }, "--bucket", minioURL(m, "a/prefix"))
	dial(t, b.kafka).createTopic("t", 1)
	tr := startTraffic(b, "t")
	tr.restarts.Store(true)

	b.shutdown()
	if strings.Contains(b.logs.String(), "WARN") {
		t.Errorf("a clean stop warned:\n%s", b.logs.String())
	}
	b.start()
	if strings.Contains(b.logs.String(), "ended the log of a previous life") {
		t.Error("a start after a clean stop had to end a log")
	}
	tr.awaitProgress("after a restart")

	m.Pause()
	acked := tr.acked.Load()
	pause := time.After(3 * time.Second)
	<-pause
	if n := tr.acked.Load() - acked; n > 64 {
		t.Errorf("%d records were acknowledged while nothing could be stored", n)
	}
	m.Resume()
	tr.awaitProgress("after a pause")
	m.Restart()
	tr.awaitProgress("after MinIO was killed and started")

	b.die(dead)
	b.start()
	if !strings.Contains(b.logs.String(), "ended the log of a previous life") {
		t.Error("the start after a crash ended no log")
	}
	tr.awaitProgress("after a crash")
	tr.check()
}

// mortal is a store that a dead process does not reach any more.
type mortal struct {
	objectstore.Store
	dead *atomic.Bool
}

var errDead = errors.New("the process is dead")

func (m mortal) Put(ctx context.Context, key string, body []byte) error {
	if m.dead.Load() {
		return fmt.Errorf("put %s: %w: %w", key, objectstore.ErrAmbiguous, errDead)
	}
	return m.Store.Put(ctx, key, body)
}

func (m mortal) Close() error { return m.Store.(io.Closer).Close() }

// die ends the broker as kill -9 does, as far as the bucket can tell: nothing is written from now on, no CLOSE either.
func (b *testBroker) die(dead *atomic.Bool) {
	b.t.Helper()
	dead.Store(true)
	b.stop()
	b.stop = nil
	if err := <-b.stopped; err == nil {
		b.t.Error("the broker closed its log on a store that takes nothing")
	}
	dead.Store(false)
}
