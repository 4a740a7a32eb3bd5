// Package report turns what was measured into tables and plots.
package report

import (
	"fmt"
	"io"
	"strings"
)

// Verdict of a measured value against its target.
type Verdict string

// Verdicts.
const (
	Met    Verdict = "met"
	NotMet Verdict = "not met"
	None   Verdict = "" // there is no target: for comparison
)

// Judge is Met if ok.
func Judge(ok bool) Verdict {
	if ok {
		return Met
	}
	return NotMet
}

// A Row is one measured thing.
type Row struct {
	Scenario string
	What     string // broker and conditions
	Measured string
	Target   string
	Verdict  Verdict
	Invalid  string // why it may not be used

	// Curve, if any, is where Point belongs.
	Curve string `json:",omitempty"`
	Point Point
}

// Curves collects the points of rows.
func Curves(rows []Row) (curves []Curve) {
	at := map[string]int{}
	for _, r := range rows {
		if r.Curve == "" {
			continue
		}
		i, ok := at[r.Curve]
		if !ok {
			i = len(curves)
			at[r.Curve] = i
			curves = append(curves, Curve{Name: r.Curve})
		}
		curves[i].Points = append(curves[i].Points, r.Point)
	}
	return curves
}

// WriteTable writes rows in Markdown.
func WriteTable(w io.Writer, rows []Row) error {
	var b strings.Builder
	b.WriteString("| Scenario | What | Measured | Target | |\n|---|---|---|---|---|\n")
	last := ""
	for _, r := range rows {
		name, verdict := r.Scenario, string(r.Verdict)
		if name == last {
			name = ""
		}
		last = r.Scenario
		if r.Invalid != "" {
			verdict = strings.TrimPrefix(verdict+"; run not valid: "+r.Invalid, "; ")
		}
		cells := []string{name, r.What, r.Measured, r.Target, verdict}
		for i := range cells {
			cells[i] = strings.ReplaceAll(cells[i], "|", "\\|")
		}
		fmt.Fprintf(&b, "| %s |\n", strings.Join(cells, " | "))
	}
	_, err := io.WriteString(w, b.String())
	return err
}
