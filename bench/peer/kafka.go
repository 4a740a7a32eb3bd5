package peer

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/tidemill/tidemill/internal/process"
)

const kafkaVersion = "4.3.1"

// java is the command line that runs a class of Kafka's. The jars are those that the end-to-end tests have fetched.
func java(heap []string, class string, args ...string) ([]string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return nil, err
	}
	lib := filepath.Join(cache, "tidemill-e2e", "kafka-"+kafkaVersion, "lib")
	if _, err := os.Stat(lib); err != nil {
		return nil, fmt.Errorf("no Apache Kafka: make e2e fetches it: %w", err)
	}
	dir, err := root()
	if err != nil {
		return nil, err
	}
	argv := append([]string{"java"}, heap...)
	return append(append(argv, "-Dlog4j2.configurationFile="+filepath.Join(dir, "e2e", "jvm", "log4j2.yaml"),
		"-cp", filepath.Join(lib, "*"), class), args...), nil
}

// serverHeap is what kafka-server-start.sh and kafka-run-class.sh give a broker by default.
var serverHeap = []string{
	"-Xms1G", "-Xmx1G", "-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20", "-XX:InitiatingHeapOccupancyPercent=35",
	"-XX:+ExplicitGCInvokesConcurrent", "-Djava.awt.headless=true",
}

var toolHeap = []string{"-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"}

// Kafka starts one node of Apache Kafka with its defaults, that is without a sync to disk before it acknowledges. Its data is
// in the lab's folder.
func (l *Lab) Kafka(core int) (*Broker, error) {
	dir, err := l.Folder("kafka")
	if err != nil {
		return nil, err
	}
	addr, err := process.FreeAddress()
	if err != nil {
		return nil, err
	}
	controller, err := process.FreeAddress()
	if err != nil {
		return nil, err
	}
	props := []string{
		"process.roles=broker,controller", "node.id=1", "log.dirs=" + filepath.Join(dir, "logs"),
		"listeners=PLAINTEXT://" + addr + ",CONTROLLER://" + controller, "advertised.listeners=PLAINTEXT://" + addr,
		"controller.listener.names=CONTROLLER", "controller.quorum.voters=1@" + controller,
		"listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
		"offsets.topic.replication.factor=1", "transaction.state.log.replication.factor=1", "transaction.state.log.min.isr=1",
		"share.coordinator.state.topic.replication.factor=1", "share.coordinator.state.topic.min.isr=1",
		"group.initial.rebalance.delay.ms=0",
	}
	file := filepath.Join(dir, "server.properties")
	if err := os.WriteFile(file, []byte(strings.Join(props, "\n")+"\n"), 0o644); err != nil {
		return nil, err
	}
	format, err := java(toolHeap, "kafka.tools.StorageTool", "format", "-t", "MkU3OEVBNTcwNTJENDM2Qk", "-c", file)
	if err != nil {
		return nil, err
	}
	if _, err := run(format...); err != nil {
		return nil, err
	}
	argv, err := java(serverHeap, "kafka.Kafka", file)
	if err != nil {
		return nil, err
	}
	p, err := l.start("kafka", nil, pinned(core, argv))
	if err != nil {
		return nil, err
	}
	return &Broker{Process: p, Addr: addr}, p.until(2*readyLimit, func() error { return dials(addr) })
}

// A Connect is a distributed worker of Kafka Connect with its default settings, but for what names and finds things.
type Connect struct {
	*Process
	url, dir string
}

// Connect starts a worker on a broker.
func (l *Lab) Connect(b *Broker) (*Connect, error) {
	dir, err := l.Folder("connect")
	if err != nil {
		return nil, err
	}
	rest, err := process.FreeAddress()
	if err != nil {
		return nil, err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return nil, err
	}
	props := []string{
		"bootstrap.servers=" + b.Addr, "group.id=connect-cluster",
		"key.converter=org.apache.kafka.connect.storage.StringConverter",
		"value.converter=org.apache.kafka.connect.storage.StringConverter",
		"config.storage.topic=connect-configs", "offset.storage.topic=connect-offsets", "status.storage.topic=connect-status",
		"config.storage.replication.factor=1", "offset.storage.replication.factor=1", "status.storage.replication.factor=1",
		"plugin.path=" + filepath.Join(cache, "tidemill-e2e", "kafka-"+kafkaVersion, "plugins"), "plugin.discovery=service_load",
		"listeners=http://" + rest, "rest.advertised.host.name=127.0.0.1",
	}
	file := filepath.Join(dir, "worker.properties")
	if err := os.WriteFile(file, []byte(strings.Join(props, "\n")+"\n"), 0o644); err != nil {
		return nil, err
	}
	argv, err := java([]string{"-Xms256M", "-Xmx2G", "-server", "-XX:+UseG1GC"}, "org.apache.kafka.connect.cli.ConnectDistributed", file)
	if err != nil {
		return nil, err
	}
	p, err := l.start("connect", nil, argv)
	if err != nil {
		return nil, err
	}
	c := &Connect{Process: p, url: "http://" + rest, dir: dir}
	return c, p.until(2*readyLimit, func() error { return c.call(http.MethodGet, "/connectors", nil) })
}

func (c *Connect) call(method, path string, body any) error {
	raw, err := json.Marshal(body)
	if err != nil {
		return err
	}
	req, err := http.NewRequest(method, c.url+path, bytes.NewReader(raw))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := (&http.Client{Timeout: 30 * time.Second}).Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode >= http.StatusBadRequest {
		err = fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, answer)
	}
	return err
}

// Copy writes a file of lines of 74 bytes, creates FileStreamSource and FileStreamSink around a topic, and returns how long it
// took from the first request to the last line. It checks that every line has arrived once and in order.
func (c *Connect) Copy(ctx context.Context, lines int) (time.Duration, error) {
	in, out := filepath.Join(c.dir, "in"), filepath.Join(c.dir, "out")
	var b bytes.Buffer
	for i := range lines {
		fmt.Fprintf(&b, "line %08d of a file that Kafka Connect copies through a topic of its own\n", i)
	}
	want := b.Bytes()
	if err := os.WriteFile(in, want, 0o644); err != nil {
		return 0, err
	}
	begun := time.Now()
	for side, config := range map[string]map[string]string{
		"source": {
			"connector.class": "FileStreamSource", "tasks.max": "1", "file": in, "topic": "lines",
			"topic.creation.default.partitions": "1", "topic.creation.default.replication.factor": "1",
		},
		"sink": {"connector.class": "FileStreamSink", "tasks.max": "1", "file": out, "topics": "lines"},
	} {
		err := c.until(readyLimit, func() error { return c.call(http.MethodPut, "/connectors/"+side+"/config", config) })
		if err != nil {
			return 0, err
		}
	}
	if err := c.grown(ctx, out, int64(len(want))); err != nil {
		return 0, err
	}
	took := time.Since(begun)
	return took, same(out, want)
}

// grown waits until the file has n bytes.
func (c *Connect) grown(ctx context.Context, path string, n int64) error {
	last, at := int64(-1), time.Now()
	for {
		info, err := os.Stat(path)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		size := int64(0)
		if err == nil {
			size = info.Size()
		}
		if size >= n {
			return nil
		}
		if size != last {
			last, at = size, time.Now()
		}
		if time.Since(at) > readyLimit {
			return fmt.Errorf("the copy stands at %d of %d bytes\n%s", size, n, c.Tail())
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-c.done:
			return fmt.Errorf("the worker ended\n%s", c.Tail())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func same(path string, want []byte) error {
	got, err := os.ReadFile(path)
	if err != nil || bytes.Equal(got, want) {
		return err
	}
	in, line := bufio.NewScanner(bytes.NewReader(got)), 0
	for ; in.Scan(); line++ {
		if text := fmt.Sprintf("line %08d ", line); !strings.HasPrefix(in.Text(), text) {
			break
		}
	}
	return fmt.Errorf("the copy differs from line %d on", line)
}
