package report

import (
	"errors"
	"fmt"
	"image/color"
	"os"
	"path/filepath"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
)

// A Panel is one of several plots over the same time.
type Panel struct {
	Label string // of its axis, with the unit
	Lines []Line
}

// A Line is values at minutes.
type Line struct {
	Name          string
	Minutes, Vals []float64
}

// Panels draws panels one above the other into a PNG file, with the title over the first.
func Panels(path, title string, panels []Panel) (err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	plots := make([][]*plot.Plot, len(panels))
	for i, panel := range panels {
		p := plot.New()
		p.BackgroundColor = color.White
		p.Y.Label.Text, p.Y.Min = panel.Label, 0
		p.Legend.Top, p.Legend.Left = true, true
		p.Add(plotter.NewGrid())
		if err := addLines(p, panel.Lines); err != nil {
			return fmt.Errorf("panel %s: %w", panel.Label, err)
		}
		p.Y.Max = max(p.Y.Max*1.6, 1) // room for the legend
		plots[i] = []*plot.Plot{p}
	}
	plots[0][0].Title.Text = title
	plots[len(plots)-1][0].X.Label.Text = "minutes"
	canvas := vgimg.New(18*vg.Centimeter, vg.Length(len(panels))*6*vg.Centimeter)
	tiles := draw.Tiles{Rows: len(panels), Cols: 1, PadY: vg.Points(6), PadTop: vg.Points(6), PadRight: vg.Points(8)}
	for i, row := range plot.Align(plots, tiles, draw.New(canvas)) {
		plots[i][0].Draw(row[0])
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	_, err = vgimg.PngCanvas{Canvas: canvas}.WriteTo(f)
	return err
}

func addLines(p *plot.Plot, lines []Line) error {
	for i, l := range lines {
		xys := make(plotter.XYs, len(l.Vals))
		for j := range xys {
			xys[j] = plotter.XY{X: l.Minutes[j], Y: l.Vals[j]}
		}
		line, err := plotter.NewLine(xys)
		if err != nil {
			return fmt.Errorf("line %s: %w", l.Name, err)
		}
		line.Color, line.Width = colours[i%len(colours)], vg.Points(1.5)
		if i >= len(colours) { // as many again are told apart by dashes
			line.Dashes = []vg.Length{vg.Points(4), vg.Points(3)}
		}
		p.Add(line)
		p.Legend.Add(l.Name, line)
	}
	return nil
}
