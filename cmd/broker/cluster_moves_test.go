package main

import (
	"encoding/json"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tidemill/tidemill/internal/etcdtest"
	"github.com/tidemill/tidemill/internal/proctest"
	"github.com/tidemill/tidemill/metadata"
	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/wal"
)

// surveyed is what info says in JSON.
func surveyed(t *testing.T, url string) clusterSurvey {
	t.Helper()
	got := command(t, "", "cluster", "info", "--json", "--cluster", url)
	var s clusterSurvey
	if err := json.Unmarshal([]byte(got.stdout), &s); got.code != exitOK || err != nil {
		t.Fatalf("info: %+v, %v", got, err)
	}
	return s
}

// owned is how many partitions each broker owns.
func (s *clusterSurvey) owned() map[int32]int {
	out := map[int32]int{}
	for _, b := range s.Brokers {
		out[b.ID] = b.Partitions
	}
	return out
}

// TestClusterVerbs: an operator moves partitions, empties a broker, lets it have some again and gives up pins.
func TestClusterVerbs(t *testing.T) {
	etcd := etcdtest.Start(t)
	bucket := "file://" + filepath.Join(t.TempDir(), "bucket")
	if got := command(t, "", "cluster", "init", "--cluster", etcd.URL(), "--bucket", bucket); got.code != exitOK {
		t.Fatalf("init: %+v", got)
	}
	var address string
	for id := 1; id <= 2; id++ {
		address = runCluster(t, "--listen", proctest.FreeAddress(t), "--http", "127.0.0.1:0", "--log-level", "error", "--cluster", etcd.URL(),
			"--broker-id", strconv.Itoa(id), "--rack", "zone-"+strconv.Itoa(id))
	}
	if got := command(t, "", "topic", "create", "t", "--partitions", "4", "--bootstrap", address); got.code != exitOK {
		t.Fatalf("create: %+v", got)
	}
	for _, s := range []struct {
		name   string
		args   []string
		code   int
		stdout []string
		stderr string
	}{
		{name: "info", args: []string{"info"}, stdout: []string{"BROKER", "zone-2", "serving", "* controller"}},
		{name: "move", args: []string{"move", "t/0", "t/1", "t/2", "t/3", "--to", "2"}, stdout: []string{"4 partitions pinned to broker 2\n", "4 partitions moved to broker 2\n"}},
		{name: "move again", args: []string{"move", "t/1", "--to=2"}, stdout: []string{"1 partition moved to broker 2\n"}},
		{name: "pins show", args: []string{"info"}, stdout: []string{"4 partitions pinned: balance leaves them alone"}},
		{name: "pins hold", args: []string{"balance", "--dry-run"}, stdout: []string{"nothing is to move\n"}},
		{name: "without pins", args: []string{"balance", "--dry-run", "--unpin"}, stdout: []string{"PARTITION", "balance\n"}},
		{name: "drain", args: []string{"drain", "2"}, stdout: []string{"broker 2 is marked", "broker 2 owns nothing\n"}},
		{name: "drained", args: []string{"info"}, stdout: []string{"drained by an operator"}},
		{name: "move to a drained broker", args: []string{"move", "t/0", "--to", "2"}, code: exitFailure, stderr: "broker cluster drain 2 --undo takes the mark back"},
		{name: "drain the last", args: []string{"drain", "1"}, code: exitFailure, stderr: "no other broker could take the partitions of broker 1: start one, or take back a drain mark"},
		{name: "undo", args: []string{"drain", "2", "--undo"}, stdout: []string{"broker 2 may own partitions again"}},
		{name: "undo again", args: []string{"drain", "2", "--undo"}, stdout: []string{"broker 2 has no drain mark"}},
		{name: "pins hold where they are", args: []string{"balance"}, stdout: []string{"nothing is to move\n"}},
		{name: "unpin", args: []string{"balance", "--unpin"}, stdout: []string{"4 partitions unpinned\n"}},
		{name: "unknown topic", args: []string{"move", "tt/0", "--to", "2"}, code: exitFailure, stderr: `there is no topic "tt"; did you mean "t"?`},
		{name: "unknown partition", args: []string{"move", "t/4", "--to", "2"}, code: exitFailure, stderr: "topic t has partitions 0 to 3, not 4"},
		{name: "no partition", args: []string{"move", "t", "--to", "2"}, code: exitUsage, stderr: `"t" is no partition: want TOPIC/PARTITION, like orders/0`},
		{name: "twice", args: []string{"move", "t/1", "t/1", "--to", "2"}, code: exitUsage, stderr: "t/1 is named twice"},
		{name: "unknown broker", args: []string{"move", "t/0", "--to", "9"}, code: exitFailure, stderr: "broker 9 is not registered; registered are 1, 2"},
		{name: "no broker", args: []string{"move", "t/0", "--to", "x"}, code: exitUsage, stderr: `"x" is no broker's id`},
		{name: "no target", args: []string{"move", "t/0"}, code: exitUsage, stderr: "say broker cluster move TOPIC/PARTITION... --to ID"},
		{name: "no value", args: []string{"move", "t/0", "--to"}, code: exitUsage, stderr: "flag --to needs a value"},
		{name: "never was", args: []string{"drain", "9"}, code: exitFailure, stderr: "there never was a broker 9; registered are 1, 2"},
		{name: "dead, but registered", args: []string{"dead", "2"}, code: exitFailure, stderr: "wait for its lease to end, stop it, or say --force"},
		{name: "dead what", args: []string{"dead"}, code: exitUsage, stderr: "say broker cluster dead ID"},
		{name: "drain what", args: []string{"drain"}, code: exitUsage, stderr: "say broker cluster drain ID"},
		{name: "help", args: []string{"move", "--help"}, stdout: []string{"No data is copied."}},
	} {
		args := append([]string{"cluster"}, s.args...)
		if s.code == exitOK || s.code == exitFailure || s.name == "twice" || s.name == "no partition" {
			args = append(args, "--cluster", etcd.URL())
		}
		if s.name == "no value" {
			args = append([]string{"cluster", "move", "t/0", "--cluster", etcd.URL()}, "--to")
		}
		got := command(t, "", args...)
		for _, want := range s.stdout {
			if !strings.Contains(got.stdout, want) {
				t.Errorf("%s: no %q in %+v", s.name, want, got)
			}
		}
		if got.code != s.code || !strings.Contains(got.stderr, s.stderr) || (s.code == exitOK) != (got.stderr == "") {
			t.Errorf("%s: got %+v", s.name, got)
		}
		if s.name == "drain" {
			if now := surveyed(t, etcd.URL()); now.owned()[2] != 0 || now.owned()[1] != 4 {
				t.Errorf("drained: %+v", now)
			}
		}
	}
	awaitEven(t, etcd.URL(), "")
	before := surveyed(t, etcd.URL())
	ended := before.life(2)
	if got := command(t, "", "cluster", "dead", "2", "--force", "--cluster", etcd.URL()); got.code != exitOK || !strings.Contains(got.stdout, "ended the log of life 2/") {
		t.Fatalf("dead: %+v", got)
	}
	awaitEven(t, etcd.URL(), ended) // broker 2 found out, and began anew
	if got := command(t, "", "cluster", "dead", "7", "--cluster", etcd.URL()); got.code != exitOK || !strings.Contains(got.stdout, "broker 7 has no log that is open") {
		t.Errorf("dead, and never alive: %+v", got)
	}
}

// life is that of a broker.
func (s *clusterSurvey) life(id int32) string {
	for _, b := range s.Brokers {
		if b.ID == id {
			return b.Life
		}
	}
	return ""
}

// awaitEven waits until balance has given both brokers as much, and broker 2 has another life than one that ended.
func awaitEven(t *testing.T, url, ended string) {
	t.Helper()
	deadline := time.After(time.Minute)
	for tick := time.Tick(200 * time.Millisecond); ; {
		s := surveyed(t, url)
		if o := s.owned(); s.life(2) != ended && o[1] == 2 && o[2] == 2 && s.Pinned == 0 && len(s.Moves) == 0 {
			return
		}
		select {
		case <-tick:
		case <-deadline:
			t.Fatalf("never even: %+v", s)
		}
	}
}

// TestClusterWithoutBrokers: when no broker is left, info says whose partitions nobody serves, and what is marked is kept for later.
func TestClusterWithoutBrokers(t *testing.T) {
	etcd := etcdtest.Start(t)
	meta, err := metadata.Open(t.Context(), metadata.Config{Endpoints: []string{etcd.Address}, Name: "test"})
	if err != nil {
		t.Fatal(err)
	}
	defer meta.Close()
	if got := command(t, "", "cluster", "info", "--cluster", etcd.URL()); got.code != exitFailure || !strings.Contains(got.stderr, `etcd holds no cluster named "test"`) {
		t.Errorf("no cluster: %+v", got)
	}
	if _, err := meta.EnsureCluster(t.Context()); err != nil {
		t.Fatal(err)
	}
	life, err := meta.OpenLife(t.Context(), 3)
	if err != nil {
		t.Fatal(err)
	}
	made := meta.CreateTopics(t.Context(), []metadata.TopicSpec{{Name: "t", Partitions: 30, ReplicationFactor: 1}}, func(int, int32) wal.Life { return life })
	if made[0].Err != nil {
		t.Fatal(made[0].Err)
	}
	if err := meta.SetDrain(t.Context(), 3, true); err != nil {
		t.Fatal(err)
	}
	got := command(t, "", "cluster", "info", "--cluster", etcd.URL())
	for _, want := range []string{
		"no broker is the controller", "broker 3 is not registered, and has a drain mark", life.String() + "  OPEN  30\n",
		"30 partitions without a live owner: t/0 t/1 ", "t/19 and 10 more (--json has all)",
	} {
		if got.code != exitOK || !strings.Contains(got.stdout, want) {
			t.Errorf("no %q in %+v", want, got)
		}
	}
	s := surveyed(t, etcd.URL())
	if s.Controller != nil || len(s.Leaderless) != 30 || len(s.Gone) != 1 || s.Gone[0].Log != "OPEN" || len(s.DrainMarks) != 1 {
		t.Errorf("%+v", s)
	}
	for _, verb := range [][]string{{"move", "t/0", "--to", "3"}, {"drain", "3"}} {
		got := command(t, "", append(append([]string{"cluster"}, verb...), "--cluster", etcd.URL())...)
		if got.code != exitFailure {
			t.Errorf("%v: %+v", verb, got)
		}
	}
}

// TestClusterLoads: what brokers tell of their loads is shown, and planned by.
func TestClusterLoads(t *testing.T) {
	etcd := etcdtest.Start(t)
	meta, err := metadata.Open(t.Context(), metadata.Config{Endpoints: []string{etcd.Address}, Name: "test"})
	if err != nil {
		t.Fatal(err)
	}
	defer meta.Close()
	if _, err := meta.EnsureCluster(t.Context()); err != nil {
		t.Fatal(err)
	}
	var lives []wal.Life
	var brokers []*metadata.Registration
	for id := range int32(2) {
		life, err := meta.OpenLife(t.Context(), id+1)
		if err != nil {
			t.Fatal(err)
		}
		r, err := meta.Register(t.Context(), life, metadata.BrokerInfo{Host: "h", Port: id})
		if err != nil {
			t.Fatal(err)
		}
		lives, brokers = append(lives, life), append(brokers, r)
	}
	specs := []metadata.TopicSpec{{Name: "t", Partitions: 4, ReplicationFactor: 1}}
	made := meta.CreateTopics(t.Context(), specs, func(_ int, p int32) wal.Life { return lives[p%2] })
	if made[0].Err != nil {
		t.Fatal(made[0].Err)
	}
	run := func(verb ...string) string {
		t.Helper()
		got := command(t, "", append(append([]string{"cluster"}, verb...), "--cluster", etcd.URL())...)
		if got.code != exitOK {
			t.Fatalf("%v: %+v", verb, got)
		}
		return got.stdout
	}
	if got := run("balance", "--dry-run"); !strings.Contains(got, "nothing is to move") {
		t.Errorf("before loads are known: %s", got)
	}
	loads := metadata.BrokerLoads{Measured: meta.Image().Revision, Total: metadata.Load{BytesPerSecond: 16e6, RequestsPerSecond: 320}}
	for _, p := range []int32{0, 2} {
		id := protocol.PartitionID{Topic: made[0].Topic.ID, Partition: p}
		loads.Partitions = append(loads.Partitions, metadata.PartitionLoad{ID: id, Load: metadata.Load{BytesPerSecond: 8e6, RequestsPerSecond: 160}})
	}
	if err := brokers[0].PublishLoads(t.Context(), loads); err != nil {
		t.Fatal(err)
	}
	if got := run("info"); !strings.Contains(got, "BYTES/S   REQUESTS/S\n") || !strings.Contains(got, "serving  2           16000000  320\n") || !strings.Contains(got, "serving  2           unknown   unknown\n") {
		t.Errorf("info: %s", got)
	}
	if b := surveyed(t, etcd.URL()).Brokers; *b[0].BytesPerSecond != 16e6 || *b[0].RequestsPerSecond != 320 || b[1].BytesPerSecond != nil {
		t.Errorf("info in JSON: %+v", b)
	}
	if got := run("balance", "--dry-run"); !strings.Contains(got, "nothing is to move") {
		t.Errorf("a broker has not told its loads yet: %s", got)
	}
	if err := brokers[1].PublishLoads(t.Context(), metadata.BrokerLoads{Measured: loads.Measured}); err != nil {
		t.Fatal(err)
	}
	if got := run("balance", "--dry-run"); !strings.Contains(got, "t/0 ") || !strings.Contains(got, lives[1].String()+"  balance") {
		t.Errorf("balance: %s", got)
	}
}
