package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/tidemill/tidemill/config"
	"github.com/tidemill/tidemill/metadata"
)

// clusterVerbs are the verbs about a cluster as a whole.
var clusterVerbs = []verb{
	{"init", "set a cluster up: keep its bucket and the defaults of its brokers in etcd", clusterInit},
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
	return w.Flush()
}

// metadataConfig is where the settings say that the cluster's etcd is.
func metadataConfig(c *config.Config) metadata.Config {
	return metadata.Config{
		Endpoints: c.Cluster.Endpoints, Name: c.Cluster.Name,
		TLS: c.Etcd.TLS, Username: c.Etcd.Username, Password: c.Etcd.Password,
	}
}
