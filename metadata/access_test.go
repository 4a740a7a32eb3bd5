package metadata

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/internal/etcdtest"
)

// TestAccess: an etcd with TLS and authentication serves a user whose role is the cluster's prefix alone, and each reason
// that another is refused for can be told from the others.
func TestAccess(t *testing.T) {
	etcd := etcdtest.StartSecure(t)
	pair := must[tls.Certificate](t)(tls.LoadX509KeyPair(etcd.Cert, etcd.Key))
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(must[[]byte](t)(os.ReadFile(etcd.CA)))
	good := func() Config {
		return Config{
			Endpoints: []string{etcd.Address}, Name: "test", Username: etcd.User, Password: etcd.Password,
			TLS: &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{pair}},
		}
	}
	t.Run("granted", func(t *testing.T) { useAll(t, good()) })
	for _, tt := range []struct {
		name   string
		change func(*Config)
		want   error
		text   string
	}{
		{"wrong password", func(c *Config) { c.Password = "x" }, ErrDenied, "authentication failed"},
		{"no user", func(c *Config) { c.Username, c.Password = "", "" }, ErrDenied, "permission denied"},
		{"no rights", func(c *Config) { c.Username = etcd.Stranger }, ErrDenied, "permission denied"},
		{"another cluster's prefix", func(c *Config) { c.Name = "other" }, ErrDenied, "permission denied"},
		{"plaintext", func(c *Config) { c.TLS = nil }, ErrUnreachable, etcd.Address},
		{"unknown CA", func(c *Config) { c.TLS.RootCAs = x509.NewCertPool() }, ErrUnreachable, "certificate signed by unknown authority"},
		{"no certificate", func(c *Config) { c.TLS.Certificates = nil }, ErrUnreachable, etcd.Address},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel() // an etcd that cannot be reached is tried for 5 s
			c := good()
			tt.change(&c)
			s, err := Open(t.Context(), c)
			if err == nil {
				s.Close()
			}
			if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.text) || strings.Contains(err.Error(), etcd.Password) {
				t.Errorf("got %v, want %v with %q", err, tt.want, tt.text)
			}
		})
	}
}

// useAll writes, leases and watches.
func useAll(t *testing.T, c Config) {
	s := must[*Store](t)(Open(t.Context(), c))
	defer s.Close()
	must[Cluster](t)(s.EnsureCluster(t.Context()))
	life := newLife(t, s)
	reg := must[*Registration](t)(s.Register(t.Context(), life, BrokerInfo{Host: "h", Port: 1}))
	create(t, s, "a", 2, life)
	if img := s.Image(); img.Topics["a"] == nil || img.Brokers[1].Life != life {
		t.Errorf("the watch brought %+v", img)
	}
	if err := reg.Unregister(t.Context()); err != nil {
		t.Error(err)
	}
}
