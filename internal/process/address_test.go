package process

import (
	"net"
	"strconv"
	"testing"
)

// TestFreeAddress: addresses differ, nobody listens on them, and they are below those for connections.
func TestFreeAddress(t *testing.T) {
	seen := map[string]bool{}
	for range 100 {
		address, err := FreeAddress()
		if err != nil {
			t.Fatal(err)
		}
		_, port, err := net.SplitHostPort(address)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := strconv.Atoi(port); err != nil || n < firstPort || n >= firstPort+ports || seen[address] {
			t.Errorf("got %s: %v", address, err)
		}
		seen[address] = true
	}
	taken, err := FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", taken)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	nextPort.Add(^uint32(0)) // what was found last is looked at again
	if address, err := FreeAddress(); err != nil || address == taken {
		t.Errorf("got %s, on which somebody listens: %v", address, err)
	}
}
