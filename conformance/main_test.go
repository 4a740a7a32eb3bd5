package conformance

import (
	"bytes"
	"context"
	"crypto/rand"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/broker"
	"github.com/tidemill/tidemill/config"
	"github.com/tidemill/tidemill/internal/process"
)

// target is the broker under test.
var target struct {
	addr string
	node int32 // its id
}

// runID makes the names of this run its own.
var runID = strings.ToLower(rand.Text()[:8])

func TestMain(m *testing.M) {
	flag.StringVar(&target.addr, "bootstrap", "", "`address` of the broker to test; without one, a broker is started in this process")
	flag.Parse()
	os.Exit(run(m))
}

// run finds or starts the broker, and runs the tests against it.
func run(m *testing.M) int {
	if target.addr == "" {
		stop, err := startBroker()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer stop()
	}
	return m.Run()
}

// startBroker runs a broker of this repository in this process and makes it the target.
func startBroker() (stop func(), err error) {
	dir, err := os.MkdirTemp("", "conformance-")
	if err != nil {
		return nil, err
	}
	health, err := process.FreeAddress()
	if err != nil {
		return nil, err
	}
	if target.addr, err = process.FreeAddress(); err != nil {
		return nil, err
	}
	cfg, err := config.Load(config.Input{
		Args: []string{"--data-dir", dir, "--listen", target.addr, "--http", health, "--kafka", "group.initial.rebalance.delay.ms=0",
			"--kafka", "log.initial.task.delay.ms=3600000"}, // records of 1970 stay, however long the suite takes
		ReadFile: os.ReadFile, WorkDir: dir,
	})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	var log bytes.Buffer
	ended := make(chan error, 1)
	go func() { ended <- broker.Run(ctx, cfg, "test", io.Discard, slog.New(slog.NewTextHandler(&log, nil))) }()
	stop = func() {
		cancel()
		if err := <-ended; err != nil {
			fmt.Fprintf(os.Stderr, "the broker ended with: %v\n%s", err, log.String())
		}
		os.RemoveAll(dir)
	}
	for deadline := time.Now().Add(patience); ; {
		conn, err := net.Dial("tcp", target.addr)
		if err == nil {
			conn.Close()
			return stop, nil
		}
		select {
		case early := <-ended:
			ended <- early
			stop()
			return nil, fmt.Errorf("the broker did not start: %w", early)
		case <-time.After(10 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			stop()
			return nil, fmt.Errorf("the broker did not start: %w", err)
		}
	}
}

var begun atomic.Int32

// begin connects a test to the target. n gives the test's own name to a topic or group; what has such names goes when the
// test ends.
func begin(t *testing.T) (c *Client, n func(string) string) {
	t.Helper()
	c = Dial(t, target.addr)
	resp := Ask[*kmsg.MetadataResponse](c, MetadataRequest(12))
	if len(resp.Brokers) != 1 {
		t.Fatalf("%s has %d brokers: the tests are for one alone", target.addr, len(resp.Brokers))
	}
	target.node = resp.Brokers[0].NodeID
	prefix := fmt.Sprintf("conformance-%s-%d-", runID, begun.Add(1))
	t.Cleanup(func() { sweep(t, prefix) })
	return c, func(name string) string { return prefix + name }
}

// sweep deletes what a test has made, as far as it can be deleted.
func sweep(t *testing.T, prefix string) {
	t.Helper()
	c := Dial(t, target.addr)
	all := MetadataRequest(12)
	all.Topics = nil
	del := DeleteRequest(3)
	for _, topic := range Ask[*kmsg.MetadataResponse](c, all).Topics {
		if strings.Contains(*topic.Topic, prefix) {
			del.TopicNames = append(del.TopicNames, *topic.Topic)
		}
	}
	Ask[*kmsg.DeleteTopicsResponse](c, del)
	list := kmsg.NewPtrListGroupsRequest()
	groups := kmsg.NewPtrDeleteGroupsRequest()
	for _, g := range Ask[*kmsg.ListGroupsResponse](c, list).Groups {
		if strings.HasPrefix(g.Group, prefix) {
			groups.Groups = append(groups.Groups, g.Group)
		}
	}
	Ask[*kmsg.DeleteGroupsResponse](c, groups)
}
