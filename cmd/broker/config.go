package main

import (
	"context"
	"fmt"
	"text/tabwriter"
)

// configVerb explains or validates the settings that serve would run with.
func configVerb(_ context.Context, e *environment) error {
	if len(e.args) == 0 {
		return fmt.Errorf("%w: say broker config explain or broker config validate", errUsage)
	}
	sub := e.args[0]
	e.args = e.args[1:]
	switch sub {
	case "explain":
		return explain(e)
	case "validate":
		if _, err := load(e); err != nil {
			return err
		}
		_, err := fmt.Fprintln(e.stdout, "all settings are valid")
		return err
	}
	return unknown("config verb", sub, []string{"explain", "validate"})
}

func explain(e *environment) error {
	c, err := load(e)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(e.stdout, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "KEY\tVALUE\tSOURCE\tMEANING")
	for _, v := range c.Explain() {
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", v.Key, v.Text, v.Source, v.Meaning)
	}
	return w.Flush()
}
