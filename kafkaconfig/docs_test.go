package kafkaconfig

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

var rewrite = flag.Bool("rewrite", false, "write what is expected into documents instead of comparing")

const document = "../docs/CONFIGURATION.md"

// TestConfigurationDocument holds the tables of Kafka keys in the documentation to the tables in code.
func TestConfigurationDocument(t *testing.T) {
	text, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "<!-- generated: kafka keys -->\n", "<!-- end of generated -->\n"
	before, rest, ok := strings.Cut(string(text), begin)
	old, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no %q ... %q", document, begin, end)
	}
	want := keyTables()
	if old == want {
		return
	}
	if !*rewrite {
		t.Fatalf("%s is out of date; run go test ./kafkaconfig -run %s -rewrite", document, t.Name())
	}
	if err := os.WriteFile(document, []byte(before+begin+want+end+after), 0o644); err != nil {
		t.Fatal(err)
	}
}

func keyTables() string {
	var b strings.Builder
	for _, s := range []struct {
		name string
		keys []*Key
	}{{"Topic", TopicKeys()}, {"Broker", BrokerKeys()}} {
		fmt.Fprintf(&b, "\n### %s keys with a meaning here\n\n", s.name)
		for _, k := range s.keys {
			if k.Used() {
				fmt.Fprintf(&b, "- `%s`\n", k.Name)
			}
		}
		fmt.Fprintf(&b, "\n### %s keys accepted without meaning\n\n| why | keys |\n|---|---|\n", s.name)
		var reasons []string
		byReason := map[string][]string{}
		for _, k := range s.keys {
			if k.Used() {
				continue
			}
			if byReason[k.Reason] == nil {
				reasons = append(reasons, k.Reason)
			}
			byReason[k.Reason] = append(byReason[k.Reason], "`"+k.Name+"`")
		}
		slices.Sort(reasons)
		for _, r := range reasons {
			fmt.Fprintf(&b, "| %s | %s |\n", r, strings.Join(byReason[r], ", "))
		}
	}
	b.WriteString("\n")
	return b.String()
}
