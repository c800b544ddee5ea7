//go:build unix && !linux

package redistest

import "syscall"

// attributes returns the attributes of the server's processes.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
