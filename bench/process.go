package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// ticks is how many clock ticks of /proc/PID/stat make a second: USER_HZ.
const ticks = 100

// process is a process of the bench's own.
type process struct {
	*exec.Cmd

	cancel context.CancelFunc
}

// start starts a program, which ends with ctx at the latest.
func start(ctx context.Context, cmd func(context.Context) *exec.Cmd) (*process, error) {
	ctx, cancel := context.WithCancel(ctx)
	p := &process{cmd(ctx), cancel}
	p.Cancel = func() error { return p.Process.Signal(syscall.SIGTERM) }
	p.WaitDelay = 10 * time.Second
	p.SysProcAttr = attributes()
	if err := p.Start(); err != nil {
		cancel()
		return nil, err
	}
	return p, nil
}

// stop ends the process, and waits for that.
func (p *process) stop() {
	p.cancel()
	_ = p.Wait() // that it ended is what counts
}

// cpu returns the time that the process has used so far, user and system.
func (p *process) cpu() (time.Duration, error) {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(p.Process.Pid) + "/stat")
	if err != nil {
		return 0, fmt.Errorf("reading the CPU time of a process: %w", err)
	}
	return parseStat(stat)
}

// parseStat reads the fields utime and stime of /proc/PID/stat, proc(5).
func parseStat(stat []byte) (time.Duration, error) {
	// The second field is the program's name in parentheses, of any characters.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 13 {
		return 0, errors.New("/proc/PID/stat is too short")
	}
	var sum int
	for _, field := range fields[11:13] {
		n, err := strconv.Atoi(field)
		if err != nil {
			return 0, fmt.Errorf("/proc/PID/stat: %w", err)
		}
		sum += n
	}
	return time.Duration(sum) * time.Second / ticks, nil
}
