package harness

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tidemill/tidemill/internal/process"
	"github.com/tidemill/tidemill/internal/proctest"
)

// An Etcd is an etcd of one or several members.
type Etcd struct {
	Members []*EtcdMember
}

// An EtcdMember is one process, which can be ended and started with its data.
type EtcdMember struct {
	t       testing.TB
	Address string // host:port for clients
	argv    []string
	*Process
}

func startEtcd(t testing.TB, n int) *Etcd {
	t.Helper()
	binary := proctest.Build(t, process.Etcd)
	type at struct{ name, client, peer string }
	var members []at
	var initial []string
	for i := range n {
		m := at{fmt.Sprintf("m%d", i+1), "http://" + proctest.FreeAddress(t), "http://" + proctest.FreeAddress(t)}
		members, initial = append(members, m), append(initial, m.name+"="+m.peer)
	}
	e := &Etcd{}
	for _, m := range members {
		e.Members = append(e.Members, &EtcdMember{t: t, Address: strings.TrimPrefix(m.client, "http://"), argv: []string{
			binary, "--name", m.name, "--data-dir", filepath.Join(t.TempDir(), m.name), "--log-level", "warn",
			"--listen-client-urls", m.client, "--advertise-client-urls", m.client,
			"--listen-peer-urls", m.peer, "--initial-advertise-peer-urls", m.peer, "--initial-cluster", strings.Join(initial, ","),
		}})
	}
	e.Start()
	return e
}

// Start starts the members that do not run, and waits until all are well.
func (e *Etcd) Start() {
	for _, m := range e.Members {
		if m.Process == nil || m.ended() {
			m.Process = Start(m.t, "etcd", m.argv...)
		}
	}
	for _, m := range e.Members {
		m.t.Helper()
		Eventually(m.t, readyLimit, "etcd is ready", m.healthy)
	}
}

// Endpoints are the addresses of all members.
func (e *Etcd) Endpoints() []string {
	var out []string
	for _, m := range e.Members {
		out = append(out, m.Address)
	}
	return out
}

func (m *EtcdMember) ended() bool {
	select {
	case <-m.Exited():
		return true
	default:
		return false
	}
}

// healthy asks whether the member has a leader and agrees on something.
func (m *EtcdMember) healthy() error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+m.Address+"/health", nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("etcd's health is %s", resp.Status)
	}
	return nil
}
