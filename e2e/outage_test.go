package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/tidemill/tidemill/e2e/harness"
	"github.com/tidemill/tidemill/internal/etcdtest"
	"github.com/tidemill/tidemill/internal/miniotest"
	"github.com/tidemill/tidemill/internal/outagetest"
)

const (
	outage = 30 * time.Second
	// outageMemory is --memory of the brokers; produceBudget is the share of it that produces may hold.
	outageMemory  = 128 << 20
	produceBudget = outageMemory * 20 / 100
	// residentMax bounds the process: what --memory allows, the collector's head room over it, and the program itself.
	residentMax = 2*outageMemory + 64<<20
	// The flood is several times the produce budget, so that it has to wait on its socket.
	floodRecords, floodSize = 400, 256 << 10
)

// An outageRig is a broker under load whose storage or etcd a scenario takes away.
type outageRig struct {
	*testing.T
	broker *harness.Broker
	load   *outagetest.Load
	see    outagetest.Observer
}

func startRig(t *testing.T, bucket, cluster string, o outagetest.Options) *outageRig {
	t.Helper()
	flags := []string{"--memory", fmt.Sprintf("%dMiB", outageMemory>>20), "--bucket", bucket}
	if cluster != "" {
		flags = append(flags, "--cluster", cluster, "--broker-id", "1") // it is the only one: no lease to wait for
	}
	broker := harness.NewBrokerWithFlags(t, harness.Settings{"group.initial.rebalance.delay.ms": "0"}, flags...)
	return &outageRig{
		T: t, broker: broker, see: outagetest.Observer{T: t, Address: broker.HTTP}, load: outagetest.Start(t, broker.Addr, o),
	}
}

// TestOutages takes storage and etcd away for 30 s, on real processes, while producers and consumers are at work. Each
// scenario has a broker of its own and all run at the same time.
func TestOutages(t *testing.T) {
	if harness.OnKafka() {
		t.Skip("Kafka has neither an object store nor etcd")
	}
	shared := miniotest.Start(t)
	t.Setenv("AWS_ACCESS_KEY_ID", shared.AccessKey)
	t.Setenv("AWS_SECRET_ACCESS_KEY", shared.SecretKey)
	scenarios := map[string]func(*testing.T){
		"MinIO stopped and started again": func(t *testing.T) {
			minio := miniotest.Start(t)
			storageAway(t, s3URL(minio.Endpoint, minio.Bucket, "a"), minio.Stop, minio.Server.Start)
		},
		"MinIO paused": func(t *testing.T) {
			minio := miniotest.Start(t)
			storageAway(t, s3URL(minio.Endpoint, minio.Bucket, "a"), minio.Pause, minio.Resume)
		},
		"503 SlowDown": func(t *testing.T) {
			faulty := startFaultyS3(t, shared.Endpoint)
			storageAway(t, s3URL(faulty.Endpoint, shared.Bucket, "503"), func() { faulty.set(slowDown) }, func() { faulty.set(nil) })
		},
		"ten times the latency": func(t *testing.T) {
			faulty := startFaultyS3(t, shared.Endpoint)
			usual, tenTimes := slow(60*time.Millisecond), slow(600*time.Millisecond)
			faulty.set(usual)
			storageImpaired(t, s3URL(faulty.Endpoint, shared.Bucket, "slow"), faulty,
				func() { faulty.set(tenTimes) }, func() { faulty.set(usual) })
		},
		"PUTs that land but answer with an error": func(t *testing.T) {
			faulty := startFaultyS3(t, shared.Endpoint)
			storageImpaired(t, s3URL(faulty.Endpoint, shared.Bucket, "lies"), faulty,
				func() { faulty.set(landsButErrs) }, func() { faulty.set(nil) })
		},
		"etcd stopped and started again": func(t *testing.T) {
			etcd := etcdtest.Start(t)
			etcdAway(t, s3URL(shared.Endpoint, shared.Bucket, "etcd-stopped"), etcd.URL(), etcd.Stop, etcd.Server.Start)
		},
		"etcd paused": func(t *testing.T) {
			etcd := etcdtest.Start(t)
			etcdAway(t, s3URL(shared.Endpoint, shared.Bucket, "etcd-paused"), etcd.URL(), etcd.Pause, etcd.Resume)
		},
		"everything and kill -9": func(t *testing.T) {
			everythingAway(t, shared, startFaultyS3(t, shared.Endpoint), etcdtest.Start(t))
		},
	}
	// They wait far more than they work, so there are more at a time than the machine has cores.
	var running sync.WaitGroup
	for name, scenario := range scenarios {
		running.Go(func() { t.Run(name, scenario) })
	}
	running.Wait()
}

func s3URL(endpoint, bucket, prefix string) string {
	return "s3://" + bucket + "/" + prefix + "?region=us-east-1&endpoint=" + endpoint
}

// storageAway: nothing can be stored for 30 s. Nothing is acknowledged that is not stored, producers wait on their sockets
// within the budget, what is committed can be read, readiness says what is wrong, and all goes on by itself.
func storageAway(t *testing.T, bucket string, away, back func()) {
	rig := startRig(t, bucket, "", outagetest.Options{})
	away()
	end := time.After(outage)
	rig.load.Flood(floodRecords, floodSize)
	rig.see.AwaitReady(http.StatusServiceUnavailable, "stalled")
	if stalled := rig.see.Metric("tidemill_wal_stalled"); stalled != 1 {
		rig.Errorf("tidemill_wal_stalled is %v", stalled)
	}
	acked := rig.load.Acked()
	rig.load.CheckReadable("during the outage")
	rig.watchMemory(end, produceBudget*3/4)
	if n := rig.load.Acked() - acked; n > 0 {
		rig.Errorf("%d records were acknowledged while nothing could be stored", n)
	}
	back()
	rig.recovered()
}

// storageImpaired: storage works, but badly, for 30 s: service goes on meanwhile.
func storageImpaired(t *testing.T, bucket string, faulty *faultyS3, impair, mend func()) {
	rig := startRig(t, bucket, "", outagetest.Options{})
	before := faulty.faulted.Load()
	impair()
	end := time.After(outage)
	rig.load.AwaitProgress("while storage is impaired")
	rig.load.Flood(floodRecords, floodSize)
	rig.watchMemory(end, 0)
	rig.load.AwaitProgress("at the end of the impairment")
	rig.load.CheckReadable("while storage is impaired")
	if n := faulty.faulted.Load() - before; n < 20 {
		rig.Errorf("only %d requests were impaired", n)
	}
	mend()
	rig.recovered()
}

// etcdAway: no produce, fetch, heartbeat or commit needs etcd. What does fails in bounded time, and works afterwards.
func etcdAway(t *testing.T, bucket, cluster string, away, back func()) {
	rig := startRig(t, bucket, cluster, outagetest.Options{})
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	admin := kadm.NewClient(rig.broker.Client())
	away()
	end := time.After(outage)
	rig.load.AwaitProgress("while etcd is away")
	begun := time.Now()
	if _, err := admin.CreateTopic(ctx, 1, 1, nil, "impossible"); err == nil {
		rig.Error("a topic was created without etcd")
	}
	if took := time.Since(begun); took > outage*2/3 {
		rig.Errorf("a topic's creation failed after %v", took)
	}
	rig.see.AwaitReady(http.StatusOK, "etcd")
	rig.load.CheckReadable("while etcd is away")
	rig.watchMemory(end, 0)
	rig.load.AwaitProgress("at the end of the outage")
	back()
	harness.Eventually(t, time.Minute, "a topic is created", func() error {
		_, err := admin.CreateTopic(ctx, 1, 1, nil, "possible")
		if errors.Is(err, kerr.TopicAlreadyExists) { // by an earlier attempt
			return nil
		}
		return err
	})
	rig.recovered()
}

// everythingAway: PUTs land and nobody learns of it, then etcd goes too, then the broker is killed. It cannot start
// without them and says so; when they are back it starts with everything that it acknowledged.
func everythingAway(t *testing.T, minio *miniotest.Server, faulty *faultyS3, etcd *etcdtest.Server) {
	rig := startRig(t, s3URL(faulty.Endpoint, minio.Bucket, "everything"), etcd.URL(), outagetest.Options{Restarts: true})
	faulty.set(neverTells)
	end := time.After(outage)
	rig.see.AwaitReady(http.StatusServiceUnavailable, "stalled")
	etcd.Pause()
	rig.load.CheckReadable("without storage and etcd")
	rig.broker.Kill9()
	faulty.set(slowDown)
	start := rig.broker.Begin()
	select {
	case <-start.Exited():
		if start.ExitCode() == 0 {
			rig.Error("a start that failed ended with status 0")
		}
	case <-end:
		// It waits: that is as good.
		rig.broker.Kill9()
	}
	etcd.Resume()
	start = rig.broker.Begin()
	select {
	case <-start.Exited():
		if start.ExitCode() == 0 {
			rig.Error("a start without storage ended with status 0")
		}
	case <-time.After(outage):
		rig.broker.Kill9()
	}
	faulty.set(nil)
	rig.broker.Start()
	rig.recovered()
}

// watchMemory looks at the broker until end comes. Produces must have held at least floor bytes at some time.
func (r *outageRig) watchMemory(end <-chan time.Time, floor float64) {
	r.Helper()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	most, held := 0.0, 0.0
	for {
		most = max(most, r.see.Metric("process_resident_memory_bytes"))
		held = max(held, r.see.Metric(`tidemill_server_budget_used_bytes{kind="produce"}`))
		select {
		case <-tick.C:
			continue
		case <-end:
		}
		break
	}
	if held > produceBudget || held < floor {
		r.Errorf("at most %.0f bytes of produces in memory, want %.0f to %d: the flood fills the budget and waits", held, floor, produceBudget)
	}
	if most > residentMax {
		r.Errorf("the process had %.0f bytes in memory, want at most %d", most, residentMax)
	}
	r.Logf("at most %.0f MiB resident and %.1f MiB of produces", most/(1<<20), held/(1<<20))
}

// recovered checks that all is as before, by itself.
func (r *outageRig) recovered() {
	r.Helper()
	r.load.AwaitProgress("after the outage")
	r.see.AwaitReady(http.StatusOK, "ok\n")
	if stalled := r.see.Metric("tidemill_wal_stalled"); stalled != 0 {
		r.Errorf("tidemill_wal_stalled is %v after the outage", stalled)
	}
	r.load.Finish()
	if r.broker.Exited() {
		r.Error("the broker's process has ended")
	}
}
