package config

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/tidemill/tidemill/kafkaconfig"
)

// Input is where settings come from.
type Input struct {
	Args     []string // flags only, without the program and the verb
	Env      []string // NAME=value
	WorkDir  string   // absolute: what relative paths start from
	ReadFile func(name string) ([]byte, error)
}

// ErrUsage is wrapped by errors of the command line itself: unknown flags, missing values.
var ErrUsage = errors.New("wrong usage")

// given is a value at one place.
type given struct {
	text, source string
}

// sources is all that was given: by setting, the place that wins first; and Kafka's settings by name likewise.
type sources struct {
	own      map[string][]given
	kafka    map[string][]given
	problems []error
}

func (s *sources) add(key, text, source string) {
	s.own[key] = append(s.own[key], given{text, source})
}

func (s *sources) problem(key, source, mend, format string, args ...any) {
	s.problems = append(s.problems, &Problem{key, source, fmt.Sprintf(format, args...), mend})
}

// Load reads all settings and checks them. The error joins a Problem for each that cannot be used, or wraps ErrUsage.
func Load(in Input) (*Config, error) {
	s := &sources{own: map[string][]given{}, kafka: map[string][]given{}}
	if err := s.readFlags(in.Args); err != nil {
		return nil, err
	}
	s.readEnv(in.Env)
	if file, ok := s.first("config"); ok && file.text != "" {
		s.readYAML(in, file)
	}
	s.readKafka(in)

	c := &Config{Kafka: map[string]string{}, kafka: map[string]Value{}}
	s.takeKafka(c)
	s.takeListeners(c)
	s.takeOwn(c, in.WorkDir)
	s.takeEtcd(c, in)
	if len(s.problems) == 0 {
		s.checkTogether(c)
	}
	if len(s.problems) > 0 {
		return nil, errors.Join(s.problems...)
	}
	c.tellKafka()
	return c, nil
}

func (s *sources) first(key string) (given, bool) {
	if len(s.own[key]) == 0 {
		return given{}, false
	}
	return s.own[key][0], true
}

// takeOwn gives every setting its value, in order: data-dir before what depends on it.
func (s *sources) takeOwn(c *Config, workDir string) {
	dir, ok := s.first("data-dir")
	if !ok {
		dir = given{"broker-data", "default"}
	}
	if dir.text == "" {
		s.problem("data-dir", dir.source, "name a folder that the broker may write to", "the folder's name is empty")
	}
	c.DataDir = absolute(workDir, dir.text)
	for _, d := range settings {
		g, ok := s.first(d.key)
		if !ok {
			g = given{d.def, "default"}
		}
		if d.set != nil {
			if err := d.set(c, g.text); err != nil {
				s.problem(d.key, g.source, d.mend, "%s", redact(err.Error(), g.text))
			}
		}
		shown := g.text
		switch {
		case d.key == "kafka":
			continue
		case d.key == "data-dir":
			shown = c.DataDir
		case d.key == "bucket":
			shown = c.Bucket
		case d.key == "etcd-password" && g.text != "":
			shown = hidden
		}
		c.values = append(c.values, Value{d.key, redactURL(shown), g.source, d.meaning})
	}
}

func absolute(workDir, path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(workDir, path)
}

// checkTogether holds what needs several settings.
func (s *sources) checkTogether(c *Config) {
	host, _, _ := splitAddress(c.Listen)
	if c.Advertise == "" && (host == "" || wildcard(host)) {
		s.problem("advertise", c.Source("advertise"), "set --advertise to the host:port that clients can reach, for example localhost:9092",
			"clients must be told an address, and listen is %s (%s)", c.Listen, c.Source("listen"))
	}
	if c.Listen == c.HTTP && !strings.HasSuffix(c.Listen, ":0") {
		s.problem("http", c.Source("http"), "give listen and http different ports", "%s is the address of listen too (%s)", c.HTTP, c.Source("listen"))
	}
}

// tellKafka shows the broker's own settings under Kafka's names in DescribeConfigs.
func (c *Config) tellKafka() {
	c.Kafka["listeners"] = "PLAINTEXT://" + c.Listen
	if c.Advertise != "" {
		c.Kafka["advertised.listeners"] = "PLAINTEXT://" + c.Advertise
	}
	if c.Rack != "" {
		c.Kafka["broker.rack"] = c.Rack
	}
	if c.BrokerID >= 0 {
		id := fmt.Sprint(c.BrokerID)
		c.Kafka["broker.id"], c.Kafka["node.id"] = id, id
	}
}

// Meaningless lists the Kafka settings that were given but mean nothing here, by name, for one line of the log.
func (c *Config) Meaningless() []string {
	var names []string
	for _, v := range c.Explain() {
		name, ok := strings.CutPrefix(v.Key, "kafka.")
		if !ok {
			continue
		}
		if k, known := kafkaconfig.Lookup(kafkaconfig.BrokerScope, name); !known || !k.Used() {
			names = append(names, name)
		}
	}
	return names
}
