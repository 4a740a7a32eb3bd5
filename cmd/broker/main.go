// Command broker is Tidemill: the broker itself, and enough verbs to look after it from a container without a shell.
//
// Every verb is one file. Verbs talk to the operating system only through the environment they are given, so tests run them
// in process.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/tidemill/tidemill/broker"
	"github.com/tidemill/tidemill/config"
	"github.com/tidemill/tidemill/kafkaconfig"
)

// Exit codes.
const (
	exitOK      = 0
	exitFailure = 1
	exitUsage   = 2
	// exitNotRun is of fsck, whose failure is a bucket with problems.
	exitNotRun = 2
)

// environment is what a verb knows of the world.
type environment struct {
	args           []string // after the verb
	env            []string
	stdin          io.Reader
	stdout, stderr io.Writer
	workDir        string
	serve          func(ctx context.Context, c *config.Config, version string, out io.Writer, log *slog.Logger) error
}

// A verb is one thing that the command does.
type verb struct {
	name    string
	summary string
	run     func(ctx context.Context, e *environment) error
}

var verbs = []verb{
	{"serve", "run the broker (what happens without a verb)", serve},
	{"topic", "create, list, describe or delete topics", topic},
	{"produce", "write lines of standard input to a topic", produce},
	{"consume", "print the records of a topic", consume},
	{"verify", "put a cluster under load and judge every answer", verifyVerb},
	{"fsck", "check everything in the bucket against the cluster's metadata, read-only", fsck},
	{"inspect", "print a stored slot, segment, manifest, topic or offset", inspect},
	{"cluster", "set up a cluster, see who owns what, drain brokers, move partitions", clusterVerb},
	{"config", "explain or validate the broker's settings", configVerb},
	{"version", "print the version", version},
}

// errUsage is wrapped by errors about the command line.
var errUsage = errors.New("wrong usage")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	workDir, err := os.Getwd()
	if err != nil {
		fmt.Fprintf(os.Stderr, "broker: current folder: %v\n", err)
		os.Exit(exitFailure)
	}
	os.Exit(run(ctx, &environment{
		args: os.Args[1:], env: os.Environ(), stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr,
		workDir: workDir, serve: broker.Run,
	}))
}

// run finds the verb, runs it and turns its error into lines on stderr and an exit code.
func run(ctx context.Context, e *environment) int {
	err := dispatch(ctx, e)
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errUsage), errors.Is(err, config.ErrUsage):
		message := strings.TrimPrefix(strings.TrimPrefix(err.Error(), errUsage.Error()+": "), config.ErrUsage.Error()+": ")
		_, _ = fmt.Fprintf(e.stderr, "broker: %s\n  try: broker help\n", message)
		return exitUsage
	case errors.Is(err, errNotRun):
		_, _ = fmt.Fprintf(e.stderr, "broker: %v\n", err)
		return exitNotRun
	default:
		_, _ = fmt.Fprintf(e.stderr, "broker: %v\n", err)
		return exitFailure
	}
}

func dispatch(ctx context.Context, e *environment) error {
	if len(e.args) == 0 || strings.HasPrefix(e.args[0], "-") && !wantsHelp(e.args[0]) {
		return serve(ctx, e)
	}
	name := e.args[0]
	e.args = e.args[1:]
	if wantsHelp(name) {
		return help(e.stdout)
	}
	i := slices.IndexFunc(verbs, func(v verb) bool { return v.name == name })
	if i < 0 {
		return unknown("verb", name, verbNames())
	}
	if len(e.args) > 0 && wantsHelp(e.args[0]) && name == "serve" {
		return help(e.stdout)
	}
	return verbs[i].run(ctx, e)
}

func wantsHelp(arg string) bool {
	return slices.Contains([]string{"help", "-h", "-help", "--help"}, arg)
}

func verbNames() []string {
	names := make([]string, len(verbs))
	for i, v := range verbs {
		names[i] = v.name
	}
	return names
}

// unknown refuses a word and offers the nearest one that exists.
func unknown(what, got string, known []string) error {
	message := fmt.Sprintf("unknown %s %q", what, got)
	if near := kafkaconfig.Nearest(got, known); near != "" {
		return fmt.Errorf("%w: %s; did you mean %q?", errUsage, message, near)
	}
	return fmt.Errorf("%w: %s; there are %s", errUsage, message, strings.Join(known, ", "))
}
