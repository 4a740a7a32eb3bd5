package harness

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// maxAnswer is the longest line of the tool driver: describing a broker with --all is some 200 KiB.
const maxAnswer = 16 << 20

// Tools runs Kafka's command-line tools in one JVM, one call at a time.
type Tools struct {
	t       testing.TB
	stdin   io.WriteCloser
	answers *bufio.Scanner
	cmd     *exec.Cmd
}

// An Answer is what one call of a tool left behind.
type Answer struct {
	Status         int
	Stdout, Stderr string
}

// StartTools starts the JVM. It ends with the test.
func StartTools(t testing.TB, heapMB int) *Tools {
	t.Helper()
	root, err := moduleRoot()
	if err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(t.TempDir(), "tools.log"))
	if err != nil {
		t.Fatal(err)
	}
	argv := Java(t, heapMB, filepath.Join(root, "jvm", "ToolDriver.java"))
	argv = slices.Insert(argv, slices.Index(argv, "-cp"), "--add-opens=java.base/java.lang=ALL-UNNAMED",
		"-Dlog4j2.configurationFile="+filepath.Join(root, "jvm", "log4j2-tools.yaml"))
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.SysProcAttr, cmd.Stderr = dieWithParent(), log
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	answers := bufio.NewScanner(stdout)
	answers.Buffer(nil, maxAnswer)
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		log.Close()
		if t.Failed() {
			keepLog(t, log.Name())
		}
	})
	return &Tools{t: t, stdin: stdin, answers: answers, cmd: cmd}
}

// Call runs the main method of a class. A call that takes longer than limit ends the JVM and the test.
func (k *Tools) Call(limit time.Duration, class, stdin string, args ...string) Answer {
	k.t.Helper()
	overdue := time.AfterFunc(limit, func() { k.cmd.Process.Kill() })
	defer overdue.Stop()
	words := append([]string{class, stdin}, args...)
	for i, w := range words {
		words[i] = "." + base64.StdEncoding.EncodeToString([]byte(w))
	}
	if _, err := fmt.Fprintln(k.stdin, strings.Join(words, " ")); err != nil {
		k.t.Fatalf("%s %v: %v", class, args, err)
	}
	if !k.answers.Scan() {
		k.t.Fatalf("%s %v: no answer within %v: %v", class, args, limit, k.answers.Err())
	}
	fields := strings.Fields(k.answers.Text())
	for i, f := range fields {
		text, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(f, "."))
		if err != nil {
			k.t.Fatalf("%s %v: answer %q: %v", class, args, k.answers.Text(), err)
		}
		fields[i] = string(text)
	}
	if len(fields) != 3 {
		k.t.Fatalf("%s %v: answer %q", class, args, k.answers.Text())
	}
	status, err := strconv.Atoi(fields[0])
	if err != nil {
		k.t.Fatalf("%s %v: status %q", class, args, fields[0])
	}
	return Answer{Status: status, Stdout: fields[1], Stderr: fields[2]}
}
