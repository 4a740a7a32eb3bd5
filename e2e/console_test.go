package e2e

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tidemill/tidemill/e2e/harness"
)

const (
	// toolLimit is for one call of a Java tool: two seconds of JVM, and a machine that is busy with other tests.
	toolLimit = 90 * time.Second
	toolHeap  = 128
)

// tools calls Kafka's command-line programs against one broker.
type tools struct {
	t    *testing.T
	addr string
}

func (k tools) run(stdin, class string, args ...string) string {
	k.t.Helper()
	args = append([]string{"--bootstrap-server", k.addr}, args...)
	return harness.Run(k.t, toolLimit, stdin, harness.Java(k.t, toolHeap, "org.apache.kafka.tools."+class, args...)...)
}

// topicsRefused is for kafka-topics calls that must exit with an error. It returns what they say.
func (k tools) topicsRefused(args ...string) string {
	k.t.Helper()
	args = append([]string{"--bootstrap-server", k.addr}, args...)
	out, err := harness.TryRun(toolLimit, "", harness.Java(k.t, toolHeap, "org.apache.kafka.tools.TopicCommand", args...)...)
	if err == nil {
		k.t.Fatalf("kafka-topics %v succeeds: %s", args, out)
	}
	return err.Error()
}

func (k tools) topics(args ...string) string { k.t.Helper(); return k.run("", "TopicCommand", args...) }
func (k tools) groups(args ...string) string {
	k.t.Helper()
	return k.run("", "consumer.group.ConsumerGroupCommand", args...)
}

// TestConsoleClients uses the tools that ship with Kafka, one scenario after the other on one broker.
func TestConsoleClients(t *testing.T) {
	broker := harness.NewBroker(t, harness.Settings{"group.initial.rebalance.delay.ms": "0"})
	t.Run("kafka-topics", func(t *testing.T) { consoleTopics(tools{t, broker.Addr}) })
	t.Run("producer and consumer", func(t *testing.T) { consoleRecords(tools{t, broker.Addr}) })
	t.Run("kafka-consumer-groups", func(t *testing.T) { consoleGroups(tools{t, broker.Addr}) })
}

func consoleTopics(k tools) {
	t := k.t
	k.topics("--create", "--topic", "console", "--partitions", "3", "--replication-factor", "1",
		"--config", "cleanup.policy=compact", "--config", "retention.ms=3600000")
	k.topics("--create", "--topic", "console", "--partitions", "3", "--if-not-exists")
	k.topics("--create", "--topic", "console-default")
	if got := k.topicsRefused("--create", "--topic", "console"); !strings.Contains(got, "already exists") {
		t.Errorf("create again: %s", got)
	}
	if got := strings.Fields(k.topics("--list", "--exclude-internal")); !cmp.Equal(got, []string{"console", "console-default"}) {
		t.Errorf("list: %v", got)
	}
	described := k.topics("--describe", "--topic", "console")
	contains(t, "describe", described, `Topic: console\s+TopicId: \S{22}\s+PartitionCount: 3\s+ReplicationFactor: 1\s+Configs: .*`,
		`cleanup\.policy=compact`, `retention\.ms=3600000`, `Partition: 2\s+Leader: (\d+)\s+Replicas: \d+\s+Isr: \d+`)
	contains(t, "describe with defaults", k.topics("--describe", "--topic", "console-default"), `PartitionCount: 1\s`)
	if got := strings.TrimSpace(k.topics("--describe", "--unavailable-partitions")); got != "" {
		t.Errorf("unavailable partitions: %s", got)
	}
	k.topics("--alter", "--topic", "console", "--partitions", "5")
	contains(t, "describe after alter", k.topics("--describe", "--topic", "console"), `PartitionCount: 5\s`, `Partition: 4\s`)
	if got := k.topicsRefused("--alter", "--topic", "console", "--partitions", "4"); !strings.Contains(got, "InvalidPartitionsException") {
		t.Errorf("fewer partitions: %s", got)
	}
	k.topics("--delete", "--topic", "console")
	if got := strings.Fields(k.topics("--list", "--exclude-internal")); !cmp.Equal(got, []string{"console-default"}) {
		t.Errorf("list after delete: %v", got)
	}
	if got := k.topicsRefused("--describe", "--topic", "console"); !strings.Contains(got, "does not exist") {
		t.Errorf("describe a deleted topic: %s", got)
	}
	k.topics("--create", "--topic", "console", "--partitions", "2")
	contains(t, "describe after re-creation", k.topics("--describe", "--topic", "console"), `PartitionCount: 2\s`)
}

func consoleRecords(k tools) {
	t := k.t
	for _, codec := range []string{"none", "gzip", "snappy", "lz4", "zstd"} {
		topic := "records-" + codec
		lines := numbered("key:value", 500)
		k.run(lines, "ConsoleProducer", "--topic", topic, "--compression-codec", codec,
			"--reader-property", "parse.key=true", "--reader-property", "key.separator=:")
		got := k.run("", "consumer.ConsoleConsumer", "--topic", topic, "--from-beginning", "--max-messages", "500",
			"--formatter-property", "print.key=true", "--formatter-property", "key.separator=:")
		if diff := cmp.Diff(lines, got); diff != "" {
			t.Errorf("%s: lines came back different (-sent +received):\n%s", codec, clip(diff))
		}
	}
	got := k.run("", "consumer.ConsoleConsumer", "--topic", "records-none", "--partition", "0", "--offset", "497", "--max-messages", "3",
		"--isolation-level", "read_committed", "--formatter-property", "print.offset=true")
	want := "Offset:497\tvalue 497\nOffset:498\tvalue 498\nOffset:499\tvalue 499\n"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("from an offset (-want +got):\n%s", diff)
	}
}

func consoleGroups(k tools) {
	t := k.t
	const group, topic = "console-group", "grouped"
	k.topics("--create", "--topic", topic, "--partitions", "1")
	k.run(numbered("line", 10), "ConsoleProducer", "--topic", topic)
	k.run("", "consumer.ConsoleConsumer", "--topic", topic, "--group", group, "--from-beginning", "--max-messages", "10")
	contains(t, "list", k.groups("--list"), `(?m)^`+group+`$`)
	k.describe(group, topic, 10, 10)
	contains(t, "state", k.groups("--describe", "--group", group, "--state"), group+`\s.*\sEmpty\s+0`)

	contains(t, "reset", k.groups("--reset-offsets", "--group", group, "--topic", topic, "--to-offset", "4", "--execute"), topic+`\s+0\s+4`)
	k.describe(group, topic, 4, 10)
	got := k.run("", "consumer.ConsoleConsumer", "--topic", topic, "--group", group, "--max-messages", "1")
	if got != "line 4\n" {
		t.Errorf("first line after the reset: %q", got)
	}
	k.groups("--reset-offsets", "--group", group, "--topic", topic, "--to-earliest", "--execute")
	k.describe(group, topic, 0, 10)
	k.groups("--reset-offsets", "--group", group, "--all-topics", "--to-latest", "--execute")
	k.describe(group, topic, 10, 10)

	busyGroup(k, topic)

	contains(t, "delete offsets", k.groups("--delete-offsets", "--group", group, "--topic", topic), topic+`\s+0\s+Successful`)
	contains(t, "delete", k.groups("--delete", "--group", group), `successful`)
	if got := strings.Fields(k.groups("--list")); slices.Contains(got, group) {
		t.Errorf("list after delete: %v", got)
	}
}

// busyGroup checks what may not be done to a group with a live member.
func busyGroup(k tools, topic string) {
	t := k.t
	const group = "busy-group"
	argv := harness.Java(t, toolHeap, "org.apache.kafka.tools.consumer.ConsoleConsumer",
		"--bootstrap-server", k.addr, "--topic", topic, "--group", group, "--from-beginning")
	member := harness.Start(t, "console-consumer", argv...)
	harness.Eventually(t, toolLimit, "the member reads", func() error {
		if out := member.Output(); !strings.Contains(out, "line 9\n") {
			return fmt.Errorf("it wrote %q", out)
		}
		return nil
	})
	contains(t, "members", k.groups("--describe", "--group", group, "--members", "--verbose"), group+`\s+console-consumer-\S+\s+/127\.0\.0\.1\s.*\s1\s.*`+topic+`.*0`)
	contains(t, "state", k.groups("--describe", "--group", group, "--state"), group+`\s.*range\s+Stable\s+1`)
	contains(t, "delete with a member", k.groups("--delete", "--group", group), `could not be deleted due to: \S*GroupNotEmptyException`)
	member.Terminate(toolLimit)
	harness.Eventually(t, toolLimit, "the member left", func() error {
		if got := k.groups("--describe", "--group", group, "--state"); !strings.Contains(got, "Empty") {
			return fmt.Errorf("state: %s", got)
		}
		return nil
	})
}

// describe checks one line of kafka-consumer-groups --describe.
func (k tools) describe(group, topic string, offset, end int64) {
	k.t.Helper()
	line := fmt.Sprintf(`%s\s+%s\s+0\s+%d\s+%d\s+%d\s+-`, group, topic, offset, end, end-offset)
	contains(k.t, "describe", k.groups("--describe", "--group", group), line)
}

// contains checks that out has a match of every pattern.
func contains(t *testing.T, what, out string, patterns ...string) {
	t.Helper()
	for _, p := range patterns {
		if !regexp.MustCompile(p).MatchString(out) {
			t.Errorf("%s: no match of %q in:\n%s", what, p, out)
		}
	}
}
