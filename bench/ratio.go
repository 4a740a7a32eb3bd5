package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/tidemill/tidemill/bench/peer"
	"github.com/tidemill/tidemill/bench/rawdriver"
)

// A load is one thing that the raw driver does to both brokers.
type load struct {
	name   string
	pinned bool     // broker on core 0, the rest on core 1
	before []string // prepares the topic, once for each broker
	args   []string
	perGB  bool // the figure is CPU-s/GB, else us of CPU per request
}

func loads(d time.Duration) []load {
	return []load{
		{
			name: "produce", perGB: true,
			args: []string{"produce", "-topic", "large", "-conns", "4", "-depth", "8", "-batch", "65536", "-for", d.String()},
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

// runRatio runs each load on the null broker and on ours, in the order ABBA, and prints CPU figures and their ratios.
func runRatio(_ context.Context, args []string) error {
	flags := flag.NewFlagSet("ratio", flag.ExitOnError)
	rounds := flags.Int("rounds", 3, "of null, ours, ours, null")
	duration := flags.Duration("for", 3*time.Second, "how long each run lasts")
	only := flags.String("only", "produce,fetch,small", "loads to run")
	broker := flags.String("flags", "", "flags of the broker, separated by spaces")
	_ = flags.Parse(args) // it exits on errors
	lab, err := peer.NewLab()
	if err != nil {
		return err
	}
	defer lab.Close()
	if err := lab.Build(); err != nil {
		return err
	}
	for _, pin := range []bool{false, true} {
		var chosen []load
		for _, l := range loads(*duration) {
			if l.pinned == pin && slices.Contains(strings.Split(*only, ","), l.name) {
				chosen = append(chosen, l)
			}
		}
		if len(chosen) == 0 {
			continue
		}
		if err := compare(lab, pin, chosen, *rounds, strings.Fields(*broker)); err != nil {
			return err
		}
	}
	return nil
}

// compare starts both brokers and runs loads on them.
func compare(lab *peer.Lab, pin bool, loads []load, rounds int, brokerFlags []string) error {
	brokerCore, driverCore := -1, -1
	if pin {
		brokerCore, driverCore = 0, 1
	}
	sim, err := lab.Sim("fast", 512)
	if err != nil {
		return err
	}
	defer sim.Stop()
	null, err := lab.Null(brokerCore)
	if err != nil {
		return err
	}
	defer null.Stop()
	ours, err := lab.Tidemill(sim, brokerCore, brokerFlags...)
	if err != nil {
		return err
	}
	defer ours.Stop()
	for _, l := range loads {
		for _, b := range []*peer.Broker{null, ours} {
			if l.before != nil {
				if err := lab.Raw(driverCore, &rawdriver.Result{}, append(l.before, "-bootstrap", b.Addr)...); err != nil {
					return err
				}
			}
			if _, err := drive(lab, b, driverCore, l.args); err != nil { // to warm up
				return fmt.Errorf("%s: %w", b.Name, err)
			}
		}
		var nulls, own []outcome
		for range rounds {
			for _, b := range []*peer.Broker{null, ours, ours, null} {
				o, err := drive(lab, b, driverCore, l.args)
				if err != nil {
					return fmt.Errorf("%s: %w", b.Name, err)
				}
				if b == null {
					nulls = append(nulls, o)
				} else {
					own = append(own, o)
				}
			}
		}
		print2(l, nulls, own)
	}
	stats, err := sim.Stats()
	if err == nil && stats.Lost > 0 {
		err = fmt.Errorf("the broker read %d objects that the simulator had forgotten", stats.Lost)
	}
	return err
}

// drive runs the raw driver and sees what it cost the broker.
func drive(lab *peer.Lab, b *peer.Broker, core int, args []string) (o outcome, err error) {
	before, err := b.Usage()
	if err != nil {
		return o, err
	}
	if err := lab.Raw(core, &o.Result, append(slices.Clone(args), "-bootstrap", b.Addr)...); err != nil {
		return o, err
	}
	after, err := b.Usage()
	o.cpu = after.CPU() - before.CPU()
	return o, err
}

// print2 prints the median and the range of both brokers' figures and of the ratios of runs that were neighbours.
func print2(l load, nulls, own []outcome) {
	figure, unit := outcome.microsPerRequest, "us CPU/request"
	if l.perGB {
		figure, unit = outcome.cpuPerGB, "CPU-s/GB"
	}
	var a, b, ratios, speedA, speedB []float64
	for i := range own {
		a, b = append(a, figure(nulls[i])), append(b, figure(own[i]))
		ratios = append(ratios, figure(own[i])/figure(nulls[i]))
		if l.perGB {
			speedA, speedB = append(speedA, nulls[i].MBPerSecond()), append(speedB, own[i].MBPerSecond())
		} else {
			speedA, speedB = append(speedA, nulls[i].perSecond()), append(speedB, own[i].perSecond())
		}
	}
	speed := "requests/s"
	if l.perGB {
		speed = "MB/s"
	}
	fmt.Fprintf(os.Stdout, "%-8s null %s %s, %.0f %s | broker %s, %.0f | ratio %s\n", l.name,
		spread(a), unit, median(speedA), speed, spread(b), median(speedB), spread(ratios))
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
