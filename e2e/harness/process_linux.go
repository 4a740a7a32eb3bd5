package harness

import "syscall"

// dieWithParent makes the kernel end a child whose test binary was itself killed and could not clean up.
func dieWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
