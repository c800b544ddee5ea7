//go:build !linux

package main

import "syscall"

// attributes are those of the processes that the bench starts.
func attributes() *syscall.SysProcAttr { return nil }
