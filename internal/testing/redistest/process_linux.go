package redistest

import "syscall"

// attributes are those of the server's processes: they end with this one,
// however that comes.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
