package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tidemill/tidemill/broker"
	"github.com/tidemill/tidemill/config"
	"github.com/tidemill/tidemill/internal/proctest"
)

type result struct {
	code           int
	stdout, stderr string
}

// command runs the command in process, in an empty folder.
func command(t *testing.T, stdin string, args ...string) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code := run(t.Context(), &environment{
		args: args, stdin: strings.NewReader(stdin), stdout: &stdout, stderr: &stderr, workDir: t.TempDir(),
		serve: func(context.Context, *config.Config, string, io.Writer, *slog.Logger) error { return nil },
	})
	return result{code, stdout.String(), stderr.String()}
}

func TestMistakesOfUsage(t *testing.T) {
	tests := []struct {
		name string
		args []string
		want string
	}{
		{"verb", []string{"topc"}, `unknown verb "topc"; did you mean "topic"?`},
		{"unlike any verb", []string{"xyzzyx"}, `unknown verb "xyzzyx"; there are serve, topic, produce, consume, verify, fsck, inspect, cluster, config, version`},
		{"broker flag", []string{"--lisen", "x"}, "unknown flag --lisen; did you mean --listen?"},
		{"flag without value", []string{"serve", "--listen"}, "flag --listen needs a value"},
		{"client flag", []string{"topic", "create", "--topc", "x"}, `unknown flag of broker topic create "topc"; did you mean "topic"?`},
		{"missing topic", []string{"consume"}, "broker consume needs --topic"},
		{"extra argument", []string{"produce", "--topic", "a", "b"}, `broker produce: unexpected argument "b"`},
		{"topic alone", []string{"topic"}, "say broker topic and one of create, list, describe, delete"},
		{"topic verb", []string{"topic", "creat"}, `unknown topic verb "creat"; did you mean "create"?`},
		{"cluster alone", []string{"cluster"}, "say broker cluster and one of init, info, drain, move, dead, balance"},
		{"cluster verb", []string{"cluster", "inti"}, `unknown cluster verb "inti"; did you mean "init"?`},
		{"init of nothing", []string{"cluster", "init"}, "broker cluster init needs --cluster etcd://host:port/name; a broker without one needs no init"},
		{"init flag", []string{"cluster", "init", "--bukcet", "x"}, "unknown flag --bukcet; did you mean --bucket?"},
		{"config alone", []string{"config"}, "say broker config explain or broker config validate"},
		{"config verb", []string{"config", "explian"}, `unknown config verb "explian"; did you mean "explain"?`},
		{"version with arguments", []string{"version", "x"}, "version takes no arguments"},
		{"bad pair", []string{"topic", "create", "a", "--config", "x"}, `invalid value "x" for flag -config: "x" is not name=value`},
		{"large number", []string{"topic", "create", "a", "--replication-factor", "70000"}, "--partitions or --replication-factor is too large"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := command(t, "", tt.args...)
			want := "broker: " + tt.want + "\n  try: broker help\n"
			if got.code != exitUsage || got.stderr != want || got.stdout != "" {
				t.Errorf("got %+v, want code 2 and %q", got, want)
			}
		})
	}
}

func TestHelpVersionAndConfig(t *testing.T) {
	tests := []struct {
		args []string
		want string
	}{
		{[]string{"help"}, "--kafka-properties"},
		{[]string{"--help"}, "Verbs:"},
		{[]string{"serve", "--help"}, "Verbs:"},
		{[]string{"consume", "--help"}, "-from-beginning"},
		{[]string{"version"}, "tidemill broker "},
		{[]string{"config", "validate"}, "all settings are valid\n"},
		{[]string{"config", "explain", "--rack", "zone-7"}, "zone-7  "},
	}
	for _, tt := range tests {
		if got := command(t, "", tt.args...); got.code != exitOK || !strings.Contains(got.stdout, tt.want) || got.stderr != "" {
			t.Errorf("%v: got %+v, want %q", tt.args, got, tt.want)
		}
	}
}

func TestBadSettingsAreFailures(t *testing.T) {
	got := command(t, "", "--http", "nowhere")
	want := "broker: settings that cannot be used:\nhttp (set by flag --http): \"nowhere\" is not host:port\n" +
		"  write host:port, for example 127.0.0.1:9644\n"
	if got.code != exitFailure || got.stderr != want {
		t.Errorf("got %+v, want %q", got, want)
	}
}

func TestServeWithoutAVerb(t *testing.T) {
	for name, fails := range map[string]error{"clean": nil, "failed": errors.New("port in use")} {
		t.Run(name, func(t *testing.T) {
			var got *config.Config
			var stderr bytes.Buffer
			code := run(t.Context(), &environment{
				args: []string{"--rack", "r"}, stdout: io.Discard, stderr: &stderr, workDir: "/w",
				serve: func(_ context.Context, c *config.Config, _ string, _ io.Writer, log *slog.Logger) error {
					got = c
					log.Debug("not shown")
					return fails
				},
			})
			if got == nil || got.Rack != "r" || got.DataDir != "/w/broker-data" {
				t.Fatalf("served with %+v", got)
			}
			want, text := exitOK, ""
			if fails != nil {
				want, text = exitFailure, "broker: port in use\n"
			}
			if code != want || stderr.String() != text {
				t.Errorf("exit code %d and %q, want %d and %q", code, stderr.String(), want, text)
			}
		})
	}
}

func TestNobodyAnswers(t *testing.T) {
	address := proctest.FreeAddress(t)
	got := command(t, "", "topic", "list", "--bootstrap", address)
	if got.code != exitFailure || !strings.HasPrefix(got.stderr, "broker: no broker answers at "+address+" (flag --bootstrap)") ||
		!strings.Contains(got.stderr, "start one with: broker serve") {
		t.Errorf("got %+v", got)
	}
}

// startBroker runs a real broker until the test ends and returns its address.
func startBroker(t *testing.T) string {
	t.Helper()
	address := proctest.FreeAddress(t)
	dir, err := os.MkdirTemp("", "tm") //nolint:usetesting // short: a unix socket lies in it
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	banner := make(chan string, 1)
	exited := make(chan int, 1)
	go func() {
		exited <- run(ctx, &environment{
			args:   []string{"--listen", address, "--http", "127.0.0.1:0", "--data-dir", filepath.Join(dir, "d"), "--log-level", "error"},
			stdout: writeFunc(func(p []byte) { banner <- string(p) }), stderr: io.Discard, workDir: dir, serve: broker.Run,
		})
	}()
	t.Cleanup(func() {
		stop()
		if code := <-exited; code != exitOK {
			t.Errorf("the broker exited with %d", code)
		}
		_ = os.RemoveAll(dir)
	})
	select {
	case <-banner:
	case code := <-exited:
		exited <- code
		t.Fatalf("the broker did not start: exit code %d", code)
	case <-time.After(time.Minute):
		t.Fatal("the broker did not start in a minute")
	}
	return address
}

type writeFunc func(p []byte)

func (f writeFunc) Write(p []byte) (int, error) {
	f(p)
	return len(p), nil
}

func TestVerbsOnABroker(t *testing.T) {
	address := startBroker(t)
	steps := []struct {
		name, stdin string
		args        []string
		code        int
		stdout      string // what it contains
		stderr      string
	}{
		{name: "create", args: []string{"topic", "create", "g", "--partitions", "2", "--config", "retention.ms=+5"}, stdout: "created topic g\n"},
		{name: "create again", args: []string{"topic", "create", "--topic", "g"}, code: 1, stderr: "broker: create topic g: TOPIC_ALREADY_EXISTS"},
		{name: "create if absent", args: []string{"topic", "create", "g", "--if-not-exists"}, stdout: "topic g exists\n"},
		{name: "bad setting", args: []string{"topic", "create", "h", "--config", "nope=1"}, code: 1, stderr: "Unknown topic config name: nope"},
		{name: "list", args: []string{"topic", "list"}, stdout: "g\n"},
		{name: "produce", stdin: "a:1\nb:2\nc:3\n", args: []string{"produce", "--topic", "g", "--key-separator", ":"}},
		{name: "produce without key", stdin: "a\n", args: []string{"produce", "--topic", "g", "--key-separator", ":"}, code: 1, stderr: "line 1 has no \":\" between key and value"},
		{name: "consume", args: []string{"consume", "--topic", "g", "--from-beginning", "--max-messages", "3", "--key-separator", "="}, stdout: "b=2\n"},
		{name: "consume in a group", args: []string{"consume", "--topic", "g", "--from-beginning", "--max-messages", "2", "--group", "gg"}, stdout: "\n"},
		{name: "describe", args: []string{"topic", "describe", "g"}, stdout: "retention.ms"},
		{name: "delete", args: []string{"topic", "delete", "g"}, stdout: "deleted topic g\n"},
		{name: "describe deleted", args: []string{"topic", "describe", "g"}, code: 1, stderr: "UNKNOWN_TOPIC_OR_PARTITION"},
		{name: "delete deleted", args: []string{"topic", "delete", "g"}, code: 1, stderr: "delete topic g: UNKNOWN_TOPIC_OR_PARTITION"},
	}
	for _, s := range steps {
		got := command(t, s.stdin, append(s.args, "--bootstrap", address)...)
		if got.code != s.code || !strings.Contains(got.stdout, s.stdout) || !strings.Contains(got.stderr, s.stderr) {
			t.Errorf("%s: got %+v", s.name, got)
		}
	}
}
