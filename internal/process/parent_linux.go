package process

import (
	"os/exec"
	"syscall"
)

// detach gives cmd a process group of its own, so that Ctrl-C in a terminal reaches the parent alone, and the kernel does not
// continue the paused members of a group whose last parent outside of it ends, such as the shell that began the tests. The
// kernel kills cmd with a parent that ends without stopping it.
func detach(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}
