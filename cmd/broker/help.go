package main

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/tidemill/tidemill/config"
)

// help prints the verbs and the settings of serve.
func help(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "broker is Tidemill, a Kafka-compatible broker on object storage.\n\nUsage: broker [verb] [flags]\n\nVerbs:")
	for _, v := range verbs {
		_, _ = fmt.Fprintf(w, "  %s\t%s\n", v.name, v.summary)
	}
	_, _ = fmt.Fprintln(w, "\nSettings of the broker, as flags (or BROKER_* in the environment, or in the YAML file of --config):")
	for _, s := range config.Settings() {
		def := ""
		if s.Default != "" {
			def = " (" + s.Default + ")"
		}
		_, _ = fmt.Fprintf(w, "  --%s\t%s%s\n", s.Key, s.Meaning, def)
	}
	_, _ = fmt.Fprintln(w, `
Try:
  broker
  broker topic create greetings --partitions 3
  echo hello | broker produce --topic greetings
  broker consume --topic greetings --from-beginning --max-messages 1`)
	return w.Flush()
}
