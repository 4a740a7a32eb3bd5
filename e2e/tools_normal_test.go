package e2e

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
)

// A mask hides what may differ between two runs of one broker.
type mask struct {
	tools   string // those it is for; empty for all
	pattern *regexp.Regexp
	with    string
}

var masks = []mask{
	{"", regexp.MustCompile(`\n\tat [^\n]*`), ""},
	{"", regexp.MustCompile(`\n\t\.\.\. \d+ more`), ""},
	{"", regexp.MustCompile(`[^\s"=]*/TestTools[^\s"]*/input`), "<file>"},
	{"", regexp.MustCompile(`(file://)?[^\s"=:]*/TestTools[^\s",}]*/data(/bucket)?`), "<data>"},
	{"", regexp.MustCompile(`127\.0\.0\.1:\d+`), "<address>"},
	{"", regexp.MustCompile(`(TopicId: )\S{22}`), "$1<id>"},
	{"", regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`), "<uuid>"},
	{"kafka-verifiable-producer", regexp.MustCompile(`"(avg_throughput|target_throughput)":[\d.E-]+`), `"$1":0`},
	{"", regexp.MustCompile(`\b\d{13}\b`), "<time>"},
	{"", regexp.MustCompile(`\b(console-consumer|perf-consumer|test-group|adminclient)-\d+`), "$1-<n>"},
	{"kafka-cluster", regexp.MustCompile(`(127\.0\.0\.1) \d+`), "$1 <port>"},
	{"kafka-cluster", regexp.MustCompile(`(Cluster ID: )\S{22}`), "$1<id>"},
	{"kafka-consumer-perf-test kafka-producer-perf-test kafka-e2e-latency", regexp.MustCompile(`\b(\d+(\.\d+)?(E-\d+)?|NaN|Infinity)`), "<n>"},
	{"kafka-get-offsets", regexp.MustCompile(`(__\w+:\d+):\d+`), "$1:<n>"},
	{"", regexp.MustCompile(`[ \t]+`), " "},
	{"", regexp.MustCompile(` \n`), "\n"},
}

// unordered are the calls whose lines come in the order of a hash map of random ids.
var unordered = regexp.MustCompile(`^kafka-consumer-groups --describe`)

// normal is an answer without what is never the same twice: ids, ports, times, how fast this machine is, how wide a
// column has to be for them, and orders that hash maps make.
func normal(call, text string) string {
	tool, _, _ := strings.Cut(call, " ")
	text = sortedObjects(text)
	for _, m := range masks {
		if m.tools == "" || slices.Contains(strings.Fields(m.tools), tool) {
			text = m.pattern.ReplaceAllString(text, m.with)
		}
	}
	if unordered.MatchString(call) {
		lines := strings.Split(text, "\n")
		slices.Sort(lines)
		text = strings.Join(lines, "\n")
	}
	return text
}

// sortedObjects orders the fields of lines that are JSON objects.
func sortedObjects(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		var object map[string]any
		if json.Unmarshal([]byte(line), &object) != nil {
			continue
		}
		if sorted, err := json.Marshal(object); err == nil {
			lines[i] = string(sorted)
		}
	}
	return strings.Join(lines, "\n")
}
