package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// clientFlags starts the flags of a verb that talks to a broker.
func clientFlags(name string) (*flag.FlagSet, *string) {
	f := flag.NewFlagSet("broker "+name, flag.ContinueOnError)
	return f, f.String("bootstrap", "127.0.0.1:9092", "`addresses` of brokers, on commas")
}

// parseFlags reads the verb's flags. done is true when help was asked for and printed.
func parseFlags(f *flag.FlagSet, e *environment) (done bool, err error) {
	f.SetOutput(io.Discard)
	err = f.Parse(e.args)
	if errors.Is(err, flag.ErrHelp) {
		f.SetOutput(e.stdout)
		_, _ = fmt.Fprintf(e.stdout, "Usage: %s [flags]\n", f.Name())
		f.PrintDefaults()
		return true, nil
	}
	if name, ok := strings.CutPrefix(fmt.Sprint(err), "flag provided but not defined: -"); ok {
		var known []string
		f.VisitAll(func(one *flag.Flag) { known = append(known, one.Name) })
		return false, unknown("flag of "+f.Name(), strings.TrimPrefix(name, "-"), known)
	}
	if err != nil {
		return false, fmt.Errorf("%w: %w", errUsage, err)
	}
	if f.NArg() > 0 {
		return false, fmt.Errorf("%w: %s: unexpected argument %q", errUsage, f.Name(), f.Arg(0))
	}
	return false, nil
}

// need refuses an empty flag.
func need(f *flag.FlagSet, name string) error {
	if f.Lookup(name).Value.String() == "" {
		return fmt.Errorf("%w: %s needs --%s", errUsage, f.Name(), name)
	}
	return nil
}

// reachTimeout bounds the first contact: long enough for a slow network, short enough for a person.
const reachTimeout = 10 * time.Second

// dial makes a client and sees whether anything answers at the addresses.
func dial(ctx context.Context, bootstrap string, options ...kgo.Opt) (*kgo.Client, error) {
	options = append([]kgo.Opt{
		kgo.SeedBrokers(strings.Split(bootstrap, ",")...), kgo.ClientID("broker-cli"), kgo.RetryTimeout(reachTimeout),
	}, options...)
	client, err := kgo.NewClient(options...)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUsage, err)
	}
	ctx, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	if err := client.Ping(ctx); err != nil {
		client.Close()
		return nil, fmt.Errorf("no broker answers at %s (flag --bootstrap): %w\n  start one with: broker serve", bootstrap, err)
	}
	return client, nil
}
