package pgtest

import (
	"os/exec"
	"runtime"
	"syscall"
)

// attributes are those of the server's processes: another user when this one
// is root, and an end with this one, however that comes.
func (s *Server) attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: s.owner, Setpgid: true, Pdeathsig: syscall.SIGQUIT}
}

// superviseProcess starts a process and waits for its end. The thread that has
// started it must live as long: Pdeathsig is sent when that one ends.
func superviseProcess(cmd *exec.Cmd, started chan<- error, ended chan<- struct{}) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	supervise(cmd, started, ended)
}
