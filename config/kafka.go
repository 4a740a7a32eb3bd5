package config

import (
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/tidemill/tidemill/kafkaconfig"
)

// hidden stands for a secret in everything that people see.
const hidden = "[hidden]"

// readKafka puts Kafka's settings of flags and environment before those of the YAML file, and the properties file after.
func (s *sources) readKafka(in Input) {
	const mend = "write name=value, for example num.partitions=4"
	direct := map[string][]given{}
	for _, g := range s.own["kafka"] {
		name, value, ok := strings.Cut(g.text, "=")
		name = strings.TrimSpace(name)
		if !ok || name == "" {
			s.problem("kafka", g.source, mend, "%q is not name=value", g.text)
			continue
		}
		full := given{value, g.source + " " + name}
		// The last flag wins over the flags before it, as people expect of a repeated flag.
		at := slices.IndexFunc(direct[name], func(o given) bool { return o.source == full.source })
		if at >= 0 {
			direct[name][at] = full
		} else {
			direct[name] = append(direct[name], full)
		}
	}
	for name, values := range direct {
		s.kafka[name] = append(values, s.kafka[name]...)
	}
	if file, ok := s.first("kafka-properties"); ok && file.text != "" {
		s.readProperties(in, file)
	}
}

func (s *sources) readProperties(in Input, file given) {
	path := absolute(in.WorkDir, file.text)
	text, err := in.ReadFile(path)
	if err != nil {
		s.problem("kafka-properties", file.source, "name a readable Java properties file", "%v", err)
		return
	}
	properties, err := ParseProperties(text)
	if err != nil {
		s.problem("kafka-properties", file.source, "correct "+path, "%v", err)
		return
	}
	last := map[string]given{}
	for _, p := range properties {
		last[p.Key] = given{p.Value, filepath.Base(path) + " line " + strconv.Itoa(p.Line)}
	}
	for name, g := range last {
		s.kafka[name] = append(s.kafka[name], g)
	}
}

// takeKafka checks Kafka's settings and keeps those that Kafka 4.3 knows.
func (s *sources) takeKafka(c *Config) {
	for name, values := range s.kafka {
		g := values[0]
		if err := kafkaconfig.ValidateStatic(name, g.text); err != nil {
			s.problem("kafka."+name, g.source, "correct or remove it", "%v", err)
			continue
		}
		v := Value{"kafka." + name, g.text, g.source, ""}
		k, known := kafkaconfig.Lookup(kafkaconfig.BrokerScope, name)
		switch {
		case kafkaconfig.Retired(name):
			v.Meaning = "no meaning here: removed in Kafka 4"
		case !known:
			v.Meaning, v.Text = "no meaning here: listeners have no settings of their own", hidden
		case k.Used():
			v.Meaning = k.Doc
		default:
			v.Meaning = "no meaning here: " + k.Reason
		}
		if known && k.Sensitive() {
			v.Text = hidden
		}
		if known {
			c.Kafka[name] = strings.TrimSpace(g.text)
		}
		c.kafka[name] = v
	}
	slices.SortFunc(s.problems, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
}

// redactURL hides what may be secret in a URL: the user and all settings whose names sound like it.
func redactURL(text string) string {
	u, err := url.Parse(text)
	if err != nil || u.Scheme == "" {
		if strings.Contains(text, "@") && strings.Contains(text, "://") {
			return hidden
		}
		return text
	}
	if u.User == nil && !secretQuery(u) {
		return text
	}
	scheme, rest, _ := strings.Cut(text, "://")
	if u.User != nil {
		_, rest, _ = strings.Cut(rest, "@")
		rest = hidden + "@" + rest
	}
	path, query, _ := strings.Cut(rest, "?")
	parts := strings.Split(query, "&")
	for i, part := range parts {
		if name, _, ok := strings.Cut(part, "="); ok && soundsSecret(name) {
			parts[i] = name + "=" + hidden
		}
	}
	if query != "" {
		path += "?" + strings.Join(parts, "&")
	}
	return scheme + "://" + path
}

func secretQuery(u *url.URL) bool {
	for name := range u.Query() {
		if soundsSecret(name) {
			return true
		}
	}
	return strings.Contains(u.RawQuery, ";")
}

func soundsSecret(name string) bool {
	name = strings.ToLower(name)
	for _, word := range []string{"secret", "password", "token", "key", "credential"} {
		if strings.Contains(name, word) {
			return true
		}
	}
	return false
}

// redact takes a secret that message repeats out of it.
func redact(message, text string) string {
	if shown := redactURL(text); shown != text && text != "" {
		return strings.ReplaceAll(message, text, shown)
	}
	return message
}
