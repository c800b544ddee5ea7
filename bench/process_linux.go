package main

import "syscall"

// attributes make the processes that the bench starts end with it, even if it
// crashes.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
