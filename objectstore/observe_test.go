package objectstore_test

import (
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tidemill/tidemill/objectstore"
	"github.com/tidemill/tidemill/objectstore/faultstore"
	"github.com/tidemill/tidemill/objectstore/memstore"
	"github.com/tidemill/tidemill/objectstore/storetest"
)

func TestObserveContract(t *testing.T) {
	storetest.Run(t, func(*testing.T) objectstore.Store {
		return objectstore.Observe(memstore.New(), prometheus.NewRegistry())
	})
}

func TestObserve(t *testing.T) {
	registry := prometheus.NewRegistry()
	below := faultstore.New(memstore.New(), 1,
		faultstore.Rule{Match: func(key string) bool { return key == "denied" }, Fault: faultstore.Lost, Err: objectstore.ErrDenied})
	s, sharing := objectstore.Observe(below, registry), objectstore.Observe(below, registry)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	ctx := t.Context()
	for _, put := range []struct {
		ctx context.Context
		key string
	}{{ctx, "a"}, {ctx, "a"}, {ctx, "denied"}, {ended, "b"}} {
		_ = s.Put(put.ctx, put.key, []byte("12345")) // the metrics tell
	}
	_ = sharing.Put(ctx, "c", []byte("123"))
	_, _ = s.Get(ctx, "a")
	_, _ = s.Get(ctx, "absent")
	_ = s.ReadAt(ctx, "a", make([]byte, 2), 0)
	_ = s.ReadAt(ctx, "a", make([]byte, 2), 4)
	_ = s.Delete(ctx, "c")
	for range s.List(ctx, "", "") {
		break
	}
	want := map[string]float64{
		"bytes_total get":              5,
		"bytes_total put":              8,
		"bytes_total read_at":          2,
		"requests_total delete ok":     1,
		"requests_total get not_found": 1,
		"requests_total get ok":        1,
		"requests_total list ok":       1,
		"requests_total put cancelled": 1,
		"requests_total put conflict":  1,
		"requests_total put denied":    1,
		"requests_total put ok":        2,
		"requests_total read_at ok":    1,
		"requests_total read_at range": 1,
		"request_seconds delete":       1,
		"request_seconds get":          2,
		"request_seconds list":         1,
		"request_seconds put":          5,
		"request_seconds read_at":      2,
	}
	if diff := cmp.Diff(want, gather(t, registry)); diff != "" {
		t.Errorf("metrics (-want +got):\n%s", diff)
	}
}

// gather returns the metrics that are not 0, as "name op outcome"; of histograms the count.
func gather(t *testing.T, registry *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatalf("gather: %v", err)
	}
	got := map[string]float64{}
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			name := strings.TrimPrefix(family.GetName(), "tidemill_objectstore_")
			for _, label := range metric.GetLabel() {
				name += " " + label.GetValue()
			}
			value := metric.GetCounter().GetValue() + metric.GetGauge().GetValue() + float64(metric.GetHistogram().GetSampleCount())
			if value != 0 {
				got[name] = value
			}
		}
	}
	return got
}

func TestObserveInFlight(t *testing.T) {
	registry := prometheus.NewRegistry()
	var seen map[string]float64
	below := faulty{Store: memstore.New(), put: func(context.Context, string, []byte) error {
		seen = gather(t, registry)
		return nil
	}}
	if err := objectstore.Observe(below, registry).Put(t.Context(), "a", nil); err != nil {
		t.Fatalf("put: %v", err)
	}
	if diff := cmp.Diff(map[string]float64{"requests_in_flight put": 1}, seen); diff != "" {
		t.Errorf("metrics during a put (-want +got):\n%s", diff)
	}
}
