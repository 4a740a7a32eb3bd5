package e2e

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidemill/tidemill/e2e/harness"
)

var answersDir = flag.String("answers", "", "a folder to write every answer of TestTools to, of both brokers, for reading")

const (
	// callLimit is for one call of a tool in a warm JVM, on a machine that is busy with other tests.
	callLimit = 2 * time.Minute
	toolHeap  = 128
)

// commands are Kafka's command-line tools that talk to a broker, and their classes.
var commands = map[string]string{
	"ClientCompatibilityTest":         "org.apache.kafka.tools.ClientCompatibilityTest",
	"kafka-acls":                      "org.apache.kafka.tools.AclCommand",
	"kafka-broker-api-versions":       "org.apache.kafka.tools.BrokerApiVersionsCommand",
	"kafka-client-metrics":            "org.apache.kafka.tools.ClientMetricsCommand",
	"kafka-cluster":                   "org.apache.kafka.tools.ClusterTool",
	"kafka-configs":                   "kafka.admin.ConfigCommand",
	"kafka-console-consumer":          "org.apache.kafka.tools.consumer.ConsoleConsumer",
	"kafka-console-producer":          "org.apache.kafka.tools.ConsoleProducer",
	"kafka-console-share-consumer":    "org.apache.kafka.tools.consumer.ConsoleShareConsumer",
	"kafka-consumer-groups":           "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
	"kafka-consumer-perf-test":        "org.apache.kafka.tools.ConsumerPerformance",
	"kafka-delegation-tokens":         "org.apache.kafka.tools.DelegationTokenCommand",
	"kafka-delete-records":            "org.apache.kafka.tools.DeleteRecordsCommand",
	"kafka-e2e-latency":               "org.apache.kafka.tools.EndToEndLatency",
	"kafka-features":                  "org.apache.kafka.tools.FeatureCommand",
	"kafka-get-offsets":               "org.apache.kafka.tools.GetOffsetShell",
	"kafka-groups":                    "org.apache.kafka.tools.GroupsCommand",
	"kafka-leader-election":           "org.apache.kafka.tools.LeaderElectionCommand",
	"kafka-log-dirs":                  "org.apache.kafka.tools.LogDirsCommand",
	"kafka-metadata-quorum":           "org.apache.kafka.tools.MetadataQuorumCommand",
	"kafka-producer-perf-test":        "org.apache.kafka.tools.ProducerPerformance",
	"kafka-reassign-partitions":       "org.apache.kafka.tools.reassign.ReassignPartitionsCommand",
	"kafka-share-groups":              "org.apache.kafka.tools.consumer.group.ShareGroupCommand",
	"kafka-streams-application-reset": "org.apache.kafka.tools.StreamsResetter",
	"kafka-streams-groups":            "org.apache.kafka.tools.streams.StreamsGroupCommand",
	"kafka-topics":                    "org.apache.kafka.tools.TopicCommand",
	"kafka-transactions":              "org.apache.kafka.tools.TransactionsCommand",
	"kafka-verifiable-consumer":       "org.apache.kafka.tools.VerifiableConsumer",
	"kafka-verifiable-producer":       "org.apache.kafka.tools.VerifiableProducer",
}

// A step is one call of a tool, or something done with another client between calls.
type step struct {
	// call is a command line: words between spaces, '' around a word that has spaces itself. --bootstrap-server is put in
	// front of the arguments, or where $broker stands. $file is the path of a file with the content of file.
	call, stdin, file string
	do                func(*side)
}

// scripts are scenarios: their steps depend on each other, and little on those of others.
var scripts = [][]step{topicSteps, configSteps, groupSteps, recordSteps, clusterSteps, shareSteps}

// calls makes steps of lines with one call each.
func calls(lines string) []step {
	var steps []step
	for _, line := range strings.Split(strings.TrimSpace(lines), "\n") {
		steps = append(steps, step{call: strings.TrimSpace(line)})
	}
	return steps
}

// A side is one of the two brokers and the tools that talk to it.
type side struct {
	t      *testing.T
	name   string
	broker *harness.Broker
	tools  *harness.Tools
	// members are the live members of groups.
	members map[string][]*kgo.Client
}

// TestTools makes the same calls of Kafka's tools against the broker under test and against a real Apache Kafka, and compares
// the answers: status, standard output and standard error. What may differ is in the table of differences, and nowhere else.
func TestTools(t *testing.T) {
	if harness.OnKafka() {
		t.Skip("it compares with Kafka")
	}
	settings := harness.Settings{"group.initial.rebalance.delay.ms": "0"}
	ours := &side{t: t, name: "ours", broker: harness.NewBroker(t, settings), tools: harness.StartTools(t, toolHeap)}
	kafka := &side{t: t, name: "kafka", broker: harness.NewKafka(t, settings), tools: harness.StartTools(t, toolHeap)}
	table := slices.Concat(byDesign, notYet)
	for _, steps := range scripts {
		answers := make([]string, len(steps))
		for i, st := range steps {
			answers[i] = ours.run(st)
		}
		for i, st := range steps {
			compare(t, st.call, table, answers[i], func() string { return kafka.run(st) })
		}
	}
	for _, d := range table {
		if !d.seen {
			t.Errorf("no longer seen, take it out of the table: %s: %s", d.calls, d.what)
		}
	}
}

// run takes a step and returns what the call said, normalised.
func (s *side) run(st step) string {
	s.t.Helper()
	if st.do != nil {
		st.do(s)
		return ""
	}
	words := split(st.call)
	class, ok := commands[words[0]]
	if !ok {
		s.t.Fatalf("no such tool: %s", words[0])
	}
	args := words[1:]
	if !slices.Contains(args, "$broker") {
		args = append([]string{"$broker"}, args...)
	}
	var argv []string
	for _, arg := range args {
		switch arg {
		case "$broker":
			argv = append(argv, "--bootstrap-server", s.broker.Addr)
		case "$file":
			argv = append(argv, harness.WriteFile(s.t, "input", st.file))
		default:
			argv = append(argv, arg)
		}
	}
	begun := time.Now()
	got := s.tools.Call(callLimit, class, st.stdin, argv...)
	text := fmt.Sprintf("status %d\n%s", got.Status, normal(st.call, got.Stdout+"--\n"+got.Stderr))
	if *answersDir != "" {
		f, err := os.OpenFile(filepath.Join(*answersDir, s.name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err != nil {
			s.t.Fatal(err)
		}
		fmt.Fprintf(f, "=== %s [%v]\n%s\n", st.call, time.Since(begun).Round(time.Millisecond), text)
		f.Close()
	}
	return text
}

// split cuts a command line into words.
func split(line string) []string {
	var words []string
	for i, part := range strings.Split(line, "'") {
		if i%2 == 1 {
			words = append(words, part)
		} else {
			words = append(words, strings.Fields(part)...)
		}
	}
	return words
}
