// Package etcdtest runs a real etcd in a process of its own, on loopback, for tests that take it away.
package etcdtest

import (
	"path/filepath"
	"testing"

	"github.com/tidemill/tidemill/internal/process"
	"github.com/tidemill/tidemill/internal/proctest"
)

// A Server is a running etcd of one member, whose data its Stop, Restart and Pause keep.
type Server struct {
	*proctest.Server
	Address string // host:port for clients
}

// Start builds etcd if this machine has not yet, and starts it. The test's cleanup stops it.
func Start(t testing.TB) *Server {
	t.Helper()
	binary := proctest.Build(t, process.Etcd)
	client, peer := proctest.FreeAddress(t), "http://"+proctest.FreeAddress(t)
	s := &Server{Address: client}
	s.Server = proctest.Start(t, process.Command{
		Name: "etcd",
		Argv: []string{
			binary, "--name", "test", "--data-dir", filepath.Join(t.TempDir(), "etcd"),
			"--listen-client-urls", "http://" + client, "--advertise-client-urls", "http://" + client,
			"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "test=" + peer,
		},
		Health: "http://" + client + "/health",
	})
	return s
}

// URL is what a broker's --cluster takes.
func (s *Server) URL() string { return "etcd://" + s.Address + "/test" }
