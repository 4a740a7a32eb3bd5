package process

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync/atomic"
	"syscall"
)

// Ports for servers lie below those that Linux and macOS give to who asks for any, unless they are told otherwise: 32768 and up. A port
// of that kind may be given to a client's connection between the moment it was found free and the moment its server listens on it, or
// while a server that is to come back on it is away.
const (
	firstPort = 10000
	ports     = 32768 - firstPort
)

// nextPort counts from any place, so that two processes that look for ports at the same time hardly ever find the same.
var nextPort atomic.Uint32

func init() { nextPort.Store(rand.Uint32N(ports)) }

// FreeAddress returns a loopback address that nobody listens on. This process gets no address twice until it had them all.
func FreeAddress() (string, error) {
	for range ports {
		address := fmt.Sprintf("127.0.0.1:%d", firstPort+nextPort.Add(1)%ports)
		l, err := net.Listen("tcp", address)
		if errors.Is(err, syscall.EADDRINUSE) {
			continue
		}
		if err != nil {
			return "", fmt.Errorf("find a free port: %w", err)
		}
		return address, l.Close()
	}
	return "", fmt.Errorf("find a free port: all from %d to %d are in use", firstPort, firstPort+ports-1)
}
