package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidemill/tidemill/internal/proctest"
	"github.com/tidemill/tidemill/verify"
)

// verifyOn runs the verb with a small load.
func verifyOn(t *testing.T, address string, args ...string) result {
	t.Helper()
	return command(t, "", append([]string{
		"verify", "--bootstrap", address, "--partitions", "3", "--producers", "2", "--rate", "500",
	}, args...)...)
}

func TestVerifyABroker(t *testing.T) {
	address := startBroker(t)
	file := filepath.Join(t.TempDir(), "history.jsonl")
	got := verifyOn(t, address, "--records", "1500", "--history", file)
	if got.code != exitOK || got.stderr != "" || !strings.Contains(got.stdout, "1500 records: 1500 acknowledged, 0 failed, 0 unknown") ||
		!strings.HasSuffix(got.stdout, "good: nothing contradicts what the clients were told\n") {
		t.Fatalf("got %+v", got)
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(address))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	topics, err := kadm.NewClient(client).ListTopics(t.Context())
	if err != nil || len(topics) != 0 {
		t.Errorf("topics %v, %v are left behind", topics.Names(), err)
	}

	again := command(t, "", "verify", "--check", file)
	if again != got {
		t.Errorf("the history is judged %+v, want as before", again)
	}
	h, err := readHistory(file)
	if err != nil {
		t.Fatal(err)
	}
	c := verify.Check(h).Counts
	if c.InLog != 1500 || c.Read != 3000 || c.Unread != 0 || c.ReadByGroups == 0 || c.Commits == 0 || len(h.EndOffsets) == 0 || len(h.Committed) == 0 {
		t.Errorf("the history holds %+v, %d end offsets and %d committed ones", c, len(h.EndOffsets), len(h.Committed))
	}
	lose(h)
	if err := writeHistory(file, h); err != nil {
		t.Fatal(err)
	}
	bad := command(t, "", "verify", "--check", file)
	if bad.code != exitFailure || !strings.Contains(bad.stdout, "\nLOST WRITE: 1. The shortest:\n") || bad.stderr != "broker: verify found anomalies: 2\n" {
		t.Errorf("got %+v", bad)
	}
}

// lose takes a record out of the final log. Those who read it saw a phantom.
func lose(h *verify.History) {
	l := &h.Logs[1]
	l.Records = append(l.Records[:20:20], l.Records[21:]...)
}

func TestVerifyKeepsANamedTopic(t *testing.T) {
	address := startBroker(t)
	args := []string{"--topic", "kept", "--for", "300ms", "--consumers", "0", "--members", "0"}
	if got := verifyOn(t, address, args...); got.code != exitOK || !strings.Contains(got.stdout, "kept, partitions 3") {
		t.Fatalf("got %+v", got)
	}
	if got := command(t, "", "topic", "list", "--bootstrap", address); got.stdout != "kept\n" {
		t.Errorf("topics: %q", got.stdout)
	}
	if got := verifyOn(t, address, args...); got.code != exitNotRun || !strings.Contains(got.stderr, "create topic kept: TOPIC_ALREADY_EXISTS") {
		t.Errorf("got %+v", got)
	}
}

// TestVerifyEndsWithASignal: what was recorded until then is judged.
func TestVerifyEndsWithASignal(t *testing.T) {
	address := startBroker(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	client, err := kgo.NewClient(kgo.SeedBrokers(address), kgo.MetadataMinAge(50*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	go func() { // once something is stored
		for admin := kadm.NewClient(client); ctx.Err() == nil; {
			ends, err := admin.ListEndOffsets(ctx)
			if err != nil {
				continue
			}
			ends.Each(func(o kadm.ListedOffset) {
				if o.Offset > 0 && !strings.HasPrefix(o.Topic, "__") {
					cancel()
				}
			})
		}
	}()
	var stdout, stderr bytes.Buffer
	code := run(ctx, &environment{
		args:   []string{"verify", "--bootstrap", address, "--partitions", "2", "--for", "1h"},
		stdout: &stdout, stderr: &stderr, workDir: t.TempDir(),
	})
	if code != exitOK || !strings.Contains(stdout.String(), "good:") {
		t.Errorf("got %d\n%s%s", code, stdout.String(), stderr.String())
	}
}

func TestVerifyThatCannotRun(t *testing.T) {
	closed := proctest.FreeAddress(t)
	noHistory := filepath.Join(t.TempDir(), "x")
	if err := os.WriteFile(noHistory, []byte("{}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		args []string
		want string
	}{
		{[]string{"--bootstrap", closed}, "broker: verify could not run: no broker answers at " + closed},
		{[]string{"--check", "none"}, "no such file"},
		{[]string{"--check", noHistory}, "broker: verify could not run: read history, line 1"},
		{[]string{"--partitions", "0"}, "--partitions is 1 to 10000"},
		{[]string{"--rate", "0"}, "--producers, --rate and --for are above 0"},
		{[]string{"--chek", "x"}, `did you mean "check"?`},
	} {
		got := command(t, "", append([]string{"verify"}, tc.args...)...)
		if got.code != exitNotRun || !strings.Contains(got.stderr, tc.want) || got.stdout != "" {
			t.Errorf("%v: got %+v, want %q", tc.args, got, tc.want)
		}
	}
	if got := command(t, "", "verify", "--help"); got.code != exitOK || !strings.Contains(got.stdout, "Exit status") {
		t.Errorf("got %+v", got)
	}
}

// TestVerifyUnjudged: a history without the final log is neither good nor bad.
func TestVerifyUnjudged(t *testing.T) {
	file := filepath.Join(t.TempDir(), "history.jsonl")
	h := &verify.History{Topic: "t", Partitions: 1, Sends: []verify.Send{{}}}
	if err := writeHistory(file, h); err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	code := run(t.Context(), &environment{args: []string{"verify", "--check", file}, stdout: io.Discard, stderr: &stderr, workDir: t.TempDir()})
	if code != exitNotRun || stderr.String() != "broker: verify could not run: partition 0: its final log was not read\n" {
		t.Errorf("got %d, %q", code, stderr.String())
	}
}
