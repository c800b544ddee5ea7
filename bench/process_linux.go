package main

import "syscall"

// attributes are those of the processes that the bench starts: they end with
// it, however that comes.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
