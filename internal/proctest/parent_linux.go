package proctest

import (
	"os/exec"
	"syscall"
)

// endWithParent makes the kernel kill cmd with a test process that ends without its cleanups. cmd gets a process group of its
// own: the kernel continues the paused members of a group whose last parent outside of it ends, such as the shell that began
// the tests.
func endWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}
