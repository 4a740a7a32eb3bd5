package scenario

import (
	"context"
	"fmt"
	"time"

	"github.com/tidemill/tidemill/bench/peer"
	"github.com/tidemill/tidemill/bench/report"
)

const connectLines = 1_000_000

// connect1m copies a file through a topic into another file with unmodified connectors of Kafka's, through Apache Kafka and
// through the broker as it starts by default (etcd and data in folders of its own). One worker at a time; with an even number of
// rounds in the order ABBA.
func connect1m(ctx context.Context, e *Env) error {
	took := map[string][]float64{}
	var order []string
	for i := range e.Rounds {
		order = append(order, []string{"kafka", "broker"}[i%2], []string{"broker", "kafka"}[i%2])
	}
	for _, name := range order {
		d, err := e.connectOnce(ctx, name)
		if err != nil {
			return err
		}
		took[name] = append(took[name], d.Seconds())
		e.Log("connect-1m: %s took %.1f s", name, d.Seconds())
	}
	kafka, own := median(took["kafka"]), median(took["broker"])
	e.add(report.Row{What: "Apache Kafka 4.3.1, local disk", Measured: fmt.Sprintf("%.1f s of %.1f", kafka, took["kafka"])})
	e.add(report.Row{
		What:     "broker on its embedded default",
		Measured: fmt.Sprintf("%.1f s of %.1f: %.2f times Kafka's", own, took["broker"], own/kafka),
		Target:   "≤ 1.25 times Kafka's", Verdict: report.Judge(own <= 1.25*kafka),
	})
	return nil
}

func (e *Env) connectOnce(ctx context.Context, name string) (time.Duration, error) {
	var b *peer.Broker
	var err error
	if name == "kafka" {
		b, err = e.Lab.Kafka(-1)
	} else {
		b, err = e.Lab.Tidemill(nil, -1, e.Flags...)
	}
	if err != nil {
		return 0, err
	}
	defer b.Stop()
	w, err := e.Lab.Connect(b)
	if err != nil {
		return 0, err
	}
	defer w.Stop()
	return w.Copy(ctx, connectLines)
}

// kafka starts Apache Kafka, on any core or on one.
func (e *Env) kafka(core ...int) (*peer.Broker, func(), error) {
	b, err := e.Lab.Kafka(append(core, -1)[0])
	if err != nil {
		return nil, nil, err
	}
	return b, b.Stop, nil
}
