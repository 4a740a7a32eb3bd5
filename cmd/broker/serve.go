package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"runtime/debug"

	"github.com/tidemill/tidemill/config"
)

// serve runs the broker until ctx ends. The banner goes to stdout, the log to stderr.
func serve(ctx context.Context, e *environment) error {
	c, err := load(e)
	if err != nil {
		return err
	}
	if debug.SetMemoryLimit(-1) == math.MaxInt64 { // GOMEMLIMIT wins
		debug.SetMemoryLimit(memoryLimit(c.MemoryBytes))
	}
	return e.serve(ctx, c, versionName(), e.stdout, newLogger(c, e.stderr))
}

const (
	// heapBytes is what a broker needs besides its buffers and caches, the embedded etcd included.
	heapBytes = 64 << 20
	// mappedBytes is memory that the garbage collector does not count: the program itself, mostly.
	mappedBytes = 40 << 20
)

// memoryLimit is where the garbage collector is to work harder, rather than let garbage double the memory that the setting
// grants: buffers and caches take up to four fifths of that at a time. With what is not counted it is the setting, unless that is small.
func memoryLimit(budget int64) int64 { return max(budget-mappedBytes, budget/5*4+heapBytes) }

func newLogger(c *config.Config, out io.Writer) *slog.Logger {
	options := &slog.HandlerOptions{Level: c.LogLevel}
	if c.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(out, options))
	}
	return slog.New(slog.NewTextHandler(out, options))
}

// load reads the settings from the verb's flags, the environment and files.
func load(e *environment) (*config.Config, error) {
	c, err := config.Load(config.Input{Args: e.args, Env: e.env, WorkDir: e.workDir, ReadFile: os.ReadFile})
	if err != nil && !errors.Is(err, config.ErrUsage) {
		return nil, fmt.Errorf("settings that cannot be used:\n%w", err)
	}
	return c, err
}
