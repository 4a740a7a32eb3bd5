package e2e

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// settleLimit bounds how long Kafka may take to know what it has acknowledged.
const settleLimit = 20 * time.Second

// A difference is one that may be there, and that must be there: one that is no longer seen has to leave the table.
type difference struct {
	// tools are named in the document; calls matches the calls that it shows in.
	tools, calls string
	// kafka and ours match what is taken out of either answer before the two are compared; "" takes nothing out.
	kafka, ours string
	// what and why are for readers of docs/COMPATIBILITY.md.
	what, why string
	// seen is set when it explained something.
	seen bool
}

// readOnly are the calls that change nothing and may be made again.
var readOnly = regexp.MustCompile(` (--)?(describe|list|dry-run)\b|^kafka-get-offsets`)

// compare checks that two answers are equal but for the table. Kafka's broker is asked again for a while where it says
// something else: it acknowledges a change before all of it knows. Ours is not: what it acknowledged is in force.
func compare(t *testing.T, call string, table []*difference, ours string, kafka func() string) {
	t.Helper()
	unexplained := differ(call, table, kafka(), ours)
	if unexplained != "" && readOnly.MatchString(call) {
		deadline := time.Now().Add(settleLimit)
		for unexplained != "" && time.Now().Before(deadline) {
			unexplained = differ(call, table, kafka(), ours)
		}
	}
	if unexplained != "" {
		t.Errorf("%s\n(-kafka +ours):\n%s", call, clip(unexplained))
	}
}

// differ returns how the answers differ beyond the table, and "" when they do not.
func differ(call string, table []*difference, kafka, ours string) string {
	for _, d := range table {
		if kafka == ours {
			break
		}
		if !regexp.MustCompile(d.calls).MatchString(call) {
			continue
		}
		k, o := cut(kafka, d.kafka), cut(ours, d.ours)
		d.seen = d.seen || k != kafka || o != ours
		kafka, ours = k, o
	}
	if kafka == ours {
		return ""
	}
	return cmp.Diff(strings.Split(kafka, "\n"), strings.Split(ours, "\n"))
}

// cut takes every match of a pattern out of text.
func cut(text, pattern string) string {
	if pattern == "" {
		return text
	}
	return regexp.MustCompile("(?m)"+pattern).ReplaceAllString(text, "")
}
