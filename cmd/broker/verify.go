package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/tidemill/tidemill/verify"
	"github.com/tidemill/tidemill/verify/workload"
)

// errAnomalies: what clients were told contradicts what they saw.
var errAnomalies = errors.New("verify found anomalies")

// notVerified is why nothing, or not everything, is known of the cluster.
type notVerified struct{ err error }

func (e notVerified) Error() string { return fmt.Sprintf("verify could not run: %v", e.err) }

func (e notVerified) Unwrap() error { return e.err }

// Is makes the exit status the one of a check that could not run.
func (e notVerified) Is(target error) bool { return target == errNotRun }

const (
	verifyHelp = "Puts a Kafka-compatible cluster under load, in a topic of its own, and judges every answer.\n" +
		"Exit status: 0 when all is well, 1 when there are anomalies, 2 when the check could not run.\n"

	// stopTimeout bounds what comes after the load: outstanding acknowledgements, consumers that catch up, the final reading.
	stopTimeout = 5 * time.Minute
	// removeTimeout bounds the removal of the topic.
	removeTimeout = 10 * time.Second
)

// verifyFlags are the flags of the verb.
type verifyFlags struct {
	options        workload.Options
	duration       time.Duration
	history, check string
}

// verifyVerb runs a workload, or reads the history of one, and prints what is to be thought of it.
func verifyVerb(ctx context.Context, e *environment) error {
	o, done, err := readVerifyFlags(e)
	if done || err != nil {
		return err
	}
	if o.check != "" {
		h, err := readHistory(inWorkDir(e, o.check))
		if err != nil {
			return notVerified{err}
		}
		return judge(e, h)
	}
	client, err := dial(ctx, strings.Join(o.options.Bootstrap, ","))
	if err != nil {
		return notVerified{err}
	}
	client.Close()
	w, err := workload.Start(ctx, o.options)
	if err != nil {
		return notVerified{err}
	}
	defer w.Close()
	timer := time.NewTimer(o.duration)
	defer timer.Stop()
	select {
	case <-ctx.Done(): // a signal ends the load; what happened until then is judged
	case <-timer.C:
	case <-w.Sent():
	}
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	h, stopped := w.Stop(stopping)
	if o.history != "" {
		if err := writeHistory(inWorkDir(e, o.history), h); err != nil {
			return notVerified{errors.Join(err, stopped)}
		}
	}
	err = judge(e, h)
	if stopped != nil && !errors.Is(err, errAnomalies) {
		return notVerified{stopped}
	}
	if err == nil && o.options.Topic == "" {
		removing, cancel := context.WithTimeout(context.WithoutCancel(ctx), removeTimeout)
		defer cancel()
		if err := w.Remove(removing); err != nil {
			fmt.Fprintf(e.stderr, "broker: verify leaves its topic behind: %v\n", err)
		}
	}
	return err
}

func readVerifyFlags(e *environment) (o verifyFlags, done bool, err error) {
	f, bootstrap := clientFlags("verify")
	f.StringVar(&o.options.Topic, "topic", "", "`topic` to create and keep; without it one with a random name, deleted when all is well")
	partitions := f.Int("partitions", 12, "`number` of partitions")
	f.IntVar(&o.options.Producers, "producers", 4, "`number` of idempotent producers")
	f.IntVar(&o.options.Consumers, "consumers", 2, "`number` of consumers that read all partitions")
	f.IntVar(&o.options.Members, "members", 2, "`number` of members of a group that commits")
	f.Float64Var(&o.options.Rate, "rate", 1000, "`records` a second, of all producers together")
	f.IntVar(&o.options.RecordBytes, "record-bytes", 100, "`bytes` of a value")
	f.Int64Var(&o.options.Records, "records", 0, "stop after this `number` of records; 0: when the time is over")
	f.DurationVar(&o.duration, "for", 30*time.Second, "how `long` to send")
	f.StringVar(&o.history, "history", "", "keep the history in this `file`, as lines of JSON")
	f.StringVar(&o.check, "check", "", "judge the history in this `file`, and talk to no cluster")
	done, err = parseFlags(f, e)
	if done {
		fmt.Fprint(e.stdout, verifyHelp)
	}
	if done || err != nil {
		return o, done, err
	}
	o.options.Bootstrap = strings.Split(*bootstrap, ",")
	o.options.Partitions = int32(min(*partitions, maxVerifyPartitions+1))
	// Zero would be the library's default.
	for _, n := range []*int{&o.options.Consumers, &o.options.Members} {
		if *n == 0 {
			*n = -1
		}
	}
	o.options.Log = slog.New(slog.NewTextHandler(e.stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	switch {
	case o.options.Partitions < 1 || o.options.Partitions > maxVerifyPartitions:
		return o, false, fmt.Errorf("%w: broker verify: --partitions is 1 to %d", errUsage, maxVerifyPartitions)
	case o.options.Producers < 1 || o.options.Rate <= 0 || o.options.Records < 0 || o.duration <= 0:
		return o, false, fmt.Errorf("%w: broker verify: --producers, --rate and --for are above 0", errUsage)
	}
	return o, false, nil
}

// maxVerifyPartitions is far above what one process can keep busy.
const maxVerifyPartitions = 10_000

// judge prints the verdict. Its error says the exit status.
func judge(e *environment, h *verify.History) error {
	v := verify.Check(h)
	if err := v.WriteText(e.stdout); err != nil {
		return notVerified{err}
	}
	switch {
	case len(v.Anomalies) > 0:
		return fmt.Errorf("%w: %d", errAnomalies, len(v.Anomalies))
	case !v.OK():
		return notVerified{fmt.Errorf("%s", strings.Join(v.Unjudged, "; "))}
	}
	return nil
}

func inWorkDir(e *environment, name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(e.workDir, name)
}

func readHistory(name string) (*verify.History, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return verify.ReadHistory(file)
}

func writeHistory(name string, h *verify.History) error {
	file, err := os.Create(name)
	if err != nil {
		return err
	}
	return errors.Join(h.Write(file), file.Close())
}
