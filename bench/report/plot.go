package report

import (
	"fmt"
	"image/color"
	"math"
	"os"
	"path/filepath"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// A Point is what a broker showed at one load: MB/s, and latencies in ms.
type Point struct {
	Load                     float64
	AckP50, AckP99           float64
	EndToEndP50, EndToEndP99 float64
}

// A Curve is one broker's points.
type Curve struct {
	Name   string
	Points []Point
}

// colours are told apart by people who see colours otherwise, too.
var colours = []color.Color{
	color.RGBA{0x00, 0x72, 0xb2, 0xff}, color.RGBA{0xd5, 0x5e, 0x00, 0xff}, color.RGBA{0x00, 0x9e, 0x73, 0xff}, color.RGBA{0xcc, 0x79, 0xa7, 0xff},
}

// Plot draws ack.png and end-to-end.png into dir: p50 as lines, p99 dashed.
func Plot(dir string, curves []Curve) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, f := range []struct {
		name, title string
		p50, p99    func(Point) float64
	}{
		{"ack", "Time to acknowledgement against load", func(p Point) float64 { return p.AckP50 }, func(p Point) float64 { return p.AckP99 }},
		{
			"end-to-end", "Time from producer to consumer against load",
			func(p Point) float64 { return p.EndToEndP50 }, func(p Point) float64 { return p.EndToEndP99 },
		},
	} {
		p := plot.New()
		p.Title.Text = f.title
		p.X.Label.Text, p.Y.Label.Text = "MB/s", "ms (log scale)"
		p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
		p.Legend.Top, p.Legend.Left = true, true
		p.BackgroundColor = color.White
		p.Add(plotter.NewGrid())
		for i, c := range curves {
			if err := addCurve(p, c, i, f.p50, f.p99); err != nil {
				return err
			}
		}
		// Whole decades, so that every labelled tick is a round number; room above for the legend.
		p.Y.Min = math.Pow(10, math.Floor(math.Log10(p.Y.Min)))
		p.Y.Max = math.Pow(10, math.Ceil(math.Log10(p.Y.Max))+.7)
		p.X.Min = 0
		if err := p.Save(18*vg.Centimeter, 11*vg.Centimeter, filepath.Join(dir, f.name+".png")); err != nil {
			return fmt.Errorf("plot %s: %w", f.name, err)
		}
	}
	return nil
}

func addCurve(p *plot.Plot, c Curve, i int, p50, p99 func(Point) float64) error {
	if len(c.Points) == 0 {
		return nil
	}
	for q, of := range []func(Point) float64{p50, p99} {
		xys := make(plotter.XYs, len(c.Points))
		for j, point := range c.Points {
			xys[j] = plotter.XY{X: point.Load, Y: math.Max(of(point), .001)}
		}
		line, points, err := plotter.NewLinePoints(xys)
		if err != nil {
			return fmt.Errorf("curve %s: %w", c.Name, err)
		}
		line.Color, line.Width = colours[i%len(colours)], vg.Points(1.5)
		points.Color, points.Shape, points.Radius = line.Color, draw.CircleGlyph{}, vg.Points(2)
		name := c.Name + ", p50"
		if q == 1 {
			line.Dashes = []vg.Length{vg.Points(4), vg.Points(3)}
			name = c.Name + ", p99"
		}
		p.Add(line, points)
		p.Legend.Add(name, line)
	}
	return nil
}
