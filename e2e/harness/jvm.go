package harness

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidemill/tidemill/internal/proctest"
)

// These versions are those of jvm/pom.xml. They name the cache folders.
const (
	kafkaVersion    = "4.3.1"
	debeziumVersion = "3.6.1.Final"
)

// Each fetcher fills its folder of the cache: lib/ is the class path of everything, plugins/ is for Connect's plugin.path.
var (
	fetchJars = fetcher("kafka-"+kafkaVersion, func(dir string) [][]string {
		return [][]string{
			{"dependency:copy-dependencies", "-DincludeScope=runtime", "-DoutputDirectory=" + filepath.Join(dir, "lib")},
			{"-Pplugin", "dependency:copy", "-DoutputDirectory=" + filepath.Join(dir, "plugins", "file")},
		}
	})
	fetchDebezium = fetcher("debezium-"+debeziumVersion, func(dir string) [][]string {
		return [][]string{{"-Pdebezium", "dependency:unpack", "-DoutputDirectory=" + filepath.Join(dir, "plugins")}}
	})
	fetchMirror = fetcher("mirror-"+kafkaVersion, func(dir string) [][]string {
		return [][]string{{"-Pmirror", "dependency:copy", "-DoutputDirectory=" + filepath.Join(dir, "lib")}}
	})
)

// fetcher fills a cache folder from Maven Central, once. It works in a folder of its own and moves it into place, so a
// half-filled cache is never seen.
func fetcher(name string, goals func(dir string) [][]string) func() (string, error) {
	return sync.OnceValues(func() (string, error) {
		root, err := moduleRoot()
		if err != nil {
			return "", err
		}
		cache, err := cacheDir()
		if err != nil {
			return "", err
		}
		dir := filepath.Join(cache, name)
		if _, err := os.Stat(dir); err == nil {
			return dir, nil
		}
		tmp, err := os.MkdirTemp(cache, name+"-partial-")
		if err != nil {
			return "", err
		}
		defer os.RemoveAll(tmp)
		pom := filepath.Join(root, "jvm", "pom.xml")
		for _, args := range goals(tmp) {
			if _, err := TryRun(20*time.Minute, "", append([]string{"mvn", "-B", "-q", "-f", pom}, args...)...); err != nil {
				return "", err
			}
		}
		if err := os.Rename(tmp, dir); err != nil && !os.IsExist(err) {
			if _, statErr := os.Stat(dir); statErr != nil {
				return "", fmt.Errorf("move %s into place: %w", name, err)
			}
		}
		return dir, nil
	})
}

// cached returns the folder of a fetcher.
func cached(t testing.TB, fetch func() (string, error)) string {
	t.Helper()
	dir, err := fetch()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// Java returns the command line that runs a class of Kafka's with a heap of heapMB.
func Java(t testing.TB, heapMB int, class string, args ...string) []string {
	t.Helper()
	return javaOn(t, filepath.Join(cached(t, fetchJars), "lib", "*"), heapMB, class, args...)
}

// javaOn is Java with a class path.
func javaOn(t testing.TB, classPath string, heapMB int, class string, args ...string) []string {
	t.Helper()
	root, err := moduleRoot()
	if err != nil {
		t.Fatal(err)
	}
	return append([]string{
		"java", fmt.Sprintf("-Xmx%dm", heapMB), "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto",
		"-Dlog4j2.configurationFile=" + filepath.Join(root, "jvm", "log4j2.yaml"),
		"-cp", classPath, class,
	}, args...)
}

// PluginPath is a Connect plugin.path that holds the file connectors.
func PluginPath(t testing.TB) string {
	t.Helper()
	return filepath.Join(cached(t, fetchJars), "plugins")
}

// DebeziumPath is a plugin.path that holds Debezium's connector for PostgreSQL.
func DebeziumPath(t testing.TB) string {
	t.Helper()
	return filepath.Join(cached(t, fetchDebezium), "plugins")
}

// MirrorJava is Java with the classes of MirrorMaker.
func MirrorJava(t testing.TB, heapMB int, class string, args ...string) []string {
	t.Helper()
	jars := []string{filepath.Join(cached(t, fetchJars), "lib", "*"), filepath.Join(cached(t, fetchMirror), "lib", "*")}
	return javaOn(t, strings.Join(jars, string(os.PathListSeparator)), heapMB, class, args...)
}

// WriteFile writes a file into a folder of the test's own and returns its path.
func WriteFile(t testing.TB, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// kafkaArgv formats storage for a one-node Apache Kafka and returns the command line that runs it.
func kafkaArgv(t testing.TB, dir, addr string, settings Settings) []string {
	t.Helper()
	controller := proctest.FreeAddress(t)
	props := []string{
		"process.roles=broker,controller", "node.id=1", "log.dirs=" + dir,
		"listeners=PLAINTEXT://" + addr + ",CONTROLLER://" + controller,
		"advertised.listeners=PLAINTEXT://" + addr,
		"controller.listener.names=CONTROLLER", "controller.quorum.voters=1@" + controller,
		"listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
		"offsets.topic.replication.factor=1", "transaction.state.log.replication.factor=1",
		"transaction.state.log.min.isr=1", "share.coordinator.state.topic.replication.factor=1",
		"share.coordinator.state.topic.min.isr=1",
	}
	for _, name := range settings.names() {
		props = append(props, name+"="+settings[name])
	}
	file := WriteFile(t, "server.properties", strings.Join(props, "\n")+"\n")
	Run(t, time.Minute, "", Java(t, 256, "kafka.tools.StorageTool", "format", "-t", "MkU3OEVBNTcwNTJENDM2Qk", "-c", file)...)
	return Java(t, 768, "kafka.Kafka", file)
}

// JavaSource is a program of jvm/ in the place of a class: Java compiles it as it starts.
func JavaSource(t testing.TB, name string) string {
	t.Helper()
	root, err := moduleRoot()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(root, "jvm", name)
}
