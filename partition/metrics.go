package partition

import (
	"errors"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	appendBytes, duplicates              prometheus.Counter
	tailHits, tailMisses                 prometheus.Counter
	cacheHits, cacheMisses, loads        prometheus.Counter
	loadedBytes, corruptions             prometheus.Counter
	checkpoints, checkpointErrors        prometheus.Counter
	manifests, manifestBytes             prometheus.Counter
	manifestCommits                      prometheus.Counter
	moved, adopted                       prometheus.Counter
	segments, segmentBytes, deleted      prometheus.Counter
	merges, compactedBytes, cleanedBytes prometheus.Counter
	compactions, compactionErrors        prometheus.Counter
	uncleanable                          prometheus.Counter
	checkpointSeconds                    prometheus.Histogram
	all                                  []prometheus.Collector
}

// unread are the metrics of all sets that have no Registerer.
var unread = sync.OnceValue(newMetrics)

func newMetrics() *metrics {
	var all []prometheus.Collector
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Namespace: "tidemill", Subsystem: "partition", Name: name, Help: help})
		all = append(all, c)
		return c
	}
	m := &metrics{
		appendBytes:      counter("append_bytes_total", "Bytes of appended batches."),
		duplicates:       counter("duplicate_batches_total", "Batches that repeated a stored one."),
		tailHits:         counter("tail_hits_total", "Chunks read from committed slots in memory."),
		tailMisses:       counter("tail_misses_total", "Chunks read that were not in committed slots in memory."),
		cacheHits:        counter("cache_hits_total", "Pieces of old data found in the read cache or being loaded."),
		cacheMisses:      counter("cache_misses_total", "Pieces of old data that had to be loaded."),
		loads:            counter("loads_total", "Reads from the object store."),
		loadedBytes:      counter("loaded_bytes_total", "Bytes read from the object store."),
		corruptions:      counter("corruptions_total", "Pieces of old data whose checksum was wrong when read twice."),
		checkpoints:      counter("checkpoints_total", "Checkpoints written."),
		checkpointErrors: counter("checkpoint_errors_total", "Checkpoints that failed."),
		manifests:        counter("manifests_total", "Manifests written."),
		manifestBytes:    counter("manifest_bytes_total", "Bytes of manifest objects written."),
		moved:            counter("moved_total", "Partitions given to other brokers, by metadata alone."),
		adopted:          counter("adopted_total", "Partitions taken over from other brokers, by metadata alone."),
		manifestCommits:  counter("manifest_commits_total", "Manifest heads written to etcd."),
		segments:         counter("segments_total", "Segments written."),
		segmentBytes:     counter("segment_bytes_total", "Bytes of segments written."),
		deleted:          counter("objects_deleted_total", "Objects deleted because nothing refers to them any more."),
		merges:           counter("merges_total", "Runs of small parts of segments that were merged."),
		compactions:      counter("compactions_total", "Rounds of compaction, of one partition each."),
		compactionErrors: counter("compaction_errors_total", "Rounds of compaction that failed."),
		uncleanable:      counter("uncleanable_total", "Partitions that are not compacted any more because their data is damaged."),
		compactedBytes:   counter("compacted_bytes_total", "Bytes of batches that rounds of compaction went over."),
		cleanedBytes:     counter("compaction_removed_bytes_total", "Bytes of batches that compaction removed."),
		checkpointSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: "tidemill", Subsystem: "partition", Name: "checkpoint_seconds",
			Help: "Duration of checkpoints.", Buckets: prometheus.ExponentialBuckets(0.01, 2, 12),
		}),
	}
	m.all = append(all, m.checkpointSeconds)
	return m
}

// register shows the metrics, which are those of one set.
func (m *metrics) register(s *Set, r prometheus.Registerer) error {
	all := m.all
	gauge := func(name, help string, f func() float64) {
		all = append(all, prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "tidemill", Subsystem: "partition", Name: name, Help: help}, f))
	}
	gauge("partitions", "Partitions that this broker owns.", func() float64 {
		s.mu.RLock()
		defer s.mu.RUnlock()
		return float64(len(s.logs))
	})
	gauge("tail_bytes", "Bytes of committed slots in memory.", func() float64 { return float64(s.tail.size()) })
	gauge("cache_bytes", "Bytes of old data in memory.", func() float64 { return float64(s.cache.size()) })
	gauge("trim_lag_slots", "Committed slots that a recovery would have to read.", func() float64 {
		return float64(s.committed.Load() + 1 - s.due.trimmed.Load())
	})
	gauge("objects", "Objects in the bucket that this broker's partitions refer to.", func() float64 {
		used, _ := s.objects.counts()
		return float64(used)
	})
	gauge("objects_waiting", "Objects, or runs of slots, that wait to be deleted.", func() float64 {
		_, waiting := s.objects.counts()
		return float64(waiting)
	})
	var errs []error
	for _, c := range all {
		errs = append(errs, r.Register(c))
	}
	return errors.Join(errs...)
}
