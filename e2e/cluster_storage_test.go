package e2e

import (
	"net/http"
	"testing"
	"time"

	"github.com/tidemill/tidemill/e2e/harness"
)

const (
	storageImpairedFor = 30 * time.Second
	storageOut         = time.Minute
	usualLatency       = 20 * time.Millisecond
	// residentSlack is the collector's head room over --memory, and the program itself.
	residentSlack = harness.ClusterMemory + 64<<20
)

// A storageFault is one way in which the object store is not as usual.
type storageFault struct {
	name          string
	usual, faulty s3Fault
	lasts         time.Duration
	// served: acknowledgements go on meanwhile.
	served bool
}

var storageFaults = []storageFault{
	{"503 SlowDown", nil, slowDown, storageImpairedFor, false},
	{"ten times the latency", slow(usualLatency), slow(10 * usualLatency), storageImpairedFor, true},
	{"writes that land and are not answered", nil, landsAndHangs, storageImpairedFor, false},
	{"a full outage", nil, resets, storageOut, false},
}

// TestClusterStorage impairs the object store of all brokers at once and takes it away. Nobody crashes or is taken for dead, memory is
// bounded, and service goes on by itself.
func TestClusterStorage(t *testing.T) {
	for _, s := range storageFaults {
		t.Run(s.name, func(t *testing.T) {
			var faulty *faultyS3
			r := startClusterRun(t, harness.ClusterOptions{Storage: func(endpoint string) string {
				faulty = startFaultyS3(t, endpoint)
				faulty.set(s.usual)
				return faulty.Endpoint
			}})
			r.fault()
			before := r.load.Counts().Acknowledged
			faulty.set(s.faulty)
			r.during(s.lasts, nil)
			during := r.load.Counts().Acknowledged - before
			if s.served && during < clusterRate {
				t.Errorf("only %d records were acknowledged meanwhile", during)
			}
			healed := r.load.Elapsed()
			faulty.set(s.usual)
			r.awaitProgress("after " + s.name)
			t.Logf("figure: %s for %v: %d records acknowledged meanwhile; all partitions served again within %v",
				s.name, s.lasts, during, (r.load.Elapsed() - healed).Round(time.Millisecond))
			r.finish("storage: " + s.name + " for " + s.lasts.String())
			r.survivors(3)
			r.checkResident()
			for _, n := range r.cluster.Nodes {
				if n.Restarted() {
					t.Errorf("%s began a new life, though only storage was impaired", n.Name)
				}
			}
		})
	}
}

// checkResident holds the most memory that each broker has had against what it was given.
func (r *clusterRun) checkResident() {
	r.Helper()
	for _, n := range r.cluster.Running() {
		peak := n.PeakResident()
		if peak > harness.ClusterMemory+residentSlack {
			r.Errorf("%s had %d MiB in memory, --memory is %d MiB", n.Name, peak>>20, harness.ClusterMemory>>20)
		}
		r.Logf("%s: at most %d MiB resident", n.Name, peak>>20)
	}
}

// landsAndHangs lets a PUT do its work and says nothing until the client gives up.
func landsAndHangs(w http.ResponseWriter, r *http.Request, pass http.Handler) {
	if r.Method != http.MethodPut {
		pass.ServeHTTP(w, r)
		return
	}
	pass.ServeHTTP(discarded{http.Header{}}, r)
	<-r.Context().Done()
}

// discarded is an answer that nobody gets.
type discarded struct{ header http.Header }

func (d discarded) Header() http.Header         { return d.header }
func (d discarded) Write(p []byte) (int, error) { return len(p), nil }
func (d discarded) WriteHeader(int)             {}

// resets ends the connection without an answer.
func resets(http.ResponseWriter, *http.Request, http.Handler) { panic(http.ErrAbortHandler) }
