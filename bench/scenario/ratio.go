package scenario

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/tidemill/tidemill/bench/peer"
	"github.com/tidemill/tidemill/bench/rawdriver"
	"github.com/tidemill/tidemill/bench/report"
)

// A load is one thing that the raw driver does to both brokers.
type load struct {
	name   string
	pinned bool     // broker on core 0, the rest on core 1
	before []string // prepares the topic, once for each broker
	args   []string
	flags  []string // of our broker
	perGB  bool     // the figure is CPU-s/GB, else us of CPU per request
}

// DefaultShape of the produce load: 16 connections with 8 requests of 64 KiB in flight on each, so that slots fill.
const DefaultShape = "16x8"

func loads(d time.Duration, shape string) []load {
	conns, depth, _ := strings.Cut(shape, "x")
	return []load{
		{
			name: "produce", perGB: true,
			args: []string{"produce", "-topic", "large", "-conns", conns, "-partitions", conns, "-depth", depth, "-batch", "65536", "-for", d.String()},
		},
		{
			name: "fetch", perGB: true,
			before: []string{"produce", "-topic", "tail", "-conns", "4", "-depth", "4", "-batch", "65536", "-requests", "128"},
			args:   []string{"fetch", "-topic", "tail", "-conns", "4", "-for", d.String()},
		},
		{
			name: "small", pinned: true,
			args: []string{
				"produce", "-topic", "small", "-conns", "8", "-partitions", "8", "-depth", "32", "-batch", "1100", "-record", "1000",
				"-for", d.String(),
			},
			flags: []string{"--puts-per-second", "10000"},
		},
	}
}

// An outcome is one run of a load on one broker.
type outcome struct {
	rawdriver.Result
	cpu time.Duration // of the broker
}

func (o outcome) cpuPerGB() float64 { return o.cpu.Seconds() / (float64(o.Bytes) / 1e9) }

func (o outcome) microsPerRequest() float64 {
	return float64(o.cpu.Microseconds()) / float64(o.Requests)
}

func (o outcome) perSecond() float64 { return float64(o.Requests) / o.Seconds }

func produce64k(_ context.Context, e *Env) error {
	return e.against(2.0, "produce")
}

func tailFetch(_ context.Context, e *Env) error {
	return e.against(1.5, "fetch")
}

// small asks for a rate rather than for a ratio. The budget of PUTs is lifted: on storage without delay it would be all that
// is measured, since the window of the driver is what a slot holds.
func small(_ context.Context, e *Env) error {
	return e.against(45_000, "small")
}

// against compares with the null broker, and looks at Apache Kafka under the same load.
func (e *Env) against(target float64, name string) error {
	all := loads(e.Duration, DefaultShape)
	l := all[slices.IndexFunc(all, func(l load) bool { return l.name == name })]
	c, err := compare(e.Lab, l, e.Rounds, e.Flags)
	if err != nil {
		return err
	}
	unit := "CPU-s/GB"
	if !l.perGB {
		unit = "us CPU a request"
	}
	e.add(report.Row{What: "null broker", Measured: fmt.Sprintf("%s %s, %s", spread(c.null), unit, c.speed(c.nullSpeed))})
	row := report.Row{What: "broker", Measured: fmt.Sprintf("%s %s, %s", spread(c.own), unit, c.speed(c.ownSpeed))}
	if !l.perGB {
		row.Target, row.Verdict = fmt.Sprintf("≥ %.0f/s", target), report.Judge(median(c.ownSpeed) >= target)
	}
	e.add(row)
	if l.perGB {
		e.add(report.Row{
			What: "ratio of neighbouring runs", Measured: spread(c.ratio),
			Target: fmt.Sprintf("≤ %.1f", target), Verdict: report.Judge(median(c.ratio) <= target),
		})
	}
	return e.kafkaUnder(l, unit)
}

// kafkaUnder drives Apache Kafka, after it has warmed up.
func (e *Env) kafkaUnder(l load, unit string) error {
	core, driver := l.cores()
	b, stop, err := e.kafka(core)
	if err != nil {
		return err
	}
	defer stop()
	if err := l.prepare(e.Lab, b, driver); err != nil {
		return err
	}
	k := comparison{load: l}
	for range e.Rounds + 2 {
		o, err := drive(e.Lab, b, driver, l.args)
		if err != nil {
			return err
		}
		k.own, k.ownSpeed = append(k.own, l.figure(o)), append(k.ownSpeed, l.pace(o))
	}
	k.own, k.ownSpeed = k.own[2:], k.ownSpeed[2:] // what the compiler was still at
	e.add(report.Row{What: "Apache Kafka 4.3.1", Measured: fmt.Sprintf("%s %s, %s", spread(k.own), unit, k.speed(k.ownSpeed))})
	return nil
}

// Ratio is the gate: it compares the named loads and writes a line for each.
func Ratio(w io.Writer, lab *peer.Lab, names []string, shape string, rounds int, d time.Duration, flags []string) error {
	for _, l := range loads(d, shape) {
		if !slices.Contains(names, l.name) {
			continue
		}
		c, err := compare(lab, l, rounds, flags)
		if err != nil {
			return err
		}
		unit := "CPU-s/GB"
		if !l.perGB {
			unit = "us CPU a request"
		}
		fmt.Fprintf(w, "%-8s null %s %s, %s | broker %s, %s | ratio %s\n", l.name,
			spread(c.null), unit, c.speed(c.nullSpeed), spread(c.own), c.speed(c.ownSpeed), spread(c.ratio))
	}
	return nil
}

// A comparison holds the figures of runs that were neighbours.
type comparison struct {
	load
	null, own, ratio    []float64
	nullSpeed, ownSpeed []float64
}

func (c comparison) speed(v []float64) string {
	if c.perGB {
		return fmt.Sprintf("%.0f MB/s", median(v))
	}
	return fmt.Sprintf("%.0f requests/s", median(v))
}

func (l load) figure(o outcome) float64 {
	if l.perGB {
		return o.cpuPerGB()
	}
	return o.microsPerRequest()
}

func (l load) pace(o outcome) float64 {
	if l.perGB {
		return o.MBPerSecond()
	}
	return o.perSecond()
}

// cores are the broker's and the driver's; -1 is any.
func (l load) cores() (broker, driver int) {
	if l.pinned {
		return 0, 1
	}
	return -1, -1
}

// prepare fills the topic and warms the broker up.
func (l load) prepare(lab *peer.Lab, b *peer.Broker, core int) error {
	if l.before != nil {
		if err := lab.Raw(core, &rawdriver.Result{}, append(slices.Clone(l.before), "-bootstrap", b.Addr)...); err != nil {
			return fmt.Errorf("%s: %w", b.Name, err)
		}
	}
	_, err := drive(lab, b, core, l.args)
	return err
}

// compare starts both brokers and runs a load on them in the order ABBA.
func compare(lab *peer.Lab, l load, rounds int, flags []string) (c comparison, err error) {
	c.load = l
	core, driver := l.cores()
	sim, err := lab.Sim("fast", keepMB)
	if err != nil {
		return c, err
	}
	defer sim.Stop()
	null, err := lab.Null(core)
	if err != nil {
		return c, err
	}
	defer null.Stop()
	ours, err := lab.Tidemill(sim, core, append(slices.Clone(flags), l.flags...)...)
	if err != nil {
		return c, err
	}
	defer ours.Stop()
	for _, b := range []*peer.Broker{null, ours} {
		if err := l.prepare(lab, b, driver); err != nil {
			return c, err
		}
	}
	for range rounds {
		for _, b := range []*peer.Broker{null, ours, ours, null} {
			o, err := drive(lab, b, driver, l.args)
			if err != nil {
				return c, err
			}
			if b == null {
				c.null, c.nullSpeed = append(c.null, l.figure(o)), append(c.nullSpeed, l.pace(o))
			} else {
				c.own, c.ownSpeed = append(c.own, l.figure(o)), append(c.ownSpeed, l.pace(o))
			}
		}
	}
	for i := range c.own {
		c.ratio = append(c.ratio, c.own[i]/c.null[i])
	}
	stats, err := sim.Stats()
	if err == nil && stats.Lost > 0 {
		err = fmt.Errorf("the broker read %d objects that the simulator had forgotten", stats.Lost)
	}
	return c, err
}

// drive runs the raw driver and sees what it cost the broker.
func drive(lab *peer.Lab, b *peer.Broker, core int, args []string) (o outcome, err error) {
	c, err := measure(b, func() error {
		return lab.Raw(core, &o.Result, append(slices.Clone(args), "-bootstrap", b.Addr)...)
	})
	o.cpu = c.cpu
	return o, err
}

func spread(v []float64) string {
	return fmt.Sprintf("%.2f (%.2f-%.2f)", median(v), slices.Min(v), slices.Max(v))
}

func median(v []float64) float64 {
	s := slices.Clone(v)
	slices.Sort(s)
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}
