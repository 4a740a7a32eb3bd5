package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/tidemill/tidemill/config"
)

// runBroker is the broker itself. It is not connected yet.
func runBroker(context.Context, *config.Config, io.Writer) error {
	return errors.New("this build has no broker in it")
}

// serve runs the broker until ctx ends.
func serve(ctx context.Context, e *environment) error {
	c, err := load(e)
	if err != nil {
		return err
	}
	return e.serve(ctx, c, e.stdout)
}

// load reads the settings from the verb's flags, the environment and files.
func load(e *environment) (*config.Config, error) {
	c, err := config.Load(config.Input{Args: e.args, Env: e.env, WorkDir: e.workDir, ReadFile: os.ReadFile})
	if err != nil && !errors.Is(err, config.ErrUsage) {
		return nil, fmt.Errorf("settings that cannot be used:\n%w", err)
	}
	return c, err
}
