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
			flags: []string{"--write-profile", "free"},
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

// against compares with the null brokers, and looks at Apache Kafka under the same load.
func (e *Env) against(target float64, name string) error {
	all := loads(e.Duration, DefaultShape)
	l := all[slices.IndexFunc(all, func(l load) bool { return l.name == name })]
	c, err := compare(e.Lab, l, e.Rounds, e.Flags)
	if err != nil {
		return err
	}
	for _, n := range c.nulls {
		e.add(report.Row{What: n.name, Measured: c.text(n.series)})
	}
	row := report.Row{What: "broker", Measured: c.text(c.own)}
	if !l.perGB {
		row.Target, row.Verdict = fmt.Sprintf("≥ %.0f/s", target), report.Judge(median(c.own.speed) >= target)
	}
	e.add(row)
	if l.perGB {
		for i, n := range c.nulls {
			row := report.Row{What: "broker to " + n.name, Measured: spread(n.ratio)}
			if i == 0 {
				row.Target, row.Verdict = fmt.Sprintf("≤ %.1f", target), report.Judge(median(n.ratio) <= target)
			}
			e.add(row)
		}
	}
	return e.kafkaUnder(c)
}

// kafkaUnder drives Apache Kafka, after it has warmed up.
func (e *Env) kafkaUnder(c comparison) error {
	core, driver := c.cores()
	b, stop, err := e.kafka(core)
	if err != nil {
		return err
	}
	defer stop()
	if err := c.prepare(e.Lab, b, driver); err != nil {
		return err
	}
	var k series
	for i := range 2*e.Rounds + 2 {
		o, err := drive(e.Lab, b, driver, c.args)
		if err != nil {
			return err
		}
		if i >= 2 { // the first while its compiler was still at work
			k.add(c.load, o)
		}
	}
	e.add(report.Row{What: "Apache Kafka 4.3.1", Measured: c.text(k)})
	return nil
}

// Ratio is the gate: it compares the named loads and writes lines for each.
func Ratio(w io.Writer, lab *peer.Lab, names []string, shape string, rounds int, d time.Duration, flags []string) error {
	for _, l := range loads(d, shape) {
		if !slices.Contains(names, l.name) {
			continue
		}
		c, err := compare(lab, l, rounds, flags)
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "%-8s broker %s\n", l.name, c.text(c.own))
		for _, n := range c.nulls {
			fmt.Fprintf(w, "%-8s %s %s: ratio %s\n", l.name, n.name, c.text(n.series), spread(n.ratio))
		}
	}
	return nil
}

// A series holds the figures of one broker's runs.
type series struct{ figure, speed []float64 }

func (s *series) add(l load, o outcome) {
	s.figure, s.speed = append(s.figure, l.figure(o)), append(s.speed, l.pace(o))
}

// A yardstick is one kind of null broker, and what ours costs against it: runs that were neighbours are divided.
type yardstick struct {
	name  string
	plain bool
	series
	ratio []float64
}

// A comparison is what came of a load.
type comparison struct {
	load
	own   series
	nulls []yardstick
}

// text is the figures of a series with their units.
func (c comparison) text(s series) string {
	if c.perGB {
		return fmt.Sprintf("%s CPU-s/GB, %.0f MB/s", spread(s.figure), median(s.speed))
	}
	return fmt.Sprintf("%s us CPU a request, %.0f requests/s", spread(s.figure), median(s.speed))
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

// yardsticks are the null brokers of a load. Only where large frames come in does it matter whether their memory is new.
func (l load) yardsticks() []yardstick {
	if l.name == "produce" {
		return []yardstick{{name: "null broker, a buffer for each frame", plain: true}, {name: "null broker, buffers used again"}}
	}
	return []yardstick{{name: "null broker"}}
}

// compare starts the brokers and runs a load on them, on the null brokers, on ours twice, and back.
func compare(lab *peer.Lab, l load, rounds int, flags []string) (c comparison, err error) {
	c.load, c.nulls = l, l.yardsticks()
	core, driver := l.cores()
	sim, err := lab.Sim("fast")
	if err != nil {
		return c, err
	}
	defer sim.Stop()
	ours, err := lab.Tidemill(sim, core, append(slices.Clone(flags), l.flags...)...)
	if err != nil {
		return c, err
	}
	defer ours.Stop()
	brokers := []*peer.Broker{ours}
	for _, n := range c.nulls {
		null, err := lab.Null(core, n.plain)
		if err != nil {
			return c, err
		}
		defer null.Stop()
		brokers = append(brokers, null)
	}
	for _, b := range brokers {
		if err := l.prepare(lab, b, driver); err != nil {
			return c, err
		}
	}
	for round := range 2 * rounds {
		order := slices.Clone(brokers)
		if round%2 == 0 {
			slices.Reverse(order)
		}
		for _, b := range order {
			o, err := drive(lab, b, driver, l.args)
			if err != nil {
				return c, err
			}
			if i := slices.Index(brokers, b); i == 0 {
				c.own.add(l, o)
			} else {
				c.nulls[i-1].add(l, o)
			}
		}
	}
	for i := range c.nulls {
		n := &c.nulls[i]
		for j, figure := range n.figure {
			n.ratio = append(n.ratio, c.own.figure[j]/figure)
		}
	}
	return c, nil
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
