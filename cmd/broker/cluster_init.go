package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/tidemill/tidemill/config"
	"github.com/tidemill/tidemill/metadata"
	"github.com/tidemill/tidemill/objectstore"
	"github.com/tidemill/tidemill/objectstore/storeurl"
)

const replaceDefaults = "replace-defaults"

// clusterInit keeps the cluster's bucket and the defaults of its brokers in etcd. The settings are a broker's, from the same
// places: flags, environment, files.
func clusterInit(ctx context.Context, e *environment) error {
	if len(e.args) > 0 && wantsHelp(e.args[0]) {
		_, err := fmt.Fprintf(e.stdout, `Usage: broker cluster init --cluster etcd://host:port,host:port/name --bucket s3://bucket/prefix [--kafka name=value ...]
Keeps the bucket and the defaults of Kafka's settings in etcd; brokers then need --cluster alone. It may be repeated.
  --%s  change the defaults of a cluster that has others; its bucket stays
Credentials and certificates are given as to a broker: see broker help.
`, replaceDefaults)
		return err
	}
	replace := false
	e.args = slices.DeleteFunc(e.args, func(arg string) bool {
		is := strings.TrimLeft(arg, "-") == replaceDefaults && strings.HasPrefix(arg, "-")
		replace = replace || is
		return is
	})
	c, err := load(e)
	if err != nil {
		return err
	}
	if c.Cluster.Embedded() {
		return fmt.Errorf("%w: broker cluster init needs --cluster etcd://host:port/name; a broker without one needs no init", errUsage)
	}
	given, err := c.ToShare()
	if err != nil {
		return fmt.Errorf("settings that cannot be shared:\n%w", err)
	}
	meta, err := metadata.Open(ctx, metadataConfig(c))
	if err != nil {
		return fmt.Errorf("open the cluster's metadata (cluster set by %s): %w", c.Source("cluster"), err)
	}
	i := initialisation{out: e.stdout, config: c, meta: meta, given: given, replace: replace}
	return errors.Join(i.run(ctx), meta.Close())
}

// An initialisation is one run of cluster init.
type initialisation struct {
	out     io.Writer
	config  *config.Config
	meta    *metadata.Store
	given   config.Shared
	replace bool
}

func (i *initialisation) run(ctx context.Context) error {
	stored, err := i.meta.Settings(ctx)
	if errors.Is(err, metadata.ErrNoSettings) {
		return i.first(ctx)
	}
	if err != nil {
		return err
	}
	return i.again(ctx, stored)
}

// first stores the settings. The bucket can never be replaced, so it is tried and claimed for the cluster before.
func (i *initialisation) first(ctx context.Context) error {
	if i.given.Bucket == "" {
		return fmt.Errorf("%w: broker cluster init needs --bucket s3://bucket/prefix", errUsage)
	}
	cluster, err := i.meta.EnsureCluster(ctx)
	if err != nil {
		return fmt.Errorf("create the cluster: %w", err)
	}
	if err := i.claimBucket(ctx, cluster); err != nil {
		return fmt.Errorf("the bucket (set by %s) cannot be the cluster's: %w", i.config.Source("bucket"), err)
	}
	stored, created, err := i.meta.InitSettings(ctx, metadata.Settings{Bucket: i.given.Bucket, Kafka: i.given.Kafka})
	if err != nil {
		return err
	}
	if !created {
		return i.again(ctx, stored)
	}
	return i.tell("is set up", i.given)
}

// claimBucket makes sure that the bucket can hold a log, and that it is no other cluster's.
func (i *initialisation) claimBucket(ctx context.Context, cluster metadata.Cluster) error {
	store, _, err := storeurl.Open(ctx, i.given.Bucket, storeurl.Options{})
	if err != nil {
		return err
	}
	if c, ok := store.(io.Closer); ok {
		defer c.Close()
	}
	if err := metadata.EnsureGuard(ctx, store, cluster.ID); err != nil {
		return err
	}
	return objectstore.Probe(ctx, store)
}

// again holds the given settings against those that are stored.
func (i *initialisation) again(ctx context.Context, stored metadata.Settings) error {
	was := config.Shared{Bucket: stored.Bucket, Kafka: stored.Kafka}
	if i.given.Bucket == "" {
		i.given.Bucket = was.Bucket
	}
	differences := was.Differences(i.given)
	switch {
	case len(differences) == 0:
		return i.tell("is set up already, with these settings", was)
	case !config.SameBucket(was.Bucket, i.given.Bucket):
		return i.refusal(differences, "the bucket of a cluster never changes, for its data is there: give the stored one, or set up a cluster of another name")
	case !i.replace:
		return i.refusal(differences, "give what is stored, or change it: --"+replaceDefaults)
	}
	if err := i.meta.ReplaceDefaults(ctx, stored, i.given.Kafka); err != nil {
		return err
	}
	if err := i.tell("has new defaults", config.Shared{Bucket: was.Bucket, Kafka: i.given.Kafka}); err != nil {
		return err
	}
	_, err := fmt.Fprintln(i.out, "  Brokers use them from their next start on.")
	return err
}

func (i *initialisation) refusal(differences []config.Difference, mend string) error {
	var b strings.Builder
	fmt.Fprintf(&b, "cluster %s is set up already, with other settings:\n", i.config.Cluster)
	for _, d := range differences {
		fmt.Fprintf(&b, "  %s: stored %s, given %s\n", d.Key, orNone(d.Stored), orNone(d.Given))
	}
	return errors.New(b.String() + "  " + mend)
}

func orNone(value string) string {
	if value == "" {
		return "none"
	}
	return value
}

func (i *initialisation) tell(what string, s config.Shared) error {
	var b strings.Builder
	fmt.Fprintf(&b, "cluster %s %s\n  bucket: %s\n", i.config.Cluster, what, s.Bucket)
	for _, name := range slices.Sorted(maps.Keys(s.Kafka)) {
		fmt.Fprintf(&b, "  kafka.%s: %s\n", name, s.Kafka[name])
	}
	_, err := io.WriteString(i.out, b.String())
	return err
}
