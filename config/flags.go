package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/tidemill/tidemill/kafkaconfig"
)

// readFlags reads --key value and --key=value. One dash will do.
func (s *sources) readFlags(args []string) error {
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		name := strings.TrimPrefix(strings.TrimPrefix(arg, "-"), "-")
		if name == arg || name == "" {
			return fmt.Errorf("%w: unexpected argument %q", ErrUsage, arg)
		}
		name, text, ok := strings.Cut(name, "=")
		if _, known := settingByKey(name); !known {
			return fmt.Errorf("%w: unknown flag --%s%s", ErrUsage, name, didYouMean("--", name, keys()))
		}
		if !ok {
			if len(args) == 0 {
				return fmt.Errorf("%w: flag --%s needs a value", ErrUsage, name)
			}
			text, args = args[0], args[1:]
		}
		if len(s.own[name]) > 0 && name != "kafka" {
			return fmt.Errorf("%w: flag --%s is given twice", ErrUsage, name)
		}
		s.add(name, text, "flag --"+name)
	}
	return nil
}

func keys() []string {
	names := make([]string, len(settings))
	for i, s := range settings {
		names[i] = s.key
	}
	return names
}

func didYouMean(prefix, name string, candidates []string) string {
	near := kafkaconfig.Nearest(name, candidates)
	if near == "" {
		return ""
	}
	return "; did you mean " + prefix + near + "?"
}

// readEnv reads BROKER_*. A name that is nearly one of ours is a mistake; others may belong to other programs, and those that
// Kubernetes sets for a Service called "broker" are left alone.
func (s *sources) readEnv(env []string) {
	byEnv := map[string]string{}
	var names []string
	for _, d := range settings {
		byEnv[envName(d.key)] = d.key
		names = append(names, envName(d.key))
	}
	for _, e := range slices.Sorted(slices.Values(env)) {
		name, text, _ := strings.Cut(e, "=")
		key, known := byEnv[name]
		switch {
		case known && key == "kafka":
			for _, pair := range splitCommas(text) {
				s.add(key, pair, "environment "+name)
			}
		case known:
			s.add(key, text, "environment "+name)
		case strings.HasPrefix(name, "BROKER_") && !fromKubernetes(name):
			// "BROKER_" is common to all, so only what follows it counts as near.
			if near := kafkaconfig.Nearest(strings.TrimPrefix(name, "BROKER_"), trimAll(names, "BROKER_")); near != "" {
				s.problem(name, "environment", "rename or unset it", "unknown variable; did you mean BROKER_%s?", near)
			}
		}
	}
}

func trimAll(names []string, prefix string) []string {
	short := make([]string, len(names))
	for i, n := range names {
		short[i] = strings.TrimPrefix(n, prefix)
	}
	return short
}

func fromKubernetes(name string) bool {
	return strings.HasPrefix(name, "BROKER_SERVICE_") || name == "BROKER_PORT" || strings.HasPrefix(name, "BROKER_PORT_")
}

// splitCommas splits on commas; "\," is a comma inside a value.
func splitCommas(text string) []string {
	const mark = "\x00"
	var parts []string
	for _, part := range strings.Split(strings.ReplaceAll(text, `\,`, mark), ",") {
		if part = strings.TrimSpace(strings.ReplaceAll(part, mark, ",")); part != "" {
			parts = append(parts, part)
		}
	}
	return parts
}
