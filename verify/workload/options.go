package workload

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidemill/tidemill/verify"
)

// Options say how much of what to do. Zero is the default; a negative number of clients is none.
type Options struct {
	Bootstrap []string // addresses of brokers

	Topic       string // is created and must not exist; a random name by default
	Partitions  int32  // 12
	Replication int16  // the cluster's default
	Configs     map[string]*string
	Group       string // must not exist; the topic's name by default

	Producers   int     // 4, idempotent
	Consumers   int     // 2, each of which reads all partitions
	Members     int     // 2, of one group, which commit
	Rate        float64 // records a second of all producers together, 1000
	RecordBytes int     // of a value, 100
	Records     int64   // stop sending after so many; 0: go on

	// Settle bounds how long Stop waits for outstanding acknowledgements, and again for consumers to come to the end; 30 s.
	// It also bounds how long the final reading may stand still.
	Settle time.Duration
	// Client options are given to every client: for TLS, SASL, or a dialer that loses connections.
	Client []kgo.Opt
	Log    *slog.Logger // none by default
}

// maxBuffered is how many records a producer has under way. When the cluster takes no more they wait, and no others are
// sent.
const maxBuffered = 10_000

func (o Options) withDefaults() (Options, error) {
	o.Topic = cmp.Or(o.Topic, fmt.Sprintf("verify-%08x", rand.Uint32()))
	o.Group = cmp.Or(o.Group, o.Topic)
	o.Partitions = cmp.Or(o.Partitions, 12)
	o.Replication = cmp.Or(o.Replication, -1)
	o.Producers, o.Consumers, o.Members = max(0, cmp.Or(o.Producers, 4)), max(0, cmp.Or(o.Consumers, 2)), max(0, cmp.Or(o.Members, 2))
	o.Rate = cmp.Or(o.Rate, 1000)
	o.RecordBytes = max(cmp.Or(o.RecordBytes, 100), verify.ValueBytesMin)
	o.Settle = cmp.Or(o.Settle, 30*time.Second)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	switch {
	case len(o.Bootstrap) == 0:
		return o, errors.New("workload: no address of a broker")
	case o.Partitions < 0 || o.Rate < 0 || o.Records < 0:
		return o, errors.New("workload: a negative number of partitions or records")
	}
	return o, nil
}

// retryPause is retry.backoff.ms of Kafka's clients; franz-go's is 250 ms.
const retryPause = 100 * time.Millisecond

// retryPauseMax is retry.backoff.max.ms of Kafka's clients.
const retryPauseMax = time.Second

// pauseBefore is how long a client waits before the n-th retry, as Kafka's clients do: doubling, and a fifth of it by chance.
func pauseBefore(n int) time.Duration {
	d := min(retryPause<<min(max(n-1, 0), 10), retryPauseMax)
	return time.Duration(float64(d) * (0.8 + 0.4*rand.Float64()))
}

// clientOptions are those of every client: they come back soon after a broker went away, and give up nothing by themselves, not even when a
// connection ends before its first answer, as one does that a process took just before it was killed.
func (o Options) clientOptions(more ...kgo.Opt) []kgo.Opt {
	return slices.Concat([]kgo.Opt{
		kgo.SeedBrokers(o.Bootstrap...), kgo.ClientID("verify"), kgo.MetadataMinAge(250 * time.Millisecond),
		kgo.RetryBackoffFn(pauseBefore), kgo.DialTimeout(3 * time.Second), kgo.RequestTimeoutOverhead(5 * time.Second), kgo.AlwaysRetryEOF(),
	}, more, o.Client)
}
