package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/tidemill/tidemill/audit"
	"github.com/tidemill/tidemill/objectstore"
)

const inspectUsage = `Usage: broker inspect slot KEY|LIFE/SEQ [settings of the broker]
       broker inspect segment KEY
       broker inspect manifest KEY|TOPIC/PARTITION
       broker inspect topic NAME
       broker inspect offset TOPIC/PARTITION@OFFSET

Prints what is stored, and what is wrong with it. It writes nothing, and the cluster may be running. The settings name
the bucket and the cluster, as those of broker serve do.
`

// inspection is a thing that can be printed.
type inspection struct {
	name string
	// metadata: it cannot be found without. Others only lack the names of topics then.
	metadata bool
	print    func(i *audit.Inspector, ctx context.Context, out io.Writer, name string) error
}

var inspections = []inspection{
	{"slot", false, (*audit.Inspector).Slot},
	{"segment", false, (*audit.Inspector).Segment},
	{"manifest", false, (*audit.Inspector).Manifest},
	{"topic", true, (*audit.Inspector).Topic},
	{"offset", true, (*audit.Inspector).Offset},
}

// inspect prints a stored object, or where something is stored.
func inspect(ctx context.Context, e *environment) error {
	if wantsHelp(first(e.args)) {
		_, err := fmt.Fprint(e.stdout, inspectUsage)
		return err
	}
	names := make([]string, len(inspections))
	for i := range inspections {
		names[i] = inspections[i].name
	}
	if len(e.args) == 0 {
		return fmt.Errorf("%w: say broker inspect and one of %s", errUsage, strings.Join(names, ", "))
	}
	for _, x := range inspections {
		if x.name != e.args[0] {
			continue
		}
		if len(e.args) < 2 || strings.HasPrefix(e.args[1], "-") {
			return fmt.Errorf("%w: broker inspect %s needs to know which", errUsage, x.name)
		}
		name := e.args[1]
		e.args = e.args[2:]
		return inspectOne(ctx, e, &x, name)
	}
	return unknown("thing to inspect", e.args[0], names)
}

func inspectOne(ctx context.Context, e *environment, x *inspection, name string) error {
	store, opened, err := openForInspection(ctx, e, x)
	if err != nil {
		return err
	}
	defer opened.close()
	i := &audit.Inspector{Store: store}
	if opened.meta != nil {
		i.Metadata = opened.meta
	}
	err = x.print(i, ctx, e.stdout, name)
	if errors.Is(err, audit.ErrName) {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	return err
}

// openForInspection opens the bucket, and the metadata where that is there. Objects can be looked at when etcd is lost.
func openForInspection(ctx context.Context, e *environment, x *inspection) (objectstore.Store, *openedCluster, error) {
	args := e.args
	opened, err := openCluster(ctx, e)
	if err != nil {
		e.args = args
		c, bad := load(e)
		if bad != nil || x.metadata {
			return nil, nil, err
		}
		_, _ = fmt.Fprintf(e.stderr, "broker: topics are shown by their ids: %v\n", err)
		opened = &openedCluster{config: c}
	}
	store, err := opened.bucket(ctx)
	if err != nil {
		opened.close()
		return nil, nil, err
	}
	return store, opened, nil
}
