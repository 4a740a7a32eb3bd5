//go:build !linux

package harness

import "syscall"

// dieWithParent is a courtesy that only Linux offers.
func dieWithParent() *syscall.SysProcAttr { return nil }
