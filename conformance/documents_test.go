package conformance

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// testSources maps every test of the repository, as package.Name, to its text with its comment.
func testSources(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != ".." && strings.HasPrefix(d.Name(), "."):
			return filepath.SkipDir
		case d.IsDir() || !strings.HasSuffix(path, "_test.go"):
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, path, text, parser.ParseComments)
		if err != nil {
			return err
		}
		for _, decl := range file.Decls {
			if fn, ok := decl.(*ast.FuncDecl); ok && fn.Recv == nil && strings.HasPrefix(fn.Name.Name, "Test") {
				start := fn.Pos()
				if fn.Doc != nil {
					start = fn.Doc.Pos()
				}
				name := strings.TrimSuffix(file.Name.Name, "_test") + "." + fn.Name.Name
				out[name] += string(text[fset.Position(start).Offset:fset.Position(fn.End()).Offset])
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

var testName = regexp.MustCompile("`([a-z0-9]+\\.Test[A-Za-z0-9_]+)`")

// tableRows returns the cells of a document's rows that follow a heading of a table.
func tableRows(t *testing.T, file, heading string) [][]string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "docs", file))
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := strings.Cut(string(text), "\n"+heading+"\n")
	if !found {
		t.Fatalf("%s has no table %s", file, heading)
	}
	var rows [][]string
	for i, line := range strings.Split(table, "\n") {
		if i == 0 {
			continue // the line below the heading
		}
		if !strings.HasPrefix(line, "|") {
			break
		}
		var cells []string
		for _, cell := range strings.Split(strings.Trim(line, "|"), "|") {
			cells = append(cells, strings.TrimSpace(cell))
		}
		rows = append(rows, cells)
	}
	return rows
}

// numbered are names of rules with their numbers, "P1" to "P11".
func numbered(prefix string, from, to int) []string {
	var out []string
	for i := from; i <= to; i++ {
		out = append(out, fmt.Sprint(prefix, i))
	}
	return out
}

// speaksOf reports whether a text has a rule's name, which no digit follows.
func speaksOf(text, rule string) bool {
	if n, ok := strings.CutPrefix(rule, "3.2."); ok {
		return regexp.MustCompile(`rules? ` + n + `\b|rules .*\band ` + n + `\b`).MatchString(text)
	}
	return regexp.MustCompile(rule + `(?:\D|$)`).MatchString(text)
}

// TestRulesIndex holds the last table of docs/KAFKA.md: each rule has its tests, or a reason why it has none.
func TestRulesIndex(t *testing.T) {
	tests := testSources(t)
	want := slices.Concat(numbered("A", 1, 10), numbered("3.2.", 1, 12), numbered("P", 1, 11), numbered("F", 1, 14), numbered("L", 1, 4),
		numbered("E", 1, 3), numbered("G", 0, 18), numbered("T", 1, 17), numbered("M", 1, 16), numbered("C", 1, 10), numbered("S", 1, 6),
		numbered("N", 1, 7), numbered("D", 10, 11))
	seen := map[string]bool{}
	for _, row := range tableRows(t, "KAFKA.md", "| rules | held by |") {
		names := testName.FindAllStringSubmatch(row[1], -1)
		if len(names) == 0 && !strings.HasPrefix(row[1], "not yet: ") {
			t.Errorf("%s: neither a test nor a reason: %s", row[0], row[1])
		}
		for _, rule := range strings.Split(row[0], ", ") {
			if seen[rule] || !slices.Contains(want, rule) {
				t.Errorf("rule %s stands twice, or there is no such rule", rule)
			}
			seen[rule] = true
			for _, name := range names {
				if text, ok := tests[name[1]]; !ok {
					t.Errorf("%s: there is no test %s", rule, name[1])
				} else if !speaksOf(text, rule) {
					t.Errorf("%s: %s does not speak of it", rule, name[1])
				}
			}
		}
	}
	for _, rule := range want {
		if !seen[rule] {
			t.Errorf("rule %s is missing", rule)
		}
	}
}

// TestPeersDocument holds docs/PEERS.md: each failure has tests that carry its name, and each such test is there.
func TestPeersDocument(t *testing.T) {
	tests := testSources(t)
	want := slices.Concat(numbered("K", 1, 18), numbered("N", 1, 6), []string{"AutoMQ 1", "AutoMQ 6", "AutoMQ 13", "AutoMQ 15"})
	told := map[string]bool{}
	var failures []string
	for _, row := range tableRows(t, "PEERS.md", "| failure | what happened there | held here by |") {
		failures = append(failures, row[0])
		names := testName.FindAllStringSubmatch(row[2], -1)
		if len(names) == 0 {
			t.Errorf("%s has no test", row[0])
		}
		for _, name := range names {
			told[name[1]] = true
			if _, ok := tests[name[1]]; !ok {
				t.Errorf("%s: there is no test %s", row[0], name[1])
			}
			if _, rest, _ := strings.Cut(name[1], "TestPeer"); !speaksOf(rest, strings.ReplaceAll(row[0], " ", "")) {
				t.Errorf("%s: the name of %s does not say so", row[0], name[1])
			}
		}
	}
	if !slices.Equal(failures, want) {
		t.Errorf("the failures are %v, want %v", failures, want)
	}
	for name := range tests {
		if _, rest, ok := strings.Cut(name, ".TestPeer"); ok && !told[name] && rest != "sDocument" {
			t.Errorf("%s is not in docs/PEERS.md", name)
		}
	}
}
