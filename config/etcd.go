package config

import (
	"crypto/tls"
	"crypto/x509"
	"strings"
)

// Etcd says how the cluster's etcd is spoken to.
type Etcd struct {
	// TLS is nil for plaintext.
	TLS *tls.Config
	// Username and Password are empty without authentication.
	Username, Password string
}

// etcdKeys are the settings that takeEtcd reads.
var etcdKeys = []string{"etcd-ca-file", "etcd-cert-file", "etcd-key-file", "etcd-username", "etcd-password", "etcd-password-file"}

// takeEtcd reads the certificates and the password for etcd. TLS is used when a CA or a certificate is given, and then only
// TLS: nothing falls back to plaintext.
func (s *sources) takeEtcd(c *Config, in Input) {
	_, external := s.set("cluster")
	for _, key := range etcdKeys {
		if g, ok := s.set(key); ok && !external {
			s.problem(key, g.source, "set --cluster etcd://host1:2379,host2:2379/name, or remove this setting", "etcd runs inside this process, which this setting does not concern")
		}
	}
	if external {
		s.takeEtcdTLS(c, in)
		s.takeEtcdUser(c, in)
	}
}

// set returns the value of a setting that is not empty.
func (s *sources) set(key string) (given, bool) {
	g, ok := s.first(key)
	return g, ok && g.text != ""
}

func (s *sources) takeEtcdTLS(c *Config, in Input) {
	ca, hasCA := s.set("etcd-ca-file")
	cert, hasCert := s.set("etcd-cert-file")
	key, hasKey := s.set("etcd-key-file")
	switch {
	case !hasCA && !hasCert && !hasKey:
		return
	case hasCert && !hasKey:
		s.problem("etcd-cert-file", cert.source, "set --etcd-key-file to the PEM file of its key", "the certificate's key is missing")
		return
	case hasKey && !hasCert:
		s.problem("etcd-key-file", key.source, "set --etcd-cert-file to the PEM file of the certificate", "the key's certificate is missing")
		return
	}
	t := &tls.Config{MinVersion: tls.VersionTLS12}
	if hasCA {
		text, err := in.ReadFile(absolute(in.WorkDir, ca.text))
		if err != nil {
			s.problem("etcd-ca-file", ca.source, "name a readable PEM file", "%v", err)
		}
		t.RootCAs = x509.NewCertPool()
		if err == nil && !t.RootCAs.AppendCertsFromPEM(text) {
			s.problem("etcd-ca-file", ca.source, "name the PEM file of the CA that signed etcd's certificate", "%s holds no certificate", ca.text)
		}
	}
	if hasCert {
		load := pairLoader(in, absolute(in.WorkDir, cert.text), absolute(in.WorkDir, key.text))
		if _, err := load(nil); err != nil {
			s.problem("etcd-cert-file", cert.source, "name the PEM files of a certificate and of its key", "%v", err)
		}
		t.GetClientCertificate = load
	}
	c.Etcd.TLS = t
}

// pairLoader reads the certificate for each connection: those that are renewed while the broker runs are short-lived.
func pairLoader(in Input, cert, key string) func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	return func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		certText, err := in.ReadFile(cert)
		if err != nil {
			return nil, err
		}
		keyText, err := in.ReadFile(key)
		if err != nil {
			return nil, err
		}
		pair, err := tls.X509KeyPair(certText, keyText)
		return &pair, err
	}
}

func (s *sources) takeEtcdUser(c *Config, in Input) {
	user, hasUser := s.set("etcd-username")
	password, hasPassword := s.set("etcd-password")
	file, hasFile := s.set("etcd-password-file")
	switch {
	case hasPassword && hasFile:
		s.problem("etcd-password", password.source, "keep one of the two", "etcd-password-file is given too (%s)", file.source)
		return
	case hasUser && !hasPassword && !hasFile:
		s.problem("etcd-username", user.source, "set --etcd-password-file, or BROKER_ETCD_PASSWORD", "the password is missing")
		return
	case !hasUser && hasPassword:
		s.problem("etcd-password", password.source, "set --etcd-username", "the user's name is missing")
		return
	case !hasUser && hasFile:
		s.problem("etcd-password-file", file.source, "set --etcd-username", "the user's name is missing")
		return
	}
	if hasFile {
		text, err := in.ReadFile(absolute(in.WorkDir, file.text))
		password.text = strings.TrimRight(string(text), "\r\n")
		switch {
		case err != nil:
			s.problem("etcd-password-file", file.source, "name a readable file that holds the password alone", "%v", err)
		case password.text == "":
			s.problem("etcd-password-file", file.source, "write the password into it", "%s is empty", file.text)
		}
	}
	c.Etcd.Username, c.Etcd.Password = user.text, password.text
}
