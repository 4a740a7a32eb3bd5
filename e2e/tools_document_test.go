package e2e

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
)

var rewrite = flag.Bool("rewrite", false, "write what is expected into documents instead of comparing")

// TestCompatibilityDocument holds the tables of docs/COMPATIBILITY.md to the calls and differences of TestTools.
func TestCompatibilityDocument(t *testing.T) {
	const document, begin, end = "../docs/COMPATIBILITY.md", "<!-- generated: tools -->\n", "<!-- end of generated -->\n"
	text, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(text), begin)
	old, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no %q ... %q", document, begin, end)
	}
	want := toolTables()
	if old == want {
		return
	}
	if !*rewrite {
		t.Fatalf("%s is out of date; run go test . -run %s -args -rewrite in e2e/", document, t.Name())
	}
	if err := os.WriteFile(document, []byte(before+begin+want+end+after), 0o644); err != nil {
		t.Fatal(err)
	}
}

func toolTables() string {
	var b strings.Builder
	tried := map[string]int{}
	for _, st := range slices.Concat(scripts...) {
		if st.call != "" {
			tried[split(st.call)[0]]++
		}
	}
	b.WriteString("\n| Tool | Calls compared |\n|---|---:|\n")
	for _, tool := range slices.Sorted(maps.Keys(tried)) {
		fmt.Fprintf(&b, "| `%s` | %d |\n", tool, tried[tool])
	}
	for _, part := range []struct {
		title string
		table []*difference
	}{{"Differs, and will stay so", byDesign}, {"Not there yet", notYet}} {
		fmt.Fprintf(&b, "\n### %s\n\n| Tool | What differs | Why |\n|---|---|---|\n", part.title)
		for _, d := range part.table {
			fmt.Fprintf(&b, "| %s | %s | %s |\n", d.tools, d.what, d.why)
		}
	}
	b.WriteString("\n")
	return b.String()
}
