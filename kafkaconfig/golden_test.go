package kafkaconfig

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// lines reads a file that a real Kafka 4.3.1 wrote: testdata/DumpConfigs.java, or answers of a broker.
func lines(t *testing.T, name string) [][]string {
	t.Helper()
	f, err := os.Open("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	var all [][]string
	s := bufio.NewScanner(f)
	for s.Scan() {
		all = append(all, strings.Split(s.Text(), "\t"))
	}
	if s.Err() != nil {
		t.Fatal(s.Err())
	}
	return all
}

func TestTablesAreKafkas(t *testing.T) {
	want, got := map[string]string{}, map[string]string{}
	synonyms := map[string][]Synonym{}
	for _, f := range lines(t, "kafka-4.3.1.tsv") {
		switch f[0] {
		case "T", "B":
			want[f[0]+" "+f[1]] = strings.Join([]string{f[2], f[3], f[5], f[6]}, " ")
		case "S":
			for _, s := range f[2:] {
				name, unit, _ := strings.Cut(s, "*")
				synonyms[f[1]] = append(synonyms[f[1]], Synonym{name, map[string]int64{"": 1, "m": 60_000, "h": 3_600_000}[unit]})
			}
		}
	}
	for prefix, tables := range map[string][][]row{"T ": {topicTable}, "B ": {brokerTable, storageTable, securityTable}} {
		for _, table := range tables {
			for _, r := range table {
				mode := ""
				if prefix == "B " {
					mode = map[Update]string{ReadOnly: "read-only", PerBroker: "per-broker", ClusterWide: "cluster-wide"}[r.update]
				}
				def := map[string]string{null: `\N`, required: `\R`}[r.def]
				if def == "" {
					def = r.def
				}
				got[prefix+r.name] = fmt.Sprintf("%s %s %v %s", r.typ, def, internalKeys[r.name], mode)
			}
		}
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("keys (-Kafka +ours):\n%s", d)
	}
	if d := cmp.Diff(synonyms, topicSynonyms); d != "" {
		t.Errorf("synonyms (-Kafka +ours):\n%s", d)
	}
}

func TestRangesAreKafkas(t *testing.T) {
	for _, f := range lines(t, "kafka-4.3.1.tsv") {
		if f[0] == "S" || !strings.HasPrefix(f[4], "[") || !strings.Contains(f[4], "...") || strings.Contains(f[4], ":") {
			continue
		}
		scope := map[string]Scope{"T": TopicScope, "B": BrokerScope}[f[0]]
		k, _ := Lookup(scope, f[1])
		low, high, _ := strings.Cut(strings.Trim(strings.TrimSuffix(f[4], " or -1"), "[]"), ",...")
		high = strings.Trim(high, ",]")
		check := func(bound string, step float64) {
			b, err := strconv.ParseFloat(bound, 64)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := k.parse(bound); err != nil {
				t.Errorf("%s: %s is refused: %v", k.Name, bound, err)
			}
			if _, err := k.parse(number(b + step)); err == nil {
				t.Errorf("%s: %s is accepted, Kafka wants %s", k.Name, number(b+step), f[4])
			}
		}
		check(low, -1)
		if high != "" {
			check(high, 1)
		}
	}
}

func TestEveryDefaultIsValid(t *testing.T) {
	for _, k := range append(TopicKeys(), BrokerKeys()...) {
		if k.Default != nil {
			v, err := k.parse(*k.Default)
			if err != nil || v.text != *k.Default {
				t.Errorf("%s: default %q reads as %q, %v", k.Name, *k.Default, v.text, err)
			}
		}
		if k.Doc == "" && !k.Internal {
			t.Errorf("%s has no documentation", k.Name)
		}
	}
}

func TestTopicValuesAreJudgedAsKafkaDoes(t *testing.T) {
	for _, f := range lines(t, "validate.tsv") {
		key, value, want := unquote(t, f[0]), unquote(t, f[1]), unquote(t, f[3])
		got := ""
		if err := ValidateTopic(key, &value); err != nil {
			got = err.Error()
		}
		if key == "min.cleanable.dirty.ratio" && value == "NaN" {
			want = "Invalid value NaN for configuration min.cleanable.dirty.ratio: Not a number of type DOUBLE" // Kafka accepts it
		}
		if got != want {
			t.Errorf("%s=%q:\n got %s\nwant %s", key, value, got, want)
		}
	}
}

func unquote(t *testing.T, s string) string {
	t.Helper()
	u, err := strconv.Unquote(s)
	if err != nil {
		t.Fatalf("%s: %v", s, err)
	}
	return u
}

// describeSections are the questions that testdata/describe.tsv answers, put to the same settings.
func describeSections() map[string][]Entry {
	static := map[string]string{
		"process.roles": "broker,controller", "node.id": "1", "broker.id": "1", "controller.quorum.voters": "1@localhost:19193",
		"listeners":                 "PLAINTEXT://localhost:19192,CONTROLLER://localhost:19193",
		"controller.listener.names": "CONTROLLER", "log.dirs": "/var/kafka", "log.retention.hours": "72",
		"offsets.topic.replication.factor": "1", "ssl.keystore.password": "sekret",
	}
	before := Layers{Static: static, ClusterDefault: map[string]string{"min.insync.replicas": "1"}}
	after := Layers{Static: static, ClusterDefault: map[string]string{
		"min.insync.replicas": "1", "message.max.bytes": "500000", "log.retention.ms": "1000000", "unknown.thing": "x",
		"log.segment.bytes": " 2000000 ", "log.cleanup.policy": "delete,compact",
	}}
	first := map[string]string{
		"retention.bytes": "+5", "segment.ms": "007", "preallocate": "TRUE", "cleanup.policy": " compact , delete ",
	}
	last := map[string]string{
		"retention.bytes": "+5", "segment.ms": "007", "preallocate": "TRUE", "cleanup.policy": "", "internal.segment.bytes": "5000",
	}
	return map[string][]Entry{
		"created":     DescribeCreated(first, before),
		"TOPIC t #1":  DescribeTopic(first, before, nil),
		"TOPIC t #2":  DescribeTopic(first, after, nil),
		"TOPIC t #4":  DescribeTopic(last, after, nil),
		"BROKER 1 #1": DescribeBroker(before, nil),
		"BROKER 1 #2": DescribeBroker(after, nil),
		"BROKER #1":   DescribeClusterDefault(before.ClusterDefault, nil),
		"BROKER #2":   DescribeClusterDefault(after.ClusterDefault, nil),
	}
}

func TestDescribeAnswersAsKafkaDoes(t *testing.T) {
	got := map[string]map[string]string{}
	for section, entries := range describeSections() {
		got[section] = map[string]string{}
		for _, e := range entries {
			if section == "created" {
				got[section][e.Name] = fmt.Sprintf("%s\t%d", shown(e.Value), e.Source)
				continue
			}
			s := fmt.Sprintf("%s\t%d\t%d\t%v\t%v", shown(e.Value), e.Source, e.Type, e.ReadOnly, e.Sensitive)
			for _, x := range e.Synonyms {
				s += fmt.Sprintf("\t%s=%s@%d", x.Name, shown(x.Value), x.Source)
			}
			got[section][e.Name] = s
		}
	}
	section := ""
	compared := 0
	for _, f := range lines(t, "describe.tsv") {
		if name, ok := strings.CutPrefix(f[0], "== "); ok {
			section = name
			continue
		}
		have, ok := got[section]
		if !ok {
			continue
		}
		want := strings.Join(f[1:], "\t")
		if section == "BROKER 1 #2" && f[0] == "log.retention.hours" { // Kafka forgets the static 72 once log.retention.ms changes
			want = strings.Replace(want, `"168"	4`, `"72"	4`, 1)
		}
		if have[f[0]] != want {
			t.Errorf("%s: %s\n got %s\nwant %s", section, f[0], have[f[0]], want)
		}
		compared++
	}
	if compared < 400 {
		t.Errorf("only %d lines compared", compared)
	}
	if n := len(got["BROKER 1 #1"]); n != 340 {
		t.Errorf("%d broker keys described, Kafka shows 340", n)
	}
}

func shown(s *string) string {
	if s == nil {
		return `\N`
	}
	return strconv.Quote(*s)
}
