package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/tidemill/tidemill/audit"
	"github.com/tidemill/tidemill/config"
)

var (
	// errNotRun: fsck could not look at the bucket, so nothing is known of it.
	errNotRun = errors.New("fsck could not run")
	// errProblems: fsck found something that a person has to look at.
	errProblems = errors.New("fsck found problems")
)

const fsckUsage = `Usage: broker fsck [--json] [--no-data] [settings of the broker]

Reads everything in the bucket and holds it against the cluster's metadata. It writes nothing, and the cluster may be
running. Without --cluster it uses the etcd in --data-dir: that of the broker that runs on it, or one that it starts for
the time of the check.

  --json     print a report in JSON
  --no-data  do not read records: headers, directories, indexes and manifests only

Exit status: 0 when all is well, 1 when there are problems, 2 when the check could not run.
`

// fsck audits the bucket.
func fsck(ctx context.Context, e *environment) error {
	asJSON, noData := false, false
	if wantsHelp(first(e.args)) {
		_, err := fmt.Fprint(e.stdout, fsckUsage)
		return err
	}
	e.args = takeSwitches(e.args, map[string]*bool{"json": &asJSON, "no-data": &noData})
	opened, err := openCluster(ctx, e)
	if errors.Is(err, config.ErrUsage) {
		return err
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errNotRun, err)
	}
	defer opened.close()
	store, err := opened.bucket(ctx)
	if err != nil {
		return fmt.Errorf("%w: %w", errNotRun, err)
	}
	report, err := audit.Check(ctx, audit.Options{Store: store, Metadata: opened.meta, SkipData: noData})
	if err == nil && asJSON {
		out := json.NewEncoder(e.stdout)
		out.SetIndent("", "  ")
		err = out.Encode(report)
	} else if err == nil {
		err = report.WriteText(e.stdout)
	}
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", errNotRun, err)
	case !report.OK:
		return fmt.Errorf("%w: %d", errProblems, report.ProblemCount)
	}
	return nil
}

func first(args []string) string {
	if len(args) == 0 {
		return ""
	}
	return args[0]
}

// takeSwitches takes flags without a value out of args; what is left are the broker's settings.
func takeSwitches(args []string, switches map[string]*bool) []string {
	var rest []string
	for _, arg := range args {
		name := trimDashes(arg)
		if on := switches[name]; on != nil && name != arg {
			*on = true
			continue
		}
		rest = append(rest, arg)
	}
	return rest
}

func trimDashes(arg string) string {
	for range 2 {
		if len(arg) > 1 && arg[0] == '-' {
			arg = arg[1:]
		}
	}
	return arg
}
