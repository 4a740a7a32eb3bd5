package main

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
)

// release is set by the linker for released builds.
var release = ""

// version prints what was built, from what, with what.
func version(_ context.Context, e *environment) error {
	if len(e.args) > 0 {
		return fmt.Errorf("%w: version takes no arguments", errUsage)
	}
	name, commit := release, "unknown commit"
	if info, ok := debug.ReadBuildInfo(); ok {
		if name == "" {
			name = info.Main.Version
		}
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				commit = s.Value
			}
		}
	}
	if name == "" {
		name = "(devel)"
	}
	_, err := fmt.Fprintf(e.stdout, "tidemill broker %s (%s, %s %s/%s)\n", name, commit, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return err
}
