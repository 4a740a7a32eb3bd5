//go:build !unix

package server

import "syscall"

// socketFailed reports whether the kernel has given the connection up. It cannot be asked here: the answer finds out.
func socketFailed(syscall.Conn) bool { return false }
