//go:build unix && !linux

package redistest

import "syscall"

// attributes are those of the server's processes.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
