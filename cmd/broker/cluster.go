package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/tidemill/tidemill/config"
	"github.com/tidemill/tidemill/metadata"
)

// clusterVerbs are the verbs about a cluster as a whole.
var clusterVerbs = []verb{
	{"init", "set a cluster up: keep its bucket and the defaults of its brokers in etcd", clusterInit},
	{"info", "show the brokers, what each owns, and what is without an owner or on its way", clusterInfo},
	{"drain", "empty a broker and keep it empty, until --undo", clusterDrain},
	{"move", "move partitions to a broker and pin them there", clusterMove},
	{"dead", "say that a broker is dead: end its log, so that the others take over", clusterDead},
	{"balance", "show or write what balance asks for now, and remove pins", clusterBalance},
}

// clusterVerb finds the verb about a cluster and runs it.
func clusterVerb(ctx context.Context, e *environment) error {
	names := make([]string, len(clusterVerbs))
	for i, v := range clusterVerbs {
		names[i] = v.name
	}
	if len(e.args) == 0 {
		return fmt.Errorf("%w: say broker cluster and one of %s", errUsage, strings.Join(names, ", "))
	}
	name := e.args[0]
	e.args = e.args[1:]
	if wantsHelp(name) {
		return clusterHelp(e)
	}
	i := slices.Index(names, name)
	if i < 0 {
		return unknown("cluster verb", name, names)
	}
	return clusterVerbs[i].run(ctx, e)
}

func clusterHelp(e *environment) error {
	w := tabwriter.NewWriter(e.stdout, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "Usage: broker cluster VERB --cluster etcd://host:port/name [flags]\n\nVerbs:")
	for _, v := range clusterVerbs {
		_, _ = fmt.Fprintf(w, "  %s\t%s\n", v.name, v.summary)
	}
	_, _ = fmt.Fprintln(w, "\nThey talk to etcd, and dead to the bucket, so they work whichever brokers are down. See broker cluster VERB --help.")
	return w.Flush()
}

// A clusterCall is one run of a verb that looks at a cluster or changes where its partitions are.
type clusterCall struct {
	*environment
	meta   *metadata.Store
	config *config.Config
	// words are the arguments before the first flag.
	words []string
}

// A clusterTask is what such a verb does.
type clusterTask struct {
	usage    string
	switches map[string]*bool
	values   map[string]*string
	// check refuses wrong usage before anything is opened.
	check func(words []string) error
	run   func(context.Context, *clusterCall) error
}

// do takes the words and the verb's own flags out of the arguments, opens the metadata that the others name, and runs the task.
func (t clusterTask) do(ctx context.Context, e *environment) error {
	if slices.ContainsFunc(e.args, wantsHelp) {
		_, err := fmt.Fprint(e.stdout, t.usage)
		return err
	}
	call := &clusterCall{environment: e}
	for len(e.args) > 0 && !strings.HasPrefix(e.args[0], "-") {
		call.words, e.args = append(call.words, e.args[0]), e.args[1:]
	}
	e.args = takeSwitches(e.args, t.switches)
	var err error
	for name, value := range t.values {
		if *value, e.args, err = takeValue(e.args, name); err != nil {
			return err
		}
	}
	if err := t.check(call.words); err != nil {
		return err
	}
	opened, err := openMetadata(ctx, e)
	if err != nil {
		return err
	}
	defer opened.close()
	call.meta, call.config = opened.meta, opened.config
	return t.run(ctx, call)
}

// noWords refuses arguments before the flags of a verb that has none.
func noWords(verb string) func(words []string) error {
	return func(words []string) error {
		if len(words) > 0 {
			return fmt.Errorf("%w: broker cluster %s: unexpected argument %q", errUsage, verb, words[0])
		}
		return nil
	}
}

// takeValue takes a flag with a value out of args.
func takeValue(args []string, name string) (value string, rest []string, err error) {
	for i := 0; i < len(args); i++ {
		given, text, joined := strings.Cut(trimDashes(args[i]), "=")
		if given != name || !strings.HasPrefix(args[i], "-") {
			rest = append(rest, args[i])
			continue
		}
		if !joined {
			if i++; i == len(args) {
				return "", nil, fmt.Errorf("%w: flag --%s needs a value", errUsage, name)
			}
			text = args[i]
		}
		value = text
	}
	return value, rest, nil
}

// parseBrokerID reads a broker's id from the command line.
func parseBrokerID(text string) (int32, error) {
	id, err := strconv.ParseInt(text, 10, 32)
	if err != nil || id < 0 {
		return 0, fmt.Errorf("%w: %q is no broker's id: want a number", errUsage, text)
	}
	return int32(id), nil
}

// metadataConfig is where the settings say that the cluster's etcd is.
func metadataConfig(c *config.Config) metadata.Config {
	return metadata.Config{
		Endpoints: c.Cluster.Endpoints, Name: c.Cluster.Name,
		TLS: c.Etcd.TLS, Username: c.Etcd.Username, Password: c.Etcd.Password,
	}
}
