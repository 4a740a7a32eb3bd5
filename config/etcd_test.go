package config

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"
)

// certificate returns a self-signed certificate and its key, as PEM.
func certificate(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	signed, err := x509.CreateCertificate(rand.Reader, &template, &template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: signed})), string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}))
}

const external = "--cluster=etcd://h:1/x"

func TestEtcdAccess(t *testing.T) {
	cert, key := certificate(t)
	files := map[string]string{"/w/ca.pem": cert, "/w/cert.pem": cert, "/w/key.pem": key, "/run/password": "hunter2\n"}
	tests := []struct {
		name                string
		env                 []string
		args                []string
		tls, ca, clientCert bool
		user, password      string
	}{
		{name: "plaintext"},
		{name: "CA", args: []string{"--etcd-ca-file", "ca.pem"}, tls: true, ca: true},
		{name: "certificate", args: []string{"--etcd-cert-file", "cert.pem", "--etcd-key-file", "/w/key.pem"}, tls: true, clientCert: true},
		{name: "both", args: []string{"--etcd-ca-file", "ca.pem", "--etcd-cert-file", "cert.pem", "--etcd-key-file", "key.pem"}, tls: true, ca: true, clientCert: true},
		{name: "password", env: []string{"BROKER_ETCD_PASSWORD=hunter2"}, args: []string{"--etcd-username", "u"}, user: "u", password: "hunter2"},
		{name: "password file", args: []string{"--etcd-username", "u", "--etcd-password-file", "/run/password"}, user: "u", password: "hunter2"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, err := load(files, tt.env, append(tt.args, external)...)
			if err != nil {
				t.Fatal(err)
			}
			e := c.Etcd
			if (e.TLS != nil) != tt.tls || e.Username != tt.user || e.Password != tt.password {
				t.Errorf("got %+v", e)
			}
			if e.TLS != nil && ((e.TLS.RootCAs != nil) != tt.ca || (e.TLS.GetClientCertificate != nil) != tt.clientCert) {
				t.Errorf("got %+v", e.TLS)
			}
			if shown := fmt.Sprint(c.Explain()); strings.Contains(shown, "hunter2") {
				t.Errorf("shown: %s", shown)
			}
		})
	}
}

// TestRenewedCertificate: a certificate that is replaced while the broker runs is used for the next connection.
func TestRenewedCertificate(t *testing.T) {
	files := map[string]string{}
	files["/w/cert.pem"], files["/w/key.pem"] = certificate(t)
	c, err := load(files, nil, external, "--etcd-cert-file", "cert.pem", "--etcd-key-file", "key.pem")
	if err != nil {
		t.Fatal(err)
	}
	old, err := c.Etcd.TLS.GetClientCertificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	files["/w/cert.pem"], files["/w/key.pem"] = certificate(t)
	renewed, err := c.Etcd.TLS.GetClientCertificate(nil)
	if err != nil || string(old.Certificate[0]) == string(renewed.Certificate[0]) {
		t.Errorf("the old certificate is used still (%v)", err)
	}
}

func TestEtcdProblems(t *testing.T) {
	cert, key := certificate(t)
	files := map[string]string{"/w/cert.pem": cert, "/w/key.pem": key, "/w/empty": "\n"}
	tests := []struct {
		name string
		args []string
		want string
	}{
		{"embedded", []string{"--etcd-ca-file", "cert.pem", "--cluster", ""}, "etcd-ca-file (set by flag --etcd-ca-file): etcd runs inside this process"},
		{"no CA file", []string{"--etcd-ca-file", "x"}, "etcd-ca-file (set by flag --etcd-ca-file): open /w/x"},
		{"no certificate in it", []string{"--etcd-ca-file", "key.pem"}, "etcd-ca-file (set by flag --etcd-ca-file): key.pem holds no certificate"},
		{"no key", []string{"--etcd-cert-file", "cert.pem"}, "etcd-cert-file (set by flag --etcd-cert-file): the certificate's key is missing"},
		{"no certificate", []string{"--etcd-key-file", "key.pem"}, "etcd-key-file (set by flag --etcd-key-file): the key's certificate is missing"},
		{"key as certificate", []string{"--etcd-cert-file", "key.pem", "--etcd-key-file", "key.pem"}, "etcd-cert-file (set by flag --etcd-cert-file): tls: "},
		{"user alone", []string{"--etcd-username", "u"}, "etcd-username (set by flag --etcd-username): the password is missing"},
		{"password alone", []string{"--etcd-password", "hunter2"}, "etcd-password (set by flag --etcd-password): the user's name is missing"},
		{"file alone", []string{"--etcd-password-file", "empty"}, "etcd-password-file (set by flag --etcd-password-file): the user's name is missing"},
		{"both", []string{"--etcd-username", "u", "--etcd-password", "hunter2", "--etcd-password-file", "empty"}, "etcd-password (set by flag --etcd-password): etcd-password-file is given too"},
		{"empty file", []string{"--etcd-username", "u", "--etcd-password-file", "empty"}, "etcd-password-file (set by flag --etcd-password-file): empty is empty"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			args := tt.args
			if tt.name != "embedded" {
				args = append(args, external)
			}
			_, err := load(files, nil, args...)
			if err == nil || !strings.HasPrefix(err.Error(), tt.want) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("\n got %v\nwant %s", err, tt.want)
			}
		})
	}
}
