package pgtest

import (
	"os/exec"
	"runtime"
	"syscall"
)

// attributes returns the attributes of the server's processes: another user if this
// one is root, and SIGQUIT when this process ends, even if it is killed.
func (s *Server) attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: s.owner, Setpgid: true, Pdeathsig: syscall.SIGQUIT}
}

// superviseProcess is supervise on a thread of its own: Pdeathsig is sent when the
// thread that started the process ends.
func superviseProcess(cmd *exec.Cmd, started chan<- error, ended chan<- struct{}) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	supervise(cmd, started, ended)
}
