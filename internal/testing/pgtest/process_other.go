//go:build unix && !linux

package pgtest

import (
	"os/exec"
	"syscall"
)

// attributes returns the attributes of the server's processes.
func (s *Server) attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: s.owner, Setpgid: true}
}

// superviseProcess is supervise.
func superviseProcess(cmd *exec.Cmd, started chan<- error, ended chan<- struct{}) {
	supervise(cmd, started, ended)
}
