//go:build !linux

package process

import (
	"os/exec"
	"syscall"
)

// detach gives cmd a process group of its own, so that Ctrl-C in a terminal reaches the parent alone. Here the kernel has no way to
// end cmd with a parent that crashes: its server is left to a person.
func detach(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }
