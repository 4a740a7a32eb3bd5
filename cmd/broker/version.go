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
	commit := "unknown commit"
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				commit = s.Value
			}
		}
	}
	_, err := fmt.Fprintf(e.stdout, "tidemill broker %s (%s, %s %s/%s)\n", versionName(), commit, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return err
}

// versionName is the release, or what the Go tools know of the module.
func versionName() string {
	if release != "" {
		return release
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}
