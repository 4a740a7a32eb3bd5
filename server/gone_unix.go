//go:build unix

package server

import "syscall"

// socketFailed reports whether the kernel has given the connection up.
func socketFailed(sc syscall.Conn) bool {
	raw, err := sc.SyscallConn()
	if err != nil {
		return true
	}
	failed := 0
	if raw.Control(func(fd uintptr) { failed, err = syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_ERROR) }) != nil {
		return true
	}
	return err == nil && failed != 0
}
