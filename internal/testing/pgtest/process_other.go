//go:build unix && !linux

package pgtest

import (
	"os/exec"
	"syscall"
)

// attributes are those of the server's processes.
func (s *Server) attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: s.owner, Setpgid: true}
}

// superviseProcess starts a process and waits for its end.
func superviseProcess(cmd *exec.Cmd, started chan<- error, ended chan<- struct{}) {
	supervise(cmd, started, ended)
}
