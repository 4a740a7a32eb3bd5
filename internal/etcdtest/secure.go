package etcdtest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/tidemill/tidemill/internal/process"
	"github.com/tidemill/tidemill/internal/proctest"
)

// A Secure server speaks TLS with clients that have a certificate, and wants a user and a password.
type Secure struct {
	*Server
	// CA, Cert and Key are PEM files: of the CA that signed both sides, and of a client.
	CA, Cert, Key string
	// User may read and write below Prefix, and nothing else.
	User, Password, Prefix string
	// Stranger has the same password and no rights.
	Stranger string
}

// StartSecure starts an etcd with TLS and authentication. The test's cleanup stops it.
func StartSecure(t testing.TB) *Secure {
	t.Helper()
	binary, dir := proctest.Build(t, process.Etcd), t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	ca := newAuthority(t, file("ca.pem"))
	ca.issue(t, "127.0.0.1", file("server.pem"), file("server-key.pem"))
	ca.issue(t, "nobody", file("client.pem"), file("client-key.pem"))
	address, metrics, peer := proctest.FreeAddress(t), "http://"+proctest.FreeAddress(t), "http://"+proctest.FreeAddress(t)
	s := &Secure{
		Server: &Server{Address: address}, CA: file("ca.pem"), Cert: file("client.pem"), Key: file("client-key.pem"),
		User: "tidemill", Stranger: "stranger", Password: "a password", Prefix: "/tidemill/test/",
	}
	s.Server.Server = proctest.Start(t, process.Command{
		Name: "etcd",
		Argv: []string{
			binary, "--name", "test", "--data-dir", file("etcd"),
			"--listen-client-urls", "https://" + address, "--advertise-client-urls", "https://" + address,
			"--cert-file", file("server.pem"), "--key-file", file("server-key.pem"), "--client-cert-auth", "--trusted-ca-file", s.CA,
			"--listen-metrics-urls", metrics,
			"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "test=" + peer,
		},
		Health: metrics + "/health",
	})
	s.enableAuth(t)
	return s
}

// enableAuth makes the users, and root beside them.
func (s *Secure) enableAuth(t testing.TB) {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(s.Cert, s.Key)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	text, err := os.ReadFile(s.CA)
	if err != nil {
		t.Fatal(err)
	}
	pool.AppendCertsFromPEM(text)
	client, err := clientv3.New(clientv3.Config{
		Endpoints: []string{s.Address}, TLS: &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{pair}}, Logger: zap.NewNop(),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }() // what it did is known by then
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	step := func(_ any, err error) {
		if err != nil {
			t.Fatalf("enable authentication: %v", err)
		}
	}
	for _, user := range []string{"root", s.User, s.Stranger} {
		step(client.UserAdd(ctx, user, s.Password))
	}
	step(client.UserGrantRole(ctx, "root", "root"))
	step(client.RoleAdd(ctx, "brokers"))
	step(client.RoleGrantPermission(ctx, "brokers", s.Prefix, clientv3.GetPrefixRangeEnd(s.Prefix), clientv3.PermissionType(clientv3.PermReadWrite)))
	step(client.UserGrantRole(ctx, s.User, "brokers"))
	step(client.AuthEnable(ctx))
}

// An authority signs certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t testing.TB, file string) authority {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	a := authority{template, newKey(t)}
	a.sign(t, template, a.key, file)
	return a
}

// issue makes a certificate of 127.0.0.1 for both sides of a connection.
func (a authority) issue(t testing.TB, name, certFile, keyFile string) {
	t.Helper()
	key := newKey(t)
	a.sign(t, &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, key, certFile)
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	writePEM(t, keyFile, "EC PRIVATE KEY", der)
}

func (a authority) sign(t testing.TB, template *x509.Certificate, key *ecdsa.PrivateKey, file string) {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	writePEM(t, file, "CERTIFICATE", der)
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func writePEM(t testing.TB, file, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}
