package broker

import (
	"net/netip"
	"time"
)

// serverLimits are the settings of connections, of the newest view.
type serverLimits struct{ b *Broker }

// MaxConnections implements server.Limits.
func (l serverLimits) MaxConnections() int { return l.b.view().settings.MaxConnections }

// MaxConnectionsPerIP implements server.Limits.
func (l serverLimits) MaxConnectionsPerIP(ip netip.Addr) int {
	s := l.b.view().settings
	if n, ok := s.ConnectionsPerIPByAddr[ip.String()]; ok {
		return n
	}
	return s.MaxConnectionsPerIP
}

// IdleTimeout implements server.Limits.
func (l serverLimits) IdleTimeout() time.Duration {
	return max(l.b.view().settings.ConnectionsMaxIdle, 0)
}

// MaxRequestBytes implements server.Limits.
func (l serverLimits) MaxRequestBytes() int { return l.b.view().settings.RequestMaxBytes }
