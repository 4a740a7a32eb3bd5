package proctest

import (
	"os/exec"
	"syscall"
)

// endWithParent makes the kernel kill cmd with a test process that ends without its cleanups.
func endWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
