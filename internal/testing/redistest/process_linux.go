package redistest

import "syscall"

// attributes returns the attributes of the server's processes: they are killed when
// this process ends, even if it is killed.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
