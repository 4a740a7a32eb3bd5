package broker

import (
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/protocol"
)

var rewrite = flag.Bool("rewrite", false, "write the generated part of the README instead of comparing it")

// TestReadme holds the README's table of requests to what is served.
func TestReadme(t *testing.T) {
	const path, begin, end = "../README.md", "<!-- apis:begin", "<!-- apis:end -->"
	old, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok1 := strings.Cut(string(old), begin)
	line, rest, ok2 := strings.Cut(rest, "\n")
	_, tail, ok3 := strings.Cut(rest, end)
	if !ok1 || !ok2 || !ok3 {
		t.Fatalf("%s has no %s ... %s", path, begin, end)
	}
	want := head + begin + line + "\n" + protocol.MarkdownTable() + end + tail
	if want == string(old) {
		return
	}
	if !*rewrite {
		t.Fatalf("the table in %s is not what is served: run go test ./broker -run TestReadme -rewrite", path)
	}
	if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestEveryServedKeyHasAHandler keeps the table of requests and the handlers in step.
func TestEveryServedKeyHasAHandler(t *testing.T) {
	for _, a := range protocol.APIs() {
		if handlers[int16(a.Key)] == nil {
			t.Errorf("%s is served and has no handler", a.Name)
		}
	}
	if len(handlers) != len(protocol.APIs()) {
		t.Errorf("%d handlers for %d served requests", len(handlers), len(protocol.APIs()))
	}
}
