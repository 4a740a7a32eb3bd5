// Package miniotest runs a real S3 service, MinIO, on loopback for tests.
//
// Invariants: the binary is built once per machine from the version that internal/tools pins, whoever asks first; each
// Server has its own folder and port and ends with its test.
package miniotest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A Server is a running MinIO with one empty bucket. Its methods fail the test rather than return errors, and must be
// called from one goroutine at a time.
type Server struct {
	Endpoint  string // http://127.0.0.1:<port>
	AccessKey string
	SecretKey string
	Bucket    string

	t       testing.TB
	binary  string
	address string
	data    string
	process *process // nil while stopped
}

// A process is one run of the binary. exited is closed once err and output may be read.
type process struct {
	cmd    *exec.Cmd
	exited chan struct{}
	err    error
	output lockedBuffer
}

// readyTimeout is generous: starting takes under a second alone, but the machine may be compiling.
const readyTimeout = 60 * time.Second

// Start builds MinIO if this machine has not yet, and starts it. The test's cleanup stops it.
func Start(t testing.TB) *Server {
	t.Helper()
	if testing.Short() {
		t.Skip("needs a built MinIO: skipped with -short")
	}
	binary, err := build()
	if err != nil {
		t.Fatalf("build minio: %v", err)
	}
	address, err := freeAddress()
	if err != nil {
		t.Fatalf("find a free port: %v", err)
	}
	s := &Server{
		Endpoint: "http://" + address, AccessKey: "tidemill", SecretKey: "tidemill-secret", Bucket: "tidemill-test",
		t: t, binary: binary, address: address, data: t.TempDir(),
	}
	// A folder of the data folder is a bucket.
	if err := os.Mkdir(filepath.Join(s.data, s.Bucket), 0o777); err != nil {
		t.Fatalf("make bucket: %v", err)
	}
	t.Cleanup(s.Stop)
	s.start()
	return s
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

func (s *Server) start() {
	s.t.Helper()
	p := &process{exited: make(chan struct{})}
	p.cmd = exec.Command(s.binary, "server", "--quiet", "--address", s.address, "--console-address", "127.0.0.1:0", s.data)
	p.cmd.Env = append(os.Environ(), "MINIO_ROOT_USER="+s.AccessKey, "MINIO_ROOT_PASSWORD="+s.SecretKey,
		"MINIO_BROWSER=off", "MINIO_UPDATE=off", "MINIO_CALLHOME_ENABLE=off", "MINIO_CI_CD=1", "HOME="+s.data,
		"MINIO_CONFIG_DIR="+filepath.Join(s.data, ".config"))
	p.cmd.Stdout, p.cmd.Stderr = &p.output, &p.output
	endWithParent(p.cmd)
	if err := p.cmd.Start(); err != nil {
		s.t.Fatalf("start minio: %v", err)
	}
	go func() { // ends with the process, which Stop waits for
		p.err = p.cmd.Wait()
		close(p.exited)
	}()
	s.process = p
	if err := s.ready(); err != nil {
		s.Stop()
		s.t.Fatalf("start minio: %v\n%s", err, p.output.String())
	}
}

// ready waits until the server answers.
func (s *Server) ready() error {
	ctx, cancel := context.WithTimeout(context.Background(), readyTimeout)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.Endpoint+"/minio/health/live", nil)
		if err != nil {
			return err
		}
		response, err := http.DefaultClient.Do(request)
		if err == nil {
			_ = response.Body.Close() // nothing of it is wanted
			if response.StatusCode == http.StatusOK {
				return nil
			}
			err = errors.New(response.Status)
		}
		select {
		case <-tick.C:
		case <-s.process.exited:
			return fmt.Errorf("it ended: %w", s.process.err)
		case <-ctx.Done():
			return fmt.Errorf("not ready within %v: %w", readyTimeout, err)
		}
	}
}

// Stop kills the server; what it acknowledged stays in its folder. Stopping a stopped one does nothing.
func (s *Server) Stop() {
	if s.process == nil {
		return
	}
	if err := s.process.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		s.t.Errorf("stop minio: %v", err)
	}
	<-s.process.exited
	s.process = nil
}

// Restart stops the server and starts it with the same address and data.
func (s *Server) Restart() {
	s.t.Helper()
	s.Stop()
	s.start()
}

// Pause freezes the server: connections stay, requests hang.
func (s *Server) Pause() {
	s.t.Helper()
	s.signal(syscall.SIGSTOP)
}

// Resume ends a Pause.
func (s *Server) Resume() {
	s.t.Helper()
	s.signal(syscall.SIGCONT)
}

func (s *Server) signal(signal syscall.Signal) {
	s.t.Helper()
	if s.process == nil {
		s.t.Fatalf("%v: minio is stopped", signal)
	}
	if err := s.process.cmd.Process.Signal(signal); err != nil {
		s.t.Fatalf("%v to minio: %v", signal, err)
	}
}

// A lockedBuffer keeps the last outputMax bytes of a process's output.
type lockedBuffer struct {
	mu   sync.Mutex
	tail []byte
}

const outputMax = 16 << 10

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tail = append(b.tail, p...)
	b.tail = b.tail[max(0, len(b.tail)-outputMax):]
	return len(p), nil
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return string(b.tail)
}
