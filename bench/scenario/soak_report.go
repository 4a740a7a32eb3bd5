package scenario

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"

	"github.com/tidemill/tidemill/bench/kgodriver"
	"github.com/tidemill/tidemill/bench/report"
)

// soakPanels are what is judged and drawn: series whose names begin with the panel's. Less than noise tells nothing.
var soakPanels = []struct {
	name  string
	noise float64
	sum   bool // judged together, too
}{{"objects", 10, true}, {"bucket MB", 1, true}, {"memory MiB", 8, false}, {"requests/s", .5, true}}

// mostGrowth is how much more the last third may show than the one before.
const mostGrowth = .1

// A panelLine is one series of a panel by its short name.
type panelLine struct {
	name   string
	values []float64
}

// linesOf returns a panel's series, and their sum at the end if there is more to it than one.
func linesOf(s *report.Series, panel string, sum bool) (lines []panelLine) {
	total := make([]float64, len(s.Seconds()))
	for _, name := range s.Names() {
		if short, ok := strings.CutPrefix(name, panel+": "); ok {
			lines = append(lines, panelLine{short, s.Values(name)})
			for i, v := range s.Values(name) {
				total[i] += v
			}
		}
	}
	if sum && len(lines) > 1 {
		lines = append(lines, panelLine{"all", total})
	}
	return lines
}

// judgeSoak adds a row for each panel.
func (e *Env) judgeSoak(s *report.Series, loads []*kgodriver.Steady) {
	var failed error
	want := 0.
	for _, l := range loads {
		failed = errors.Join(failed, l.Failed())
		want += l.MBPerSecond
	}
	acked := report.TrendOf(s.Values("load: MB/s acknowledged"))
	invalid := ""
	switch {
	case failed != nil:
		invalid = failed.Error()
	case len(s.Seconds()) < 9:
		invalid = fmt.Sprintf("only %d samples", len(s.Seconds()))
	case math.Min(acked.Second, acked.Last) < .98*want:
		invalid = fmt.Sprintf("%.1f and %.1f of %.1f MB/s were acknowledged", acked.Second, acked.Last, want)
	}
	what := fmt.Sprintf("%s at %.0f MB/s, S3 Standard, means of the second and the last third: ", e.Soak, want)
	for _, p := range soakPanels {
		text, flat := judgePanel(linesOf(s, p.name, p.sum), p.noise)
		e.add(report.Row{
			What: what + p.name, Measured: text, Target: "≤ 10 % more", Verdict: report.Judge(flat), Invalid: invalid,
		})
	}
	read, cores := report.TrendOf(s.Values("load: MB/s read")), report.TrendOf(s.Values("load: cores"))
	e.add(report.Row{
		What: what + "load",
		Measured: fmt.Sprintf("%.1f → %.1f MB/s acknowledged, %.1f → %.1f MB/s read by the group, broker %.2f → %.2f cores",
			acked.Second, acked.Last, read.Second, read.Last, cores.Second, cores.Last),
		Invalid: invalid,
	})
}

// judgePanel prints both means of each line; all must be flat.
func judgePanel(lines []panelLine, noise float64) (text string, flat bool) {
	flat = len(lines) > 0
	var parts []string
	for _, l := range lines {
		t := report.TrendOf(l.values)
		parts = append(parts, fmt.Sprintf("%s %.1f → %.1f (%+.0f %%)", l.name, t.Second, t.Last, t.Growth()*100))
		flat = flat && t.Flat(mostGrowth, noise)
	}
	return strings.Join(parts, ", "), flat
}

// writeSoak leaves the samples and the plot of them, also of a soak that failed.
func (e *Env) writeSoak(s *report.Series) error {
	if e.Plots == "" || len(s.Seconds()) < 2 {
		return nil
	}
	if err := os.MkdirAll(e.Plots, 0o755); err != nil {
		return err
	}
	f, err := os.Create(filepath.Join(e.Plots, "soak.csv"))
	if err != nil {
		return err
	}
	if err := errors.Join(s.WriteCSV(f), f.Close()); err != nil {
		return err
	}
	minutes := make([]float64, len(s.Seconds()))
	for i, at := range s.Seconds() {
		minutes[i] = at / 60
	}
	var panels []report.Panel
	for _, p := range soakPanels {
		panel := report.Panel{Label: p.name}
		for _, l := range linesOf(s, p.name, false) {
			panel.Lines = append(panel.Lines, report.Line{Name: l.name, Minutes: minutes, Vals: l.values})
		}
		panels = append(panels, panel)
	}
	return report.Panels(filepath.Join(e.Plots, "soak.png"), "Under a steady load, with retention and compaction", panels)
}
