package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"github.com/tidemill/tidemill/bench/kgodriver"
	"github.com/tidemill/tidemill/bench/peer"
	"github.com/tidemill/tidemill/bench/report"
	"github.com/tidemill/tidemill/bench/scenario"
)

// runRatio is the gate on CPU per GB.
func runRatio(_ context.Context, args []string) (err error) {
	flags := flag.NewFlagSet("ratio", flag.ExitOnError)
	rounds := flags.Int("rounds", 3, "of null, ours, ours, null")
	duration := flags.Duration("for", 3*time.Second, "how long each run lasts")
	shape := flags.String("shape", scenario.DefaultShape, "of the produce load: connections x requests in flight on each")
	only := flags.String("only", "produce,fetch,small", "loads to run")
	broker := flags.String("flags", "", "flags of the broker, separated by spaces")
	binary := flags.String("broker", "", "the broker to measure; empty: built from this repository")
	_ = flags.Parse(args) // it exits on errors
	lab, err := openLab(*binary)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lab.Close()) }()
	return scenario.Ratio(os.Stdout, lab, strings.Split(*only, ","), *shape, *rounds, *duration, strings.Fields(*broker))
}

func openLab(binary string) (*peer.Lab, error) {
	lab, err := peer.NewLab()
	if err != nil {
		return nil, err
	}
	if binary == "" {
		err = lab.Build()
	} else {
		err = lab.Use(binary)
	}
	if err != nil {
		return nil, errors.Join(err, lab.Close())
	}
	return lab, nil
}

// runScenarios runs the named scenarios, or all, and prints the table.
func runScenarios(ctx context.Context, args []string) (err error) {
	flags := flag.NewFlagSet("run", flag.ExitOnError)
	rounds := flags.Int("rounds", 2, "of comparisons")
	duration := flags.Duration("for", 3*time.Second, "how long each run of a comparison lasts")
	minutes := flags.Float64("minutes", 1, "how long nothing is watched")
	gb := flags.Float64("gb", 8, "GB that catchup reads; compaction gets the half")
	replay := flags.Float64("replay", 220, "MB/s of replay's consumer; 0: as fast as it can")
	soak := flags.Duration("soak", 30*time.Minute, "how long soak takes")
	broker := flags.String("flags", "", "flags of the broker, separated by spaces")
	binary := flags.String("broker", "", "the broker to measure; empty: built from this repository")
	plots := flags.String("plots", "", "folder for plots; empty: none")
	rows := flags.String("rows", "", "file that collects results of several runs; a scenario's older rows are replaced")
	flags.Usage = func() {
		fmt.Fprintln(flags.Output(), "Usage: bench run [flags] [scenario ...]")
		for _, s := range scenario.All() {
			named := ""
			if s.Named {
				named = " (only by name)"
			}
			fmt.Fprintf(flags.Output(), "  %-16s %s%s\n", s.Name, s.Help, named)
		}
		flags.PrintDefaults()
	}
	_ = flags.Parse(args) // it exits on errors
	chosen, err := choose(flags.Args())
	if err != nil {
		return err
	}
	lab, err := openLab(*binary)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lab.Close()) }()
	e := &scenario.Env{
		Lab: lab, Rounds: *rounds, Duration: *duration, Minutes: *minutes, Flags: strings.Fields(*broker),
		GB: *gb, ReplayMBps: *replay, Soak: *soak, Plots: *plots,
		Log: func(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) },
	}
	var failed error
	for _, s := range chosen {
		if err := s.Run(ctx, e); err != nil { // the others are worth running all the same
			failed = errors.Join(failed, err)
		}
	}
	all := e.Rows
	if *rows != "" {
		if all, err = keep(*rows, e.Rows); err != nil {
			return errors.Join(failed, err)
		}
	}
	if curves := report.Curves(all); *plots != "" && len(curves) > 0 {
		failed = errors.Join(failed, report.Plot(*plots, curves))
	}
	fmt.Fprintf(os.Stdout, "%s\n\n", machine())
	return errors.Join(failed, report.WriteTable(os.Stdout, all))
}

func choose(names []string) ([]scenario.Scenario, error) {
	var chosen []scenario.Scenario
	if len(names) == 0 {
		for _, s := range scenario.All() {
			if !s.Named {
				chosen = append(chosen, s)
			}
		}
		return chosen, nil
	}
	for _, name := range names {
		found := false
		for _, s := range scenario.All() {
			if s.Name == name {
				chosen, found = append(chosen, s), true
			}
		}
		if !found {
			return nil, fmt.Errorf("no scenario %q: bench run -h lists them", name)
		}
	}
	return chosen, nil
}

// keep replaces the rows of scenarios in a file of JSON and returns all, in the order of the report.
func keep(path string, rows []report.Row) (all []report.Row, err error) {
	var old []report.Row
	raw, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(raw, &old)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	for _, s := range scenario.All() {
		from := old
		for _, r := range rows {
			if r.Scenario == s.Name {
				from = rows
			}
		}
		for _, r := range from {
			if r.Scenario == s.Name {
				all = append(all, r)
			}
		}
	}
	if raw, err = json.MarshalIndent(all, "", " "); err != nil {
		return nil, err
	}
	return all, os.WriteFile(path, raw, 0o644)
}

// machine is the conditions of a run in one line.
func machine() string {
	cpu := "unknown CPU"
	if raw, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(raw)) {
			if name, value, _ := strings.Cut(line, ":"); strings.TrimSpace(name) == "model name" {
				cpu = strings.TrimSpace(value)
				break
			}
		}
	}
	kernel, commit := "Linux", "unknown commit"
	if out, err := exec.Command("uname", "-sr").Output(); err == nil {
		kernel = strings.TrimSpace(string(out))
	}
	if out, err := exec.Command("git", "rev-parse", "--short", "HEAD").Output(); err == nil {
		commit = strings.TrimSpace(string(out))
	}
	return fmt.Sprintf("%d cores of %s shared by broker, storage simulator and clients; %s, %s; %s, %s.",
		runtime.NumCPU(), cpu, kernel, runtime.Version(), commit, time.Now().UTC().Format("2006-01-02 15:04 MST"))
}

// runLoad applies the load of applications to any broker.
func runLoad(ctx context.Context, args []string) error {
	var l kgodriver.Load
	flags := flag.NewFlagSet("load", flag.ExitOnError)
	flags.StringVar(&l.Addr, "bootstrap", "127.0.0.1:9092", "address of the broker")
	flags.StringVar(&l.Topic, "topic", "load-"+time.Now().Format("150405"), "a topic that does not exist yet")
	flags.IntVar(&l.Partitions, "partitions", 12, "of the topic")
	flags.IntVar(&l.Producers, "producers", 4, "clients that write")
	flags.IntVar(&l.Consumers, "consumers", 1, "clients that read everything")
	flags.IntVar(&l.RecordBytes, "record", 1000, "bytes of a record's value")
	flags.Float64Var(&l.MBPerSecond, "rate", 10, "MB/s over all producers")
	flags.DurationVar(&l.Linger, "linger", 5*time.Millisecond, "of producers")
	flags.IntVar(&l.BatchBytes, "batch", 256<<10, "most bytes of a batch")
	flags.BoolVar(&l.Spread, "spread", false, "records go to all partitions in turn")
	flags.DurationVar(&l.WarmUp, "warm-up", 5*time.Second, "before what is measured")
	flags.DurationVar(&l.For, "for", 20*time.Second, "what is measured")
	_ = flags.Parse(args) // it exits on errors
	r, err := l.Run(ctx)
	if err != nil {
		return err
	}
	out := json.NewEncoder(os.Stdout)
	out.SetIndent("", " ")
	return out.Encode(r)
}
